"""Jobs per second that do nothing, enqueued and processed, beside pgqueuer and procrastinate on the same server.

Each side by its own fastest means: ours by one batch call and claims of 1,000; pgqueuer by one enqueue of all jobs,
batches of 1,000 and uvloop; procrastinate by one batch defer and 100 coroutines (fewer jobs, since it takes so long).
Connects through PG* as a superuser.
"""

from __future__ import annotations

import os

import psycopg

from contenders import Contender, empty_database, ours, peer
from database import own_database
from report import Row, emit, row_of_pairs

JOBS = 50_000
PROCRASTINATE_JOBS = 2_000
PROCESSES = (1, 4)
REPEATS = 3


def our_rate(processes: int) -> float:
    """Our jobs per second in a fresh database."""
    with own_database():
        with psycopg.connect("", autocommit=True) as connection:
            for key in ("max_queue_size", "max_pending_per_user"):
                connection.execute("SELECT steadytext_config_set(%s, %s)", (key, str(10 * JOBS)))
        return ours().jobs_per_second(JOBS, processes)


def pgqueuer_rate(processes: int) -> float:
    """The jobs per second of pgqueuer in a fresh database."""
    with empty_database("steadytext_bench_peer"):
        contender = peer("pgqueuer", "SELECT EXISTS (SELECT FROM pgqueuer)")
        return contender.jobs_per_second(JOBS, processes)


def procrastinate_rate(processes: int) -> float:
    """The jobs per second of procrastinate in a fresh database."""
    with empty_database("steadytext_bench_peer"):
        contender: Contender = peer(
            "procrastinate", "SELECT EXISTS (SELECT FROM procrastinate_jobs WHERE status IN ('todo', 'doing'))"
        )
        return contender.jobs_per_second(PROCRASTINATE_JOBS, processes)


def rows(processes: int) -> list[Row]:
    """Ours beside both peers, in turn."""
    repeats = int(os.environ.get("BENCH_REPEATS", REPEATS))
    figures = [(our_rate(processes), pgqueuer_rate(processes)) for _ in range(repeats)]
    slow = [(figures[0][0], procrastinate_rate(processes))]
    kind = f"{processes} worker process{'es' * (processes > 1)}"
    return [
        row_of_pairs(f"queue, {JOBS} jobs that do nothing, {kind}, vs pgqueuer", "jobs/s", figures, ">= 2"),
        row_of_pairs(f"queue, jobs that do nothing, {kind}, vs procrastinate", "jobs/s", slow, ">= 2"),
    ]


def main() -> None:
    """Measure with one worker process and with four."""
    emit(*(row for processes in PROCESSES for row in rows(processes)))


if __name__ == "__main__":
    main()
