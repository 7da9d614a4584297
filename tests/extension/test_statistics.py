"""Counting hits: exact at any moment, with folds and evictions going on at the same time."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import psycopg

from tests.support.databases import Sessions

CLIENTS = 4
CALLS = 200


def hits(session: psycopg.Connection) -> tuple[int, int]:
    """Accesses of all entries beyond their first, folded or not, and the misses' and hits' total."""
    row = session.execute(
        "SELECT sum(access_count - 1)::int, (SELECT hits + misses FROM _steadytext_cache_totals)"
        " + (SELECT count(*) FROM _steadytext_cache_hits) FROM steadytext_cache_with_frecency"
    ).fetchone()
    assert row is not None
    return row[0], row[1]


def test_no_hit_is_lost_or_counted_twice_while_folding(connect: Sessions, daemon: object) -> None:
    main = connect()
    for number in range(5):
        main.execute("SELECT steadytext_embed(%s)", (f"text {number}",))
    before = hits(main)
    done = threading.Event()

    def fold() -> list[int]:
        session, seen = connect(), []
        while not done.is_set():
            session.execute("SELECT _steadytext_cache_fold()")
            seen.append(hits(session)[0])
        return seen

    def call() -> None:
        session = connect()
        for number in range(CALLS):
            session.execute("SELECT steadytext_embed(%s)", (f"text {number % 5}",))

    with ThreadPoolExecutor(CLIENTS + 2) as pool:
        folders = [pool.submit(fold) for _ in range(2)]
        for future in [pool.submit(call) for _ in range(CLIENTS)]:
            future.result()
        done.set()
        seen = [folder.result() for folder in folders]
    assert all(series == sorted(series) for series in seen), "a count never goes back"
    assert hits(main) == (before[0] + CLIENTS * CALLS, before[1] + CLIENTS * CALLS)
    main.execute("SELECT _steadytext_cache_fold()")
    assert hits(main) == (before[0] + CLIENTS * CALLS, before[1] + CLIENTS * CALLS)


def test_hits_do_not_wait_for_an_eviction(connect: Sessions, daemon: object) -> None:
    main, other = connect(), connect()
    answer = main.execute("SELECT steadytext_generate('wanted', 3)").fetchone()
    main.execute("BEGIN")
    main.execute("SELECT steadytext_cache_evict(0)")
    other.execute("SET statement_timeout = '2s'")
    assert other.execute("SELECT steadytext_generate('wanted', 3)").fetchone() == answer
    main.execute("COMMIT")
    assert main.execute("SELECT total_entries FROM steadytext_cache_stats()").fetchone() == (0,)
