"""Time to a stream's first FETCH, beside the bare model's time to its first token, in the same run.

Needs a running server: ``eval "$(pg-steadytext env)"`` first.
"""

from __future__ import annotations

import time

import psycopg

from bare import first_token_ms, text_server
from report import emit, row_of_pairs

MAX_TOKENS = 200
REPEATS = 9


def first_fetch_ms(connection: psycopg.Connection, prompt: str) -> float:
    """Milliseconds from DECLARE to the first row of a cursor over the stream, which is then closed."""
    statement = "SELECT steadytext_generate_stream(%s, max_tokens => %s, use_cache => false)"
    with connection.transaction(), connection.cursor("piece") as cursor:
        cursor.itersize = 1
        started = time.perf_counter()
        cursor.execute(statement, (prompt, MAX_TOKENS))
        cursor.fetchone()
        return (time.perf_counter() - started) * 1000


def main() -> None:
    """Measure."""
    server = text_server(1, exact=True)
    pairs = []
    with psycopg.connect("", autocommit=True) as connection:
        for number in range(REPEATS + 1):
            prompt = f"Tell me a long story about the number {number}."
            pairs.append((first_fetch_ms(connection, prompt), first_token_ms(server, prompt, MAX_TOKENS)))
    emit(row_of_pairs("a stream's first FETCH vs the bare model's first token", "ms", pairs[1:], "<= 3.0"))


if __name__ == "__main__":
    main()
