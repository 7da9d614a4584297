"""Two hundred connections at once get the same answers as one, or are told that it is too much."""

from __future__ import annotations

import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import psycopg

from tests.support.databases import Roles, Sessions

SESSIONS = 200
ASKING = 32
"""So many of them ask the model, not the cache alone: each of these loads PostgreSQL's Python."""


def test_two_hundred_sessions_at_once(connect: Sessions, make_role: Roles, daemon: object) -> None:
    role = make_role("steadytext_user")
    with connect() as owner:
        owner.execute("SELECT steadytext_config_set('max_pending_per_user', '150')")
        (text,) = owner.execute("SELECT steadytext_generate('Name a colour.', 4)").fetchone() or ("",)
        (vector,) = owner.execute("SELECT steadytext_embed('A tree.')::text").fetchone() or ("",)
    sessions = [connect(user=role) for _ in range(SESSIONS)]
    start = threading.Barrier(SESSIONS)

    def work(number: int) -> list[str]:
        session = sessions[number]
        start.wait()
        found = []
        for statement, wanted in (
            ("SELECT steadytext_generate('Name a colour.', 4)", text),
            ("SELECT steadytext_embed('A tree.')::text", vector),
            (f"SELECT steadytext_generate_async('later {number}', 4)::text", None),
            (f"SELECT steadytext_generate('Count to {number % 4}.', 2, use_cache => false)", None),
        )[: 4 if number < ASKING else 3]:
            try:
                row = session.execute(statement.encode()).fetchone()
            except psycopg.Error as error:
                found.append(str(error.sqlstate))
            else:
                found.append("right" if row and (wanted is None or row[0] == wanted) else f"wrong: {row}")
        return found

    with ThreadPoolExecutor(SESSIONS) as pool:
        outcomes = list(pool.map(work, range(SESSIONS)))
    cached = Counter(outcome for found in outcomes for outcome in found[:2])
    assert cached == {"right": 2 * SESSIONS}
    assert Counter(found[2] for found in outcomes) == {"right": 150, "53400": 50}
    assert {found[3] for found in outcomes[:ASKING]} <= {"right", "53400"}
    connection = connect()
    row = connection.execute("SELECT count(*), count(DISTINCT prompt) FROM steadytext_queue").fetchone()
    assert row == (150, 150)
    hits = connection.execute("SELECT access_count FROM steadytext_cache_with_frecency ORDER BY operation").fetchall()
    assert hits == [(SESSIONS + 1,), (SESSIONS + 1,)]
    assert connection.execute("SELECT steadytext_generate('and on', 2) <> ''").fetchone() == (True,)
