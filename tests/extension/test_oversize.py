"""Whatever is too large for a function is refused in its words, soon, and the server goes on."""

from __future__ import annotations

import time

import psycopg

from tests.support.calls import BY_TYPE, PREPARED
from tests.support.databases import Sessions

ARGUMENTS = r"""
SELECT substr(p.proname, 12), p.proargnames[1:p.pronargs],
       ARRAY(SELECT format_type(a.type, NULL) FROM unnest(p.proargtypes) WITH ORDINALITY AS a (type, n) ORDER BY a.n),
       p.pronargs - p.pronargdefaults
  FROM pg_proc AS p
 WHERE p.pronamespace = 'public'::regnamespace AND p.proname LIKE 'steadytext\_%' AND p.prokind = 'f' AND p.pronargs > 0
 ORDER BY p.proname"""

HUGE = {
    "text": ["repeat('x', 2000000)", "repeat(' ', 2000000)"],
    "text[]": [
        "array_fill('x'::text, ARRAY[100000])",
        "ARRAY[repeat('x', 2000000), 'b']",
        "array_fill('x'::text, ARRAY[10, 10])",
    ],
    "integer": ["2147483647", "-2147483648"],
    "bigint": ["9223372036854775807"],
    "double precision": ["'Infinity'", "'NaN'", "1e308"],
    "jsonb": [
        "to_jsonb(repeat('x', 2000000))",
        "jsonb_build_object('a', repeat('x', 5000000))",
        "(repeat('[', 5000) || repeat(']', 5000))::jsonb",
        "jsonb_build_object('anyOf', to_jsonb(array_fill(1, ARRAY[100000])))",
    ],
    "uuid[]": ["array_fill(gen_random_uuid(), ARRAY[100000])"],
    "name": ["repeat('x', 63)::name"],
    "interval": ["'170000000 years'", "'-170000000 years'"],
    "timestamp with time zone": ["'infinity'", "'290000-01-01'"],
}

LIMIT_SECONDS = 0.5
REFUSED = ("22", "42501", "P0002", "53400", "55000", "57014", "08001", "0A000", "23505")
"""A bad argument, a right, a lack, a limit, the statement's own deadline, no supervisor, a name that is taken."""


def attempts(session: psycopg.Connection) -> list[tuple[str, str]]:
    """Every argument of every function in turn, each huge beside others that are not."""
    found = []
    for name, names, kinds, required in session.execute(ARGUMENTS).fetchall():
        for argument, kind in zip(names, kinds, strict=True):
            others = {n: BY_TYPE.get(k, "NULL") for n, k in list(zip(names, kinds, strict=True))[:required]}
            for huge in HUGE.get(kind, []):
                given = ", ".join(f'"{n}" => {value}' for n, value in {**others, argument: huge}.items())
                found.append((f"{name}, {argument} = {huge}", f"SELECT * FROM steadytext_{name}({given})"))
    return found


def test_what_is_too_large_is_refused_soon(connect: Sessions, daemon: object) -> None:
    session = connect()
    for statement in PREPARED:
        session.execute(statement.encode())
    session.execute("SELECT steadytext_generate('warm up', 1)")
    session.execute(f"SET statement_timeout = {int(1000 * LIMIT_SECONDS)}")
    wrong: list[tuple[str, str, float]] = []
    tried = attempts(session)
    for label, statement in tried:
        began = time.monotonic()
        code = "ok"
        try:
            session.execute(statement.encode())
        except psycopg.Error as error:
            code = str(error.sqlstate)
        if (code != "ok" and not code.startswith(REFUSED)) or time.monotonic() - began > LIMIT_SECONDS + 3:
            wrong.append((label, code, round(time.monotonic() - began, 1)))
    assert len(tried) > 200
    assert wrong == []
    session.execute("RESET statement_timeout")
    assert session.execute("SELECT length(steadytext_generate('and on', 1)) > 0").fetchone() == (True,)
