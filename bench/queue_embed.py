"""Embeddings queued in one statement, beside the bare engine at its best batch size; and the worker's memory meanwhile.

``BENCH_EMBEDS`` says how many (20,000 unless set). Connects through PG* as a superuser; needs the running daemon.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import psycopg

from bare import EmbeddingSession
from database import own_database
from report import emit, row_of_pairs

EMBEDS = int(os.environ.get("BENCH_EMBEDS", "20000"))
SAMPLE = 2_000
SIZES = (16, 32, 64, 128)
SUBJECTS = ("harbour", "planner", "orchard", "engine", "library", "glacier", "market", "violin")


def texts(count: int, series: str) -> list[str]:
    """Distinct sentences of 8 to 14 words."""
    return [
        f"{series} note {number}: the {SUBJECTS[number % 8]} near the {SUBJECTS[number // 8 % 8]} is open"
        f" on day {number % 28}" + " and on holidays too" * (number % 3)
        for number in range(count)
    ]


def resident_mb(pid: int) -> float:
    """Resident memory of a process, in megabytes."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def bare_rate(session: EmbeddingSession, size: int, series: str) -> float:
    """Texts per second of the bare engine."""
    return session.texts_per_second(texts(SAMPLE, series), size)


def main() -> None:
    """Queue all, watch one worker embed them, measure the bare engine before and after."""
    session = EmbeddingSession()
    session.embed(texts(64, "warm"))
    best = max(SIZES, key=lambda size: bare_rate(session, size, f"trial {size}"))
    before = bare_rate(session, best, "before")
    with own_database(), psycopg.connect("", autocommit=True) as connection:
        for key in ("max_queue_size", "max_pending_per_user"):
            connection.execute("SELECT steadytext_config_set(%s, %s)", (key, str(2 * EMBEDS)))
        connection.execute("CREATE TABLE note (body text)")
        with connection.cursor().copy("COPY note FROM STDIN") as copy:
            for text in texts(EMBEDS, "queued"):
                copy.write_row((text,))
        connection.execute("SELECT steadytext_embed('warm')")
        worker = subprocess.Popen([sys.executable, "-m", "pg_steadytext.cli", "worker"], stderr=subprocess.DEVNULL)
        try:
            time.sleep(3)
            memory = [resident_mb(worker.pid)]
            began = time.perf_counter()
            connection.execute("SELECT cardinality(steadytext_embed_batch_async(array_agg(body))) FROM note")
            queued = time.perf_counter()
            unfinished = "SELECT EXISTS (SELECT FROM steadytext_queue WHERE status IN ('pending', 'processing'))"
            while connection.execute(unfinished).fetchone() != (False,):
                time.sleep(0.5)
                memory.append(resident_mb(worker.pid))
            ended = time.perf_counter()
        finally:
            worker.terminate()
            worker.wait(60)
        failed = connection.execute("SELECT count(*) FROM steadytext_queue WHERE status <> 'completed'").fetchone()
        assert failed == (0,), failed
    after = bare_rate(session, best, "after")
    print(
        f"queued {EMBEDS} in {queued - began:.1f} s;"
        f" worker memory {memory[0]:.0f} MB at first, {max(memory):.0f} MB at most"
    )
    half = len(memory) // 2
    emit(
        row_of_pairs(
            f"{EMBEDS} embeddings through the queue vs bare ONNX at batch {best}", "texts/s",
            [(EMBEDS / (ended - queued), bare) for bare in (before, after)], ">= 0.9",
        ),
        row_of_pairs(
            "worker memory, second half of the queue vs first half", "MB",
            [(max(memory[half:]), max(memory[: half + 1]))], "<= 1.1",
        ),
    )  # fmt: skip


if __name__ == "__main__":
    main()
