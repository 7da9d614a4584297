"""Throughput while an idle transaction holds a snapshot, beside the same queue without it, and after it has gone.

``BENCH_HELD_SECONDS`` says how long it is held (60 unless set). Connects through PG* as a superuser.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import psycopg

from contenders import HERE
from database import own_database
from report import emit, row_of_pairs

FREE_SECONDS = 15
HELD_SECONDS = int(os.environ.get("BENCH_HELD_SECONDS", "60"))
LAST_SECONDS = 15
RECOVERY_SECONDS = 30
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
        command = [sys.executable, str(HERE / "noop_worker.py")]
        self._worker = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, env=environment)

    def __enter__(self) -> Load:
        assert self._worker.stdin is not None
        self._worker.stdin.write(b"go\n")
        self._worker.stdin.flush()
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


def main() -> None:
    """Measure free, held and freed."""
    with own_database(), psycopg.connect("", autocommit=True) as connection, tempfile.TemporaryDirectory() as folder:
        for key in ("max_queue_size", "max_pending_per_user"):
            connection.execute("SELECT steadytext_config_set(%s, '1000000')", (key,))
        with Load(Path(folder) / "count") as load:
            time.sleep(5)
            free = load.rate(FREE_SECONDS)
            with psycopg.connect("") as holder:
                holder.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
                holder.execute("SELECT 1 FROM steadytext_queue LIMIT 1")
                time.sleep(HELD_SECONDS - LAST_SECONDS)
                held = load.rate(LAST_SECONDS)
            time.sleep(RECOVERY_SECONDS)
            freed = load.rate(FREE_SECONDS)
    emit(
        row_of_pairs(f"queue under a snapshot held {HELD_SECONDS} s vs without it", "jobs/s", [(held, free)], ">= 0.5"),
        row_of_pairs("queue after the snapshot has gone vs before it", "jobs/s", [(freed, free)], ">= 0.9"),
    )


if __name__ == "__main__":
    main()
