"""The daemon's numbers, for Prometheus and for the `stats` method."""

from __future__ import annotations

import resource
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from pg_steadytext.daemon.lanes import SlotGate
from pg_steadytext.engines.protocol import Completion

NAMESPACE = "steadytext"
LATENCIES = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300)
BATCH_SIZES = (1, 2, 4, 8, 16, 32, 64, 128)


def resident_memory() -> int:
    """Return the bytes of memory that this process holds; where the system does not say, the most it ever held."""
    try:
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    except OSError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return pages * resource.getpagesize()


class Metrics:
    """Every metric of a daemon, in a registry of its own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.requests = self._counter("requests", "Requests answered, by method and code", "method", "code")
        self.seconds = self._histogram(
            "request_seconds", "Time from a request's arrival to its answer", LATENCIES, "method"
        )
        self.in_flight = self._gauge("requests_in_flight", "Requests being worked on")
        self.malformed = self._counter("malformed_messages", "Messages that were no request")
        self.vanished = self._counter("vanished_peers", "Connections lost with requests in flight")
        self.joined = self._counter("single_flight_joined", "Requests answered by an identical one in flight")
        self.batch_texts = self._histogram(
            "embedding_batch_texts", "Texts in one call of the embedding model", BATCH_SIZES
        )
        self.embedding_queue = self._gauge("embedding_queue_texts", "Texts waiting to be embedded")
        self.queue = self._gauge("generation_queue", "Generations waiting for a slot", "model", "lane")
        self.slots = self._gauge("generation_slots_busy", "Slots at work", "model")
        self.prompt_tokens = self._counter("prompt_tokens", "Tokens read", "model")
        self.completion_tokens = self._counter("completion_tokens", "Tokens written", "model")
        self.loads = self._counter("model_loads", "Models loaded", "model")
        self.load_seconds = self._gauge("model_load_seconds", "Time the model's last loading took", "model")
        self.stream_restarts = self._counter(
            "stream_restarts", "Streams computed again because their reader had fallen behind"
        )
        self.count_connections: Callable[[], int] = lambda: 0
        self._gauge("connections", "Clients that are connected").set_function(lambda: self.count_connections())
        self._gauge("resident_memory_bytes", "Memory that the daemon holds").set_function(resident_memory)

    def _counter(self, name: str, about: str, *labels: str) -> Counter:
        return Counter(name, about, labels, namespace=NAMESPACE, registry=self.registry)

    def _gauge(self, name: str, about: str, *labels: str) -> Gauge:
        return Gauge(name, about, labels, namespace=NAMESPACE, registry=self.registry)

    def _histogram(self, name: str, about: str, buckets: Sequence[float], *labels: str) -> Histogram:
        return Histogram(name, about, labels, namespace=NAMESPACE, registry=self.registry, buckets=buckets)

    def watch_gate(self, model: str, gate: SlotGate) -> None:
        """Read a gate's queues whenever the metrics are collected."""
        self.slots.labels(model).set_function(lambda: gate.holders)
        self.queue.labels(model, "interactive").set_function(lambda: gate.waiting("interactive"))
        self.queue.labels(model, "batch").set_function(lambda: gate.waiting("batch"))

    def tokens(self, model: str, completion: Completion) -> None:
        """Count a completion's tokens."""
        self.prompt_tokens.labels(model).inc(completion.prompt_tokens)
        self.completion_tokens.labels(model).inc(completion.completion_tokens)

    def loaded(self, model: str, seconds: float) -> None:
        """Count a model's loading."""
        self.loads.labels(model).inc()
        self.load_seconds.labels(model).set(seconds)

    def snapshot(self) -> dict[str, Any]:
        """Every number now, as {"name": value} or {"name": {"label,label": value}}; histograms by sum and count."""
        found: dict[str, Any] = {}
        for family in self.registry.collect():
            for sample in family.samples:
                if sample.name.endswith(("_bucket", "_created")):
                    continue
                if sample.labels:
                    found.setdefault(sample.name, {})[",".join(sample.labels.values())] = sample.value
                else:
                    found[sample.name] = sample.value
        return found
