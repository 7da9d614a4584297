"""The daemon dies in the middle of a hundred calls: every caller hears of it in time, and nothing wrong is kept."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import psycopg

Connect = Callable[..., psycopg.Connection]

CALLS = 100
DEADLINE_S = 150
MAX_TOKENS = 4


def ask(connect: Connect, number: int) -> tuple[str, str, float]:
    """One call; returns ("answer", text, seconds) or ("error", SQLSTATE, seconds)."""
    with connect() as connection:
        connection.execute(f"SET statement_timeout = '{DEADLINE_S}s'")
        started = time.monotonic()
        try:
            row = connection.execute(
                "SELECT steadytext_generate(%s, max_tokens => %s)",
                (f"Say something about the number {number}.", MAX_TOKENS),
            ).fetchone()
        except psycopg.Error as error:
            return "error", error.sqlstate or "", time.monotonic() - started
        assert row is not None
        return "answer", row[0], time.monotonic() - started


def test_sigkill_under_a_hundred_calls_ends_each_in_an_answer_or_08001(
    supervised: Any, supervised_connect: Connect
) -> None:
    with ThreadPoolExecutor(CALLS) as pool:
        futures = [pool.submit(ask, supervised_connect, number) for number in range(CALLS)]
        time.sleep(3)
        first_pid = supervised.daemon_pid()
        supervised.kill_daemon()
        outcomes = [future.result(timeout=DEADLINE_S + 30) for future in futures]

    assert {kind for kind, _, _ in outcomes} <= {"answer", "error"}
    assert {code for kind, code, _ in outcomes if kind == "error"} <= {"08001"}
    assert max(seconds for _, _, seconds in outcomes) <= DEADLINE_S
    assert supervised.wait_for_daemon() != first_pid

    with supervised_connect() as connection:
        cached: dict[str, str] = dict(connection.execute("SELECT prompt, response FROM steadytext_cache").fetchall())
        for prompt, response in list(cached.items())[:8]:
            fresh = connection.execute(
                "SELECT steadytext_generate(%s, max_tokens => %s, use_cache => false)", (prompt, MAX_TOKENS)
            ).fetchone()
            assert fresh == (response,)
    for number, (kind, text, _) in enumerate(outcomes):
        if kind == "answer":
            assert cached[f"Say something about the number {number}."] == text
