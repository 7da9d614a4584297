"""Throughput while an idle transaction holds a snapshot, beside the same queue without it, and after it has gone.

``BENCH_HELD_SECONDS`` says how long it is held (60 unless set). Connects through PG* as a superuser.
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

FREE_SECONDS = 15
HELD_SECONDS = int(os.environ.get("BENCH_HELD_SECONDS", "60"))
LAST_SECONDS = 15
RECOVERY_SECONDS = 30


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
