"""The daemon beside the bare engines it runs, on the same work in the same run.

Text: the daemon's tokens per second with one client against a bare xllamacpp server with default settings, and with
eight clients against the best of several bare slot settings. Embeddings: texts per second against a bare onnxruntime
session at its best batch size, and the time of a single one.
"""

from __future__ import annotations

import os
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from queue import Empty, SimpleQueue

import numpy as np
from onnxruntime import InferenceSession  # type: ignore[attr-defined]  # exported lazily
from tokenizers import Tokenizer
from xllamacpp import xllamacpp

from report import Row, compare, emit, row_of_pairs

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from pg_steadytext.daemon.client import DaemonClient
from pg_steadytext.engines.llama import server_params
from pg_steadytext.settings import Settings
from tests.support.models import EMBEDDING, provide_models, texts, weights
from tests.support.runtime import RuntimeDaemon

TOKENS = 64
CLIENTS = 8
SLOT_SETTINGS = (1, 2, 4, 8)
BATCH_SIZES = (8, 16, 32, 64)
REPEATS = 3
PROMPTS = [f"Write a short story about {text}." for text in texts(8, (3, 8))]

Generate = Callable[[str], int]


def bare_server(models: Path, slots: int) -> xllamacpp.Server:
    """A server with xllamacpp's own settings and a number of slots."""
    params = xllamacpp.CommonParams()
    params.model.path = str(weights(models))
    params.n_ctx = 2048 * slots
    params.n_parallel = slots
    params.verbosity = -1
    params.hostnames = [str(Path(tempfile.mkdtemp()) / "bare.sock")]
    return xllamacpp.Server(params)


def steady_server(models: Path) -> xllamacpp.Server:
    """A bare server with the daemon's own settings."""
    params = server_params(weights(models), context=2048, threads=len(os.sched_getaffinity(0)))
    params.hostnames = [str(Path(tempfile.mkdtemp()) / "steady.sock")]
    return xllamacpp.Server(params)


def bare_generate(server: xllamacpp.Server) -> Generate:
    """Generate with a bare server; returns the number of tokens."""

    def generate(prompt: str) -> int:
        found: list[dict[str, dict[str, int]]] = []
        body = {
            "messages": [{"role": "user", "content": prompt}],
            "max_tokens": TOKENS,
            "temperature": 0,
            "cache_prompt": False,
        }
        server.handle_chat_completions(body, found.append)
        return found[0]["usage"]["completion_tokens"]

    return generate


def tokens_per_second(make: Callable[[], Generate], clients: int, prompts: list[str]) -> float:
    """Tokens per second when `clients` threads, each with what `make` gives it, work through the prompts."""
    waiting: SimpleQueue[str] = SimpleQueue()
    for prompt in prompts:
        waiting.put(prompt)
    counts: list[int] = []

    def work(generate: Generate) -> None:
        while True:
            try:
                counts.append(generate(waiting.get_nowait()))
            except Empty:
                return

    threads = [threading.Thread(target=work, args=(make(),)) for _ in range(clients)]
    began = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sum(counts) / (time.perf_counter() - began)


class BareSession:
    """A plain onnxruntime session with mean pooling, as one would write it in ten lines."""

    def __init__(self, folder: Path) -> None:
        self._session = InferenceSession(str(folder / "model.onnx"), providers=["CPUExecutionProvider"])
        self._tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self._tokenizer.enable_truncation(256)
        self._tokenizer.enable_padding()

    def embed(self, batch: list[str]) -> None:
        """Embed a batch."""
        encoded = self._tokenizer.encode_batch(batch)
        ids = np.array([item.ids for item in encoded], dtype=np.int64)
        mask = np.array([item.attention_mask for item in encoded], dtype=np.int64)
        feed = {"input_ids": ids, "attention_mask": mask, "token_type_ids": np.zeros_like(ids)}
        hidden = np.asarray(self._session.run(None, feed)[0])
        mean = (hidden * mask[..., None]).sum(1) / mask.sum(1)[:, None]
        mean /= np.linalg.norm(mean, axis=1, keepdims=True)

    def texts_per_second(self, found: list[str], size: int) -> float:
        """Texts per second in batches of a size, sorted by length."""
        ordered = sorted(found, key=len)
        began = time.perf_counter()
        for start in range(0, len(ordered), size):
            self.embed(ordered[start : start + size])
        return len(found) / (time.perf_counter() - began)


