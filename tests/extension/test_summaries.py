"""Summaries over many rows: as many calls of the model as there are contexts, in flat memory, whatever the plan."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import psycopg
import pytest

from tests.support.daemon import DaemonProcess, ask
from tests.support.databases import Sessions

ROWS = int(os.environ.get("SUMMARY_ROWS", "600"))
LONG_WORDS = [
    "environmental responsibilities",
    "international organizations",
    "characteristic communication",
    "professional recommendations",
]
"""A context is full by its characters and read by its tokens: of these, few tokens fill one."""
SUMMARY = "SELECT steadytext_summarize(body, '{\"max_tokens\": 8}') FROM tree"
PARALLEL = {
    "max_parallel_workers_per_gather": "4",
    "parallel_setup_cost": "0",
    "parallel_tuple_cost": "0",
    "min_parallel_table_scan_size": "0",
    "enable_partitionwise_aggregate": "on",
}


def one(session: psycopg.Connection, statement: str, *arguments: object) -> Any:
    row = session.execute(statement.encode(), arguments or None).fetchone()
    assert row is not None
    return row[0]


def daemon_calls(daemon: DaemonProcess) -> int:
    reply = ask(daemon.port, "stats")
    assert reply is not None
    return int(reply["result"].get("steadytext_requests_total", {}).get("generate,ok", 0))


def contexts_asked(session: psycopg.Connection) -> int:
    """Hits and misses of the cache: every context that was to be answered, known or not."""
    return int(one(session, "SELECT count(*) FROM _steadytext_cache_hits"))


def leaves(texts: Sequence[str], room: int) -> int:
    """The contexts that rows fill one after another, a line each."""
    filled, used = 1, -1
    for text in texts:
        if used + 1 + len(text) > room:
            filled, used = filled + 1, -1
        used += 1 + len(text)
    return filled


def room(session: psycopg.Connection) -> int:
    """What a context takes of rows, in octets."""
    statement = "SELECT steadytext_summarize_accumulate(NULL, 'x', '{\"max_tokens\": 8}') ->> 'room'"
    return int(one(session, statement))


@pytest.fixture
def small_contexts(connection: psycopg.Connection) -> None:
    connection.execute("SELECT steadytext_config_set('max_prompt_chars', '1800')")


@pytest.fixture
def forest(connection: psycopg.Connection, small_contexts: None) -> list[str]:
    """Rows of two words in two partitions, in the order in which they are read."""
    words = [LONG_WORDS[number * 4 // ROWS] for number in range(ROWS)]
    connection.execute("CREATE TABLE tree (id integer, body text) PARTITION BY RANGE (id)")
    connection.execute("CREATE TABLE tree_1 PARTITION OF tree FOR VALUES FROM (0) TO (300)")
    connection.execute("CREATE TABLE tree_2 PARTITION OF tree FOR VALUES FROM (300) TO (MAXVALUE)")
    connection.execute(
        "INSERT INTO tree SELECT t.n - 1, t.w FROM unnest(%s::text[]) WITH ORDINALITY t (w, n)", (words,)
    )
    connection.execute("ANALYZE tree")
    return words


def test_few_contexts_are_one_call_each_and_one_over_them(
    connection: psycopg.Connection, small_contexts: None, daemon: DaemonProcess
) -> None:
    texts = [f"environmental responsibilities {number}" for number in range(70)]
    connection.execute("SELECT steadytext_config_set('cache_enabled', 'false')")
    wanted, before = leaves(texts, room(connection)), daemon_calls(daemon)
    summary = one(
        connection, "SELECT steadytext_summarize(t, '{\"max_tokens\": 8}') FROM unnest(%s::text[]) AS t", texts
    )
    assert wanted > 1
    assert daemon_calls(daemon) - before == wanted + 1
    assert summary


def test_many_rows_are_asked_in_a_tree_and_the_same_in_any_plan(
    connection: psycopg.Connection, forest: list[str], daemon: DaemonProcess
) -> None:
    bottom, before = leaves(forest, room(connection)), daemon_calls(daemon)
    summary = one(connection, SUMMARY)
    asked, called = contexts_asked(connection), daemon_calls(daemon) - before
    # an upper context takes seven short answers or more, so the levels above add a sixth, and the topmost ones
    assert bottom < asked <= bottom + bottom // 6 + 2
    assert called == one(connection, "SELECT count(*) FROM _steadytext_cache_hits WHERE entry_id = 0")
    for name, value in PARALLEL.items():
        connection.execute("SELECT set_config(%s, %s, false)", (name, value))
    assert "Gather" in str(connection.execute("EXPLAIN SELECT count(*) FROM tree").fetchall())
    plan = str(connection.execute(f"EXPLAIN {SUMMARY}".encode()).fetchall())
    assert "Gather" not in plan
    assert "Partial" not in plan
    assert one(connection, SUMMARY) == summary
    assert daemon_calls(daemon) - before == called
    assert contexts_asked(connection) == 2 * asked


def test_memory_does_not_grow_with_the_rows(
    connection: psycopg.Connection, small_contexts: None, daemon: DaemonProcess
) -> None:
    statement = "SELECT steadytext_summarize(%s, '{\"max_tokens\": 8}') FROM generate_series(1, %s)"
    one(connection, statement, LONG_WORDS[0], ROWS)
    before = resident(connection.info.backend_pid)
    one(connection, statement, LONG_WORDS[0], 5 * ROWS)
    assert resident(connection.info.backend_pid) - before < 4096


def resident(pid: int) -> int:
    """The most memory that a process has held, in kB, less what it shares."""
    lines = Path(f"/proc/{pid}/status").read_text(encoding="ascii").splitlines()
    found = dict(line.split(":", 1) for line in lines)
    return int(found["VmHWM"].split()[0]) - int(found["RssShmem"].split()[0])


def test_rows_in_any_order_are_the_same_under_an_order_of_their_own(
    connection: psycopg.Connection, small_contexts: None, daemon: DaemonProcess
) -> None:
    connection.execute(
        f"CREATE TABLE tree AS SELECT g AS id, '{LONG_WORDS[0]} ' || g AS body FROM generate_series(1, 60) g"
    )
    ordered = "SELECT steadytext_summarize(body, '{\"max_tokens\": 8}' ORDER BY id) FROM tree"
    summary = one(connection, ordered)
    connection.execute("CREATE TABLE shuffled AS SELECT * FROM tree ORDER BY md5(body)")
    assert one(connection, ordered.replace("FROM tree", "FROM shuffled")) == summary


def test_partial_summaries_merge_to_the_same_however_they_are_delivered(
    connection: psycopg.Connection, daemon: DaemonProcess
) -> None:
    connection.execute(
        "CREATE TABLE kept AS SELECT g % 7 AS part, steadytext_summarize_partial("
        "'Tree ' || g || ' is an oak.', jsonb_build_object('part', g % 7, 'max_tokens', 8) ORDER BY g) AS state "
        "FROM generate_series(1, 70) g GROUP BY 1"
    )
    final = "SELECT steadytext_summarize_final(state ORDER BY {}) FROM kept"
    answers = {one(connection, final.format(order)) for order in ("part", "part DESC", "md5(state::text)")}
    folded = one(
        connection,
        "WITH RECURSIVE folded (part, state) AS (SELECT part, state FROM kept WHERE part = 6 UNION ALL "
        "SELECT k.part, steadytext_summarize_combine(k.state, f.state) "
        "FROM folded f JOIN kept k ON k.part = f.part - 1) "
        "SELECT steadytext_summarize_finalize(state) FROM folded WHERE part = 0",
    )
    assert answers == {folded}
    assert one(connection, "SELECT max(length(state::text)) FROM kept") < 2000


def test_a_statement_timeout_ends_an_aggregate(connect: Sessions, daemon: DaemonProcess) -> None:
    session = connect()
    session.execute("SELECT steadytext_generate('warm', 2)")
    session.execute("SET statement_timeout = '500ms'")
    with pytest.raises(psycopg.errors.QueryCanceled):
        session.execute("SELECT steadytext_agg('Tree ' || g, 'Count the trees.') FROM generate_series(1, 10000) g")
    session.execute("RESET statement_timeout")
    assert one(session, "SELECT steadytext_generate('after', 2)")


def test_only_users_summarize(connect: Sessions, make_role: Any, daemon: DaemonProcess) -> None:
    user, reader = connect(user=make_role("steadytext_user")), connect(user=make_role("steadytext_reader"))
    for call in ("steadytext_summarize('A tree.', '{\"max_tokens\": 4}')", "st_extract_facts('A tree is a plant.', 1)"):
        assert one(user, f"SELECT {call}")
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            reader.execute(f"SELECT {call}".encode())
