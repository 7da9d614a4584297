"""Throughput while an idle transaction holds a snapshot and after it has gone, beside a queue of its age without it.

A queue that keeps what is done becomes slower as it grows, and so is compared with one of its age.
``BENCH_HELD_SECONDS`` says how long the snapshot is held (60 unless set). Connects through PG* as a superuser.
"""

from __future__ import annotations

import os
import tempfile
import time
from pathlib import Path

import psycopg

from database import own_database
from queue_load import Load
from report import emit, row_of_pairs

HELD_SECONDS = int(os.environ.get("BENCH_HELD_SECONDS", "60"))
WARM_SECONDS = 5
RECOVERY_SECONDS = 30
WINDOW_SECONDS = 30


def rates(*, holds: bool) -> tuple[float, float]:
    """Requests per second at the end of the time in which a snapshot may be held, and after it."""
    with own_database(), psycopg.connect("", autocommit=True) as connection, tempfile.TemporaryDirectory() as folder:
        for key in ("max_queue_size", "max_pending_per_user"):
            connection.execute("SELECT steadytext_config_set(%s, '1000000')", (key,))
        with Load(Path(folder) / "count") as load:
            time.sleep(WARM_SECONDS)
            with psycopg.connect("") as holder:
                if holds:
                    holder.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
                    holder.execute("SELECT 1 FROM steadytext_queue LIMIT 1")
                time.sleep(max(0, HELD_SECONDS - WINDOW_SECONDS))
                during = load.rate(WINDOW_SECONDS)
            time.sleep(RECOVERY_SECONDS)
            return during, load.rate(WINDOW_SECONDS)


def main() -> None:
    """Measure with and without."""
    free, held = rates(holds=False), rates(holds=True)
    name = f"a snapshot held {HELD_SECONDS} s"
    emit(
        row_of_pairs(f"queue under {name} vs one of its age without", "jobs/s", [(held[0], free[0])], ">= 0.5"),
        row_of_pairs(f"queue after {name} vs one of its age without", "jobs/s", [(held[1], free[1])], ">= 0.9"),
    )


if __name__ == "__main__":
    main()