def generation_rows(daemon: RuntimeDaemon, models: Path) -> list[Row]:
    """One client and eight."""
    clients: list[DaemonClient] = []

    def ours() -> Generate:
        client = daemon.client()
        clients.append(client)
        return lambda prompt: client.generate(prompt, max_new_tokens=TOKENS).completion_tokens

    single = bare_server(models, 1)
    one = compare(
        "tokens/s, 1 client: daemon / bare xllamacpp",
        "tokens/s",
        lambda: tokens_per_second(ours, 1, PROMPTS[:3]),
        lambda: tokens_per_second(lambda: bare_generate(single), 1, PROMPTS[:3]),
        ">= 0.95",
        REPEATS,
    )
    steady = steady_server(models)
    same = compare(
        "tokens/s, 1 client: daemon / bare xllamacpp with flash attention off, as determinism needs it",
        "tokens/s",
        lambda: tokens_per_second(ours, 1, PROMPTS[:3]),
        lambda: tokens_per_second(lambda: bare_generate(steady), 1, PROMPTS[:3]),
        ">= 0.95",
        REPEATS,
    )
    rates = {}
    for slots in SLOT_SETTINGS:
        server = bare_server(models, slots)
        rates[slots] = tokens_per_second(lambda server=server: bare_generate(server), CLIENTS, PROMPTS)  # type: ignore[misc]
        del server
    best = max(rates, key=rates.__getitem__)
    server = bare_server(models, best)
    many = compare(
        f"tokens/s, {CLIENTS} clients: daemon / bare xllamacpp with its best slots ({best})",
        "tokens/s",
        lambda: tokens_per_second(ours, CLIENTS, PROMPTS),
        lambda: tokens_per_second(lambda: bare_generate(server), CLIENTS, PROMPTS),
        ">= 0.9",
        REPEATS,
    )
    for client in clients:
        client.close()
    return [one, same, many]


def embedding_rows(daemon: RuntimeDaemon, models: Path) -> list[Row]:
    """Many texts, and one."""
    bare = BareSession(models / EMBEDDING)
    found = texts(400, (3, 8, 20, 60))
    rates = {size: bare.texts_per_second(found[:200], size) for size in BATCH_SIZES}
    best = max(rates, key=rates.__getitem__)
    with daemon.client() as client:

        def ours() -> float:
            began = time.perf_counter()
            client.embed_batch(found)
            return len(found) / (time.perf_counter() - began)

        many = compare(
            f"texts/s: daemon / bare onnxruntime in its best batches ({best})",
            "texts/s",
            ours,
            lambda: bare.texts_per_second(found, best),
            ">= 0.9",
            REPEATS,
        )
        pairs = [
            (
                median_ms(lambda text: client.embed_batch([text]), run),
                median_ms(lambda text: bare.embed([text]), run),
            )
            for run in range(REPEATS)
        ]
    return [many, row_of_pairs("one text: daemon / bare onnxruntime", "ms", pairs, "<= 1.5")]


def median_ms(embed: Callable[[str], object], run: int) -> float:
    """The median time of one short text, in milliseconds."""
    times = []
    for number in range(100):
        began = time.perf_counter()
        embed(f"a short question, number {run} {number}")
        times.append(time.perf_counter() - began)
    return statistics.median(times) * 1000


def main() -> None:
    """Run and print."""
    models = provide_models(Settings.load().model_dir)
    daemon = RuntimeDaemon(Path(tempfile.mkdtemp()), models)
    try:
        with daemon.client() as client:
            client.generate("warm up", max_new_tokens=1)
            client.embed_batch(["warm up"])
        emit(*generation_rows(daemon, models), *embedding_rows(daemon, models))
    finally:
        daemon.stop()


if __name__ == "__main__":
    main()
