"""Dead rows and the size of the claim's index under churn: they must not grow with the work done.

``BENCH_CHURN_SECONDS`` says how long (120 unless set). Finished requests are purged at once, as a retention of
nothing would. Connects through PG* as a superuser.
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

SECONDS = int(os.environ.get("BENCH_CHURN_SECONDS", "120"))
LOOK_SECONDS = 2.0
SIZES = """
SELECT pg_relation_size('steadytext_queue_pending_idx') / 1048576.0, pg_table_size('steadytext_queue') / 1048576.0,
       (SELECT n_dead_tup FROM pg_stat_user_tables WHERE relname = 'steadytext_queue')
"""


def main() -> None:
    """Churn, and compare the second half of the time with the first."""
    looks: list[tuple[float, float, float]] = []
    with own_database(), psycopg.connect("", autocommit=True) as connection, tempfile.TemporaryDirectory() as folder:
        for key in ("max_queue_size", "max_pending_per_user"):
            connection.execute("SELECT steadytext_config_set(%s, '1000000')", (key,))
        with Load(Path(folder) / "count") as load:
            until = time.monotonic() + SECONDS
            while time.monotonic() < until:
                time.sleep(LOOK_SECONDS)
                connection.execute("SELECT steadytext_queue_purge('0', 200000)")
                row = connection.execute(SIZES).fetchone()
                assert row is not None
                looks.append((float(row[0]), float(row[1]), float(row[2])))
            print(f"{load.done} requests in {SECONDS} s; at most {max(look[2] for look in looks):.0f} dead rows")
    half = len(looks) // 2
    emit(
        *(
            row_of_pairs(
                f"queue churn: {what}, largest of the second half vs of the first", "MB",
                [(max(look[place] for look in looks[half:]), max(look[place] for look in looks[:half]))], "<= 1.25",
            )
            for place, what in enumerate(("the claim's index", "the table"))
        )
    )  # fmt: skip


if __name__ == "__main__":
    main()
