"""Tokens per second through SQL, beside the bare engine on the same prompts in the same run.

Two peers: the bare engine in the settings that make its answers independent of load, and the bare engine with its own
defaults, whose answers change with load and threads. Needs a running server: ``eval "$(pg-steadytext env)"`` first.
"""

from __future__ import annotations

import threading
from functools import partial

import psycopg

from bare import Answer, answering, text_server, tokens_per_second
from report import Row, compare, emit

MAX_TOKENS = 64
CLIENTS = 8
SLOT_SETTINGS = (1, 2, 4, 8)
PROMPTS = [f"Write a few sentences about the history of the number {number}." for number in range(12)]


def through_sql(tokens_of: dict[str, int]) -> Answer:
    """A function that answers one prompt through SQL, uncached; the token count is the bare engine's (same bytes)."""
    sessions = threading.local()

    def answer(prompt: str) -> int:
        if not hasattr(sessions, "connection"):
            sessions.connection = psycopg.connect("", autocommit=True)
        statement = "SELECT steadytext_generate(%s, max_tokens => %s, use_cache => false)"
        sessions.connection.execute(statement, (prompt, MAX_TOKENS)).fetchone()
        return tokens_of[prompt]

    return answer


def one_client(sql: Answer, *, exact: bool) -> Row:
    """One client after another: what SQL and the daemon cost."""
    bare = answering(text_server(1, exact=exact), MAX_TOKENS)
    kind = "in the same settings" if exact else "with its own defaults"
    return compare(
        f"generate through SQL, 1 client, vs the bare engine {kind}",
        "tokens/s",
        partial(tokens_per_second, 1, PROMPTS, sql),
        partial(tokens_per_second, 1, PROMPTS, bare),
        ">= 0.95",
    )


def many_clients(sql: Answer, *, exact: bool) -> Row:
    """Eight clients, against the best of the bare engine's slot settings."""
    rates: dict[int, float] = {}
    for slots in SLOT_SETTINGS:
        bare = answering(text_server(slots, exact=exact), MAX_TOKENS)
        bare("warm up")
        rates[slots] = tokens_per_second(CLIENTS, PROMPTS, bare)
    best = max(rates, key=lambda slots: rates[slots])
    bare = answering(text_server(best, exact=exact), MAX_TOKENS)
    kind = "in the same settings" if exact else "with its own defaults"
    return compare(
        f"generate through SQL, {CLIENTS} clients, vs the bare engine's best slots ({best}) {kind}",
        "tokens/s",
        partial(tokens_per_second, CLIENTS, PROMPTS, sql),
        partial(tokens_per_second, CLIENTS, PROMPTS, bare),
        ">= 0.9",
    )


def main() -> None:
    """Measure one client and eight, against both peers."""
    counting = answering(text_server(1, exact=True), MAX_TOKENS)
    sql = through_sql({prompt: counting(prompt) for prompt in PROMPTS})
    del counting
    emit(*(measure(sql, exact=exact) for measure in (one_client, many_clients) for exact in (True, False)))


if __name__ == "__main__":
    main()
