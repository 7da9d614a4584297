"""From the commit of an enqueue to the start of work on an idle worker: median and 99th percentile, in milliseconds.

Connects through PG* as a superuser; the worker does nothing but tell when it began.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import time

import psycopg

from contenders import HERE
from database import own_database
from report import emit, row_of_pairs

SAMPLES = 200
PAUSE_SECONDS = 0.03
ROUNDS = 3


def pick_ups(connection: psycopg.Connection) -> list[float]:
    """Milliseconds from commit to start, one a request, each to a worker that has fallen asleep."""
    taken = []
    for _ in range(SAMPLES):
        time.sleep(PAUSE_SECONDS)
        row = connection.execute("SELECT steadytext_embed_async('x', use_cache => false)").fetchone()
        committed = time.time()
        assert row is not None
        began = connection.execute("SELECT steadytext_get_async_result(%s)", row).fetchone()
        assert began is not None
        taken.append(max(0.0, float(began[0]) - committed) * 1000)
    return taken


def main() -> None:
    """Measure against one worker process."""
    with own_database():
        worker = subprocess.Popen([sys.executable, str(HERE / "workers" / "noop.py")])
        try:
            with psycopg.connect("", autocommit=True) as connection:
                pick_ups(connection)
                rounds = [statistics.quantiles(pick_ups(connection), n=100) for _ in range(ROUNDS)]
        finally:
            worker.terminate()
            worker.wait(30)
    emit(
        row_of_pairs("queue pick-up by an idle worker, median", "ms", [(r[49], 1.0) for r in rounds], "<= 5"),
        row_of_pairs("queue pick-up by an idle worker, 99th percentile", "ms", [(r[98], 1.0) for r in rounds], "<= 25"),
    )


if __name__ == "__main__":
    main()
