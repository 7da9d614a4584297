"""A steady load on the queue: a worker that does nothing, and a feeder that keeps requests waiting for it."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import psycopg

from contenders import HERE

PUSH = 5_000
WAITING = 20_000


class Load:
    """A worker that does nothing, and a feeder that keeps about 20,000 requests before it."""

    def __init__(self, count: Path) -> None:
        self._count = count
        self._count.write_bytes(bytes(8))
        self._stop = threading.Event()
        self._feeder = threading.Thread(target=self._feed)
        environment = {**os.environ, "NOOP_COUNT": str(count)}
        command = [sys.executable, str(HERE / "workers" / "noop.py")]
        self._worker = subprocess.Popen(command, env=environment)

    def __enter__(self) -> Load:
        self._feeder.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._feeder.join()
        self._worker.terminate()
        self._worker.wait(60)

    @property
    def done(self) -> int:
        """Requests worked on so far."""
        return int.from_bytes(self._count.read_bytes())

    def rate(self, seconds: float) -> float:
        """Requests per second over some seconds."""
        first, began = self.done, time.perf_counter()
        time.sleep(seconds)
        return (self.done - first) / (time.perf_counter() - began)

    def _feed(self) -> None:
        pushed = 0
        with psycopg.connect("", autocommit=True) as connection:
            while not self._stop.is_set():
                if pushed - self.done >= WAITING:
                    time.sleep(0.01)
                    continue
                connection.execute(
                    "SELECT cardinality(steadytext_embed_batch_async("
                    "array_fill('x'::text, ARRAY[%s]), use_cache => false))",
                    (PUSH,),
                )
                pushed += PUSH
