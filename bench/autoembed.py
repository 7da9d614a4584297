"""Automatic embedding: what it costs who writes, how soon a vector is there, how many rows a second.

``BENCH_ROWS`` says how many rows are copied (100,000 unless set), ``BENCH_EMBEDS`` how many are embedded (5,000).
Connects through PG* as a superuser; needs the running daemon.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time

import psycopg

from bare import EmbeddingSession
from database import own_database
from queue_embed import texts
from report import compare, emit, row_of_pairs

ROWS = int(os.environ.get("BENCH_ROWS", "100000"))
EMBEDS = int(os.environ.get("BENCH_EMBEDS", "5000"))
SINGLES = 5000
SAMPLES = 100
PAUSE_SECONDS = 0.15
BATCH = 64
BODY = "A row's text of usual length: some sentence, a second one, and what else belongs to it. " * 2


def copied(connection: psycopg.Connection, table: str) -> float:
    """Seconds that COPY takes for ROWS rows."""
    connection.execute(f"TRUNCATE {table}, _steadytext_autoembed_log".encode())
    lines = "".join(f"{n}\ttitle {n}\t{BODY}{n}\n" for n in range(ROWS))
    connection.execute("CHECKPOINT")
    began = time.perf_counter()
    with connection.cursor().copy(f"COPY {table} (id, title, body) FROM STDIN".encode()) as copy:
        copy.write(lines)
    return time.perf_counter() - began


def inserted(connection: psycopg.Connection, table: str) -> float:
    """Microseconds of a single-row INSERT among many in one transaction."""
    connection.execute(f"TRUNCATE {table}".encode())
    began = time.perf_counter()
    connection.execute(
        f"DO $$ BEGIN FOR n IN 1 .. {SINGLES} LOOP INSERT INTO {table} VALUES (n, 't', 'b'); END LOOP; END $$".encode()
    )
    return (time.perf_counter() - began) / SINGLES * 1e6


def visible(connection: psycopg.Connection, number: int) -> float:
    """Milliseconds from an insert's commit until its vector can be read."""
    connection.execute("INSERT INTO live VALUES (%s, 't', %s)", (number, texts(1, f"live {number}")[0]))
    began = time.perf_counter()
    query = "SELECT FROM live WHERE id = %s AND embedding IS NOT NULL"
    while connection.execute(query, (number,)).fetchone() is None:
        time.sleep(0.0005)
    return (time.perf_counter() - began) * 1000


def embedded_rate(connection: psycopg.Connection, series: str) -> float:
    """Rows a second from a COPY's commit until the last has its vector."""
    connection.execute("TRUNCATE live")
    with connection.cursor().copy("COPY live (id, body) FROM STDIN") as copy:
        for number, text in enumerate(texts(EMBEDS, series)):
            copy.write_row((number, text))
    began = time.perf_counter()
    while connection.execute("SELECT count(*) FROM live WHERE embedding IS NULL").fetchone() != (0,):
        time.sleep(0.1)
    return EMBEDS / (time.perf_counter() - began)


def main() -> None:
    """Measure the writers first, without a worker; then one worker."""
    with own_database(), psycopg.connect("", autocommit=True) as connection:
        for table in ("plain", "kept", "live"):
            connection.execute(f"CREATE TABLE {table} (id bigint PRIMARY KEY, title text, body text)".encode())
        for table in ("kept", "live"):
            connection.execute("SELECT steadytext_autoembed(%s::text::regclass, 'body', index => 'none')", (table,))
        copy = compare(
            f"COPY of {ROWS} rows",
            "s",
            lambda: copied(connection, "kept"),
            lambda: copied(connection, "plain"),
            "<= 1.3",
            5,
        )
        single = compare(
            "single-row INSERT",
            "us",
            lambda: inserted(connection, "kept"),
            lambda: inserted(connection, "plain"),
            "<= 4",
        )
        connection.execute("SELECT steadytext_autoembed_drop('kept')")
        worker = subprocess.Popen(
            [sys.executable, "-m", "pg_steadytext.cli", "worker", "--lanes", "autoembed"], stderr=subprocess.DEVNULL
        )
        try:
            visible(connection, -1)
            taken = []
            for number in range(SAMPLES):
                time.sleep(PAUSE_SECONDS)
                taken.append(visible(connection, number))
            session = EmbeddingSession()
            session.embed(texts(BATCH, "warm"))
            pairs = [
                (embedded_rate(connection, f"ours {n}"), session.texts_per_second(texts(2000, f"bare {n}"), BATCH))
                for n in range(3)
            ]
        finally:
            worker.terminate()
            worker.wait(30)
    ranks = statistics.quantiles(taken, n=20)
    emit(
        copy,
        single,
        row_of_pairs("commit to visible vector, median", "ms", [(statistics.median(taken), 1.0)], "<= 25"),
        row_of_pairs("commit to visible vector, 95th percentile", "ms", [(ranks[18], 1.0)], "<= 50"),
        row_of_pairs("rows a second, end to end, beside the bare engine", "rows/s", pairs, ">= 0.9"),
    )


if __name__ == "__main__":
    main()
