"""The daemon's numbers, for Prometheus and for the `stats` method."""

from __future__ import annotations

from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from pg_steadytext.daemon.lanes import SlotGate
from pg_steadytext.engines.protocol import Completion

LATENCIES = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300)
BATCH_SIZES = (1, 2, 4, 8, 16, 32, 64, 128)


class Metrics:
    """Every metric of a daemon, in a registry of its own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        within = {"registry": self.registry, "namespace": "steadytext"}
        self.requests = Counter("requests", "Requests answered, by method and code", ["method", "code"], **within)  # type: ignore[arg-type]
        self.seconds = Histogram(
            "request_seconds", "Time from a request's arrival to its answer", ["method"], buckets=LATENCIES, **within  # type: ignore[arg-type]
        )
        self.in_flight = Gauge("requests_in_flight", "Requests being worked on", **within)  # type: ignore[arg-type]
        self.malformed = Counter("malformed_messages", "Messages that were no request", **within)  # type: ignore[arg-type]
        self.vanished = Counter("vanished_peers", "Connections lost with requests in flight", **within)  # type: ignore[arg-type]
        self.joined = Counter("single_flight_joined", "Requests answered by an identical one in flight", **within)  # type: ignore[arg-type]
        self.batch_texts = Histogram(
            "embedding_batch_texts", "Texts in one call of the embedding model", buckets=BATCH_SIZES, **within  # type: ignore[arg-type]
        )
        self.embedding_queue = Gauge("embedding_queue_texts", "Texts waiting to be embedded", **within)  # type: ignore[arg-type]
        self.queue = Gauge("generation_queue", "Generations waiting for a slot", ["model", "lane"], **within)  # type: ignore[arg-type]
        self.slots = Gauge("generation_slots_busy", "Slots at work", ["model"], **within)  # type: ignore[arg-type]
        self.prompt_tokens = Counter("prompt_tokens", "Tokens read", ["model"], **within)  # type: ignore[arg-type]
        self.completion_tokens = Counter("completion_tokens", "Tokens written", ["model"], **within)  # type: ignore[arg-type]
        self.loads = Counter("model_loads", "Models loaded", ["model"], **within)  # type: ignore[arg-type]
        self.load_seconds = Gauge("model_load_seconds", "Time the model's last loading took", ["model"], **within)  # type: ignore[arg-type]
        self.stream_restarts = Counter(
            "stream_restarts", "Streams computed again because their reader had fallen behind", **within  # type: ignore[arg-type]
        )

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
