"""Counting hits: exact at any moment, with folds and evictions going on beside them; or one in many, as that many."""

from __future__ import annotations

import math
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


def test_one_hit_in_many_is_counted_as_that_many(connect: Sessions, daemon: object) -> None:
    session = connect()
    calls = (
        "steadytext_generate('counted', 2)",  # the ways that a hit can come
        "steadytext_generate('counted', 2, temperature => 0.5)",
        "steadytext_embed('counted')",
        "steadytext_embed_cached('counted')",
    )
    for call in calls:
        session.execute(f"SELECT {call}".encode())
    session.execute("SELECT _steadytext_cache_fold()")
    session.execute("SELECT steadytext_config_set('cache_hit_sampling', '10')")
    for call in calls:
        before = hits(session)[0]
        session.execute(f"SELECT count({call}) FROM generate_series(1, 4000)".encode())
        deviation = math.sqrt(4000 * 9)
        assert abs(hits(session)[0] - before - 4000) < 6 * deviation, call
        rows = session.execute("SELECT count(*), min(hits), max(hits) FROM _steadytext_cache_hits").fetchone()
        assert rows is not None
        assert 400 - 6 * deviation / 10 < rows[0] < 400 + 6 * deviation / 10
        assert rows[1:] == (10, 10)
        rate = session.execute("SELECT cache_hit_rate FROM steadytext_cache_stats()").fetchone()
        assert rate is not None
        assert rate[0] > 0.99
        counted = hits(session)[0]
        session.execute("SELECT _steadytext_cache_fold()")
        assert hits(session)[0] == counted


def test_a_hit_that_is_not_counted_takes_no_transaction_id(connect: Sessions, daemon: object) -> None:
    session = connect()
    session.execute("SELECT steadytext_embed('seldom counted')")
    counted = "SELECT steadytext_embed('seldom counted'), pg_current_xact_id_if_assigned() IS NOT NULL"

    def taken(times: int) -> int:
        return sum(row is not None and row[1] for row in (session.execute(counted).fetchone() for _ in range(times)))

    assert taken(20) == 20
    session.execute("SELECT steadytext_config_set('cache_hit_sampling', '1000')")
    assert taken(200) < 10


def test_sampling_leaves_the_sessions_own_random_numbers_alone(connect: Sessions, daemon: object) -> None:
    session = connect()
    session.execute("SELECT steadytext_config_set('cache_hit_sampling', '2')")
    session.execute("SELECT steadytext_embed('drawn')")
    draws = []
    for call in ("'nothing'", "steadytext_embed('drawn')"):
        session.execute("SELECT setseed(0.25)")
        session.execute(f"SELECT count({call}) FROM generate_series(1, 20)".encode())
        draws.append(session.execute("SELECT random(), random()").fetchone())
    assert draws[0] == draws[1]
