"""A call ends when PostgreSQL says so, and the next one works; a stream hands out its pieces as they come."""

from __future__ import annotations

import threading
import time

import psycopg
import pytest

from tests.support.databases import Sessions
from tests.support.timing import within

LONG = "Write a very long story about the sea, chapter {}."


@pytest.mark.parametrize("call", ["steadytext_generate", "steadytext_generate_stream"])
def test_statement_timeout_ends_a_long_call(call: str, connect: Sessions, daemon: object) -> None:
    session = connect()
    session.execute("SELECT steadytext_generate('warm', 2)")
    session.execute("SET statement_timeout = '300ms'")

    def ask() -> None:
        with pytest.raises(psycopg.errors.QueryCanceled, match=r"^canceling statement due to statement timeout"):
            session.execute(f"SELECT {call}(%s, 2000)", (LONG.format(1),))

    within(0.8, ask)
    session.execute("RESET statement_timeout")
    assert session.execute("SELECT length(steadytext_generate('after', 2)) > 0").fetchone() == (True,)
    assert session.execute("SELECT count(*) FROM steadytext_cache").fetchone() == (2,)


def test_a_cancel_ends_a_long_call(connect: Sessions, daemon: object) -> None:
    session = connect()
    session.execute("SELECT steadytext_generate('warm', 2)")

    def ask() -> None:
        canceller = threading.Timer(0.5, session.cancel)
        canceller.start()
        with pytest.raises(psycopg.errors.QueryCanceled):
            session.execute("SELECT steadytext_generate(%s, 2000)", (LONG.format(2),))
        canceller.join()

    within(1.3, ask)


def test_the_deadline_of_the_configuration_holds(connect: Sessions, daemon: object) -> None:
    session = connect()
    session.execute("SELECT steadytext_generate('warm', 2)")
    session.execute("SELECT steadytext_config_set('request_timeout_ms', '400')")

    def ask() -> None:
        with pytest.raises(psycopg.errors.QueryCanceled):
            session.execute("SELECT steadytext_generate(%s, 2000)", (LONG.format(3),))

    within(1.5, ask)


@pytest.mark.parametrize("source", ["SELECT steadytext_generate_stream(%s, 150)",
                                    "SELECT * FROM steadytext_generate_stream(%s, 150)"])  # fmt: skip
def test_the_first_fetch_comes_before_the_text_is_finished(source: str, connect: Sessions, daemon: object) -> None:
    session = connect()
    session.execute("SELECT steadytext_generate('warm', 2)")
    with session.transaction():
        cursor = session.cursor("pieces")
        cursor.execute(source, (LONG.format(4),))
        started = time.monotonic()
        assert cursor.fetchmany(1)
        first = time.monotonic() - started
        cursor.fetchall()
        whole = time.monotonic() - started
    assert first < whole / 3


def test_an_abandoned_stream_leaves_no_entry_and_frees_the_model(connect: Sessions, daemon: object) -> None:
    session = connect()
    for number in range(3):
        with session.transaction(force_rollback=True):
            cursor = session.cursor("pieces")
            cursor.execute("SELECT * FROM steadytext_generate_stream(%s, 2000)", (LONG.format(10 + number),))
            assert len(cursor.fetchmany(2)) == 2
    started = time.monotonic()
    session.execute("SELECT steadytext_generate('after the streams', 2)")
    assert time.monotonic() - started < 10
    assert session.execute("SELECT count(*) FROM steadytext_cache").fetchone() == (1,)


def test_calls_between_the_fetches_of_a_stream_do_not_disturb_it(connect: Sessions, daemon: object) -> None:
    session = connect()
    with session.transaction():
        cursor = session.cursor("pieces")
        cursor.execute("SELECT steadytext_generate_stream('Count from one to ten.', 24)")
        pieces: list[str] = []
        while batch := cursor.fetchmany(4):
            pieces += [piece for (piece,) in batch]
            session.execute("SELECT steadytext_embed(%s)", (f"between {len(pieces)}",))
    whole = session.execute("SELECT steadytext_generate('Count from one to ten.', 24, use_cache => false)").fetchone()
    assert ("".join(pieces),) == whole
