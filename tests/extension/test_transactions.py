"""Calls inside transactions: read-only ones, rolled back ones, several at once."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest

from tests.support.databases import Sessions


def count(session: psycopg.Connection, table: str = "steadytext_cache") -> int:
    """The rows of a table."""
    row = session.execute(f"SELECT count(*) FROM {table}").fetchone()
    assert row is not None
    return int(row[0])


def test_a_read_only_transaction_is_answered_and_stores_nothing(connect: Sessions, daemon: object) -> None:
    session = connect()
    cached = session.execute("SELECT steadytext_generate('known', 4)").fetchone()
    logged = count(session, "_steadytext_cache_hits")
    session.execute("BEGIN READ ONLY")
    assert session.execute("SELECT steadytext_generate('known', 4)").fetchone() == cached
    fresh = session.execute("SELECT steadytext_generate('unknown', 4)").fetchone()
    assert fresh is not None
    assert fresh[0]
    pieces = session.execute("SELECT steadytext_generate_stream('unknown', 4)").fetchall()
    assert "".join(piece for (piece,) in pieces) == fresh[0]
    assert session.execute("SELECT steadytext_embed('unknown') IS NOT NULL").fetchone() == (True,)
    assert len(session.execute("SELECT * FROM steadytext_embed_batch(ARRAY['a', 'b'])").fetchall()) == 2
    session.execute("COMMIT")
    assert count(session) == 1
    assert count(session, "_steadytext_cache_hits") == logged


def test_a_rollback_takes_the_entry_with_it(connect: Sessions, daemon: object) -> None:
    session = connect()
    session.execute("BEGIN")
    session.execute("SELECT steadytext_generate('kept', 3)")
    session.execute("SAVEPOINT s")
    session.execute("SELECT steadytext_generate('undone', 3)")
    session.execute("ROLLBACK TO s")
    session.execute("COMMIT")
    assert session.execute("SELECT prompt FROM steadytext_cache").fetchall() == [("kept",)]


def test_an_open_transaction_makes_nobody_wait_for_its_entry(connect: Sessions, daemon: object) -> None:
    first, second = connect(), connect()
    first.execute("BEGIN")
    answer = first.execute("SELECT steadytext_generate('both ask', 3)").fetchone()
    second.execute("SELECT steadytext_generate('warm', 3)")
    started = time.monotonic()
    assert second.execute("SELECT steadytext_generate('both ask', 3)").fetchone() == answer
    assert time.monotonic() - started < 5
    first.execute("COMMIT")
    assert count(second) == 2


def test_a_serializable_transaction_is_answered(connect: Sessions, daemon: object) -> None:
    first, second = connect(), connect()
    first.execute("BEGIN ISOLATION LEVEL REPEATABLE READ")
    first.execute("SELECT count(*) FROM steadytext_cache")
    answer = second.execute("SELECT steadytext_generate('contended', 3)").fetchone()
    assert first.execute("SELECT steadytext_generate('contended', 3)").fetchone() == answer
    first.execute("COMMIT")


def test_failures_leave_no_entry(connect: Sessions, unused_port: int) -> None:
    session = connect()
    session.execute("SELECT steadytext_config_set('daemon_port', %s)", (str(unused_port),))
    session.execute("SELECT steadytext_config_set('daemon_auto_start', 'false')")
    session.execute("SELECT 1")
    for call in ("steadytext_generate('x')", "steadytext_embed('x')", "steadytext_generate_stream('x')"):
        with pytest.raises(psycopg.OperationalError) as unreachable:
            session.execute(f"SELECT {call}")
        assert unreachable.value.sqlstate == "08001"
        assert str(unreachable.value).startswith("could not reach the daemon")
    assert count(session) == 0


def test_long_prompts_are_cached_up_to_the_limit(connect: Sessions, daemon: object) -> None:
    session = connect()
    long_text = "tree " * 10_000
    first = session.execute("SELECT steadytext_embed(%s)::text", (long_text,)).fetchone()
    assert session.execute("SELECT steadytext_embed(%s)::text", (long_text,)).fetchone() == first
    assert count(session) == 1
    with pytest.raises(psycopg.errors.StringDataRightTruncation):
        session.execute("SELECT steadytext_generate(%s)", ("x" * 1_000_000,))
    with pytest.raises(psycopg.errors.StringDataRightTruncation):
        session.execute("SELECT steadytext_generate(%s)", (long_text,))
    assert count(session) == 1


def test_who_keeps_a_snapshot_tells_a_worker_that_has_fallen_asleep_since(connect: Sessions) -> None:
    listener, writer, worker = connect(), connect(), connect()
    listener.execute("LISTEN steadytext_queue")
    worker.execute("INSERT INTO steadytext_workers (name, lease_expires_at, sleeping) VALUES ('w', 'infinity', '{}')")
    writer.execute("SELECT steadytext_generate_async('told to nobody, since the worker is awake')")
    assert list(listener.notifies(timeout=0.2)) == []
    with writer.transaction():
        writer.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        writer.execute("SELECT count(*) FROM steadytext_workers")
        worker.execute("UPDATE steadytext_workers SET sleeping = '{generate}'")
        writer.execute("SELECT steadytext_generate_async('told to the worker that sleeps')")
    assert len(list(listener.notifies(timeout=0.5))) == 1


def test_two_who_configure_at_once_do_not_undo_each_other(connect: Sessions) -> None:
    one, other = connect(), connect()
    one.execute("BEGIN")
    one.execute("SELECT steadytext_config_set('default_max_tokens', '33')")
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(other.execute, "SELECT steadytext_config_set('default_seed', '44')")
        blockers = "SELECT cardinality(pg_blocking_pids(%s))"
        while one.execute(blockers, (other.info.backend_pid,)).fetchone() == (0,):
            time.sleep(0.01)
        one.execute("COMMIT")
        waiting.result(timeout=30)
    settings = one.execute("SELECT default_max_tokens, default_seed FROM _steadytext_settings").fetchone()
    assert settings == (33, 44)
