"""Code of a table's owner that takes too long holds up nobody else."""

from __future__ import annotations

import time

import psycopg
import pytest

from tests.queue.workers import until
from tests.store.conftest import Store
from tests.support.databases import Roles, Sessions

TOO_SLOW = "code of the owner of table public.t took longer than 1 s"
SLEEPS = "PERFORM pg_sleep(600);"
CATCHES = """LOOP
    BEGIN
        LOOP BEGIN PERFORM pg_sleep(600); EXCEPTION WHEN OTHERS OR query_canceled THEN NULL; END; END LOOP;
    EXCEPTION WHEN query_canceled THEN
        BEGIN PERFORM set_config('statement_timeout', '0', false); EXCEPTION WHEN query_canceled THEN END;
    END;
END LOOP;"""
"""Catches the cancel, in what catches the cancel of that, for ever."""
ENDS_LATE = "BEGIN PERFORM pg_sleep(600); EXCEPTION WHEN query_canceled THEN RETURN {}; END;"
LOOPS = "LOOP NULL; END LOOP;"
FILTER = "CREATE OR REPLACE FUNCTION holds() RETURNS bool LANGUAGE plpgsql AS $$ BEGIN {} RETURN true; END $$"
TRIGGER = "CREATE FUNCTION fire() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN {} RETURN coalesce(NEW, OLD); END $$"


@pytest.fixture
def owner(store: Store, make_role: Roles, connect: Sessions) -> psycopg.Connection:
    """An ordinary owner's session with a table ``t``, and a declared table ``theirs`` of somebody else."""
    name = make_role("steadytext_user")
    store.run(
        "SELECT steadytext_config_set('owner_code_seconds', '1')",
        f'GRANT CREATE ON SCHEMA public TO "{name}"',
        "CREATE TABLE theirs (id int PRIMARY KEY, body text)",
        "SELECT steadytext_autoembed('theirs', 'body')",
    )
    session = connect(user=name)
    session.execute("CREATE TABLE t (id int PRIMARY KEY, body text)")
    return session


def served(store: Store) -> bool:
    """Whether new rows of somebody else's are embedded soon."""
    store.run("INSERT INTO theirs SELECT count(*), 'a text' FROM theirs")
    return store.value("SELECT steadytext_autoembed_wait('theirs', 15)") is True


def declared(store: Store) -> list[tuple[object, ...]]:
    return store.rows("SELECT state, reason FROM steadytext_autoembeddings WHERE relation = 't'::regclass")


def run(session: psycopg.Connection, *statements: str) -> None:
    for statement in statements:
        session.execute(statement.encode())


@pytest.mark.parametrize(
    "body", [SLEEPS, CATCHES, LOOPS, ENDS_LATE.format("true")], ids=["sleeps", "catches", "loops", "late"]
)
def test_a_slow_filter_breaks_its_declaration_only(working: Store, owner: psycopg.Connection, body: str) -> None:
    run(
        owner,
        FILTER.format(body),
        "SELECT steadytext_autoembed('t', 'body', filter => 'holds()')",
        "INSERT INTO t SELECT n, 'one' FROM generate_series(1, 200) n",
    )
    assert served(working)
    until(lambda: declared(working) == [("broken", TOO_SLOW)], 10, lambda: str(declared(working)))
    assert served(working)
    assert working.value("SELECT count(*) FROM _steadytext_autoembed_work WHERE worker_id IS NOT NULL OR failed") == 0
    run(owner, FILTER.format(""), "SELECT steadytext_autoembed_alter('t')")
    assert owner.execute("SELECT steadytext_autoembed_wait('t', 20)").fetchone() == (True,)
    assert working.rows("SELECT count(*), count(embedding) FROM t") == [(200, 200)]


@pytest.mark.parametrize("body", [SLEEPS, CATCHES], ids=["sleeps", "catches"])
@pytest.mark.parametrize("destination", ["column", "chunks"])
def test_a_slow_trigger_breaks_its_declaration_only(
    working: Store, owner: psycopg.Connection, destination: str, body: str
) -> None:
    chunks, fires = "", "UPDATE ON t"
    if destination == "chunks":
        chunks, fires = """, chunking => '{"by": "characters"}'""", "INSERT ON t_chunks"
    run(
        owner,
        f"SELECT steadytext_autoembed('t', 'body'{chunks})",
        TRIGGER.format(body),
        f"CREATE TRIGGER fire BEFORE {fires} FOR EACH ROW EXECUTE FUNCTION fire()",
        "INSERT INTO t SELECT n, 'one' FROM generate_series(1, 5) n",
    )
    assert served(working)
    until(lambda: declared(working) == [("broken", TOO_SLOW)], 10, lambda: str(declared(working)))
    assert served(working)
    assert working.value("SELECT count(*) FROM _steadytext_autoembed_work WHERE worker_id IS NOT NULL OR failed") == 0
    run(owner, "DROP FUNCTION fire() CASCADE", "SELECT steadytext_autoembed_alter('t')")
    assert owner.execute("SELECT steadytext_autoembed_wait('t', 20)").fetchone() == (True,)


def test_rows_that_are_slow_one_by_one_share_one_limit(working: Store, owner: psycopg.Connection) -> None:
    """As where the batch fails at once, and each row alone takes less than the limit."""
    run(
        owner,
        "CREATE FUNCTION holds(id int) RETURNS bool LANGUAGE plpgsql AS $$ BEGIN"
        " IF id = 1 THEN RAISE 'no'; END IF; PERFORM pg_sleep(0.3); RETURN true; END $$",
        "SELECT steadytext_autoembed('t', 'body', filter => 'holds(id)')",
        "INSERT INTO t SELECT n, 'one' FROM generate_series(1, 60) n",
    )
    assert served(working)
    until(lambda: declared(working) == [("broken", TOO_SLOW)], 10, lambda: str(declared(working)))
    assert served(working)


def test_an_owner_who_locks_the_declaration_keeps_nobody_waiting(
    working: Store, owner: psycopg.Connection, connect: Sessions
) -> None:
    run(
        owner,
        FILTER.format(SLEEPS),
        "SELECT steadytext_autoembed('t', 'body', filter => 'holds()')",
        "BEGIN",
        "SELECT steadytext_autoembed_alter('t', backfill_rate => 5)",
    )
    with connect(user=owner.info.user) as other:
        other.execute("INSERT INTO t VALUES (1, 'one')")
    assert served(working)
    assert served(working)
    owner.rollback()


def test_a_layers_slow_function_fails_its_row_only(store: Store, owner: psycopg.Connection) -> None:
    run(
        owner,
        "CREATE TABLE made (id text PRIMARY KEY, source_id text, said text)",
        "CREATE FUNCTION says(key text, words text) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN"
        f" IF key = '1' THEN {CATCHES} END IF; RETURN jsonb_build_array(jsonb_build_object('said', words)); END $$",
        "SELECT steadytext_layer('t', 'made', 'nothing', 'says(text,text)', column_name => 'body')",
        "INSERT INTO t VALUES (1, 'one'), (2, 'two')",
    )
    store.start("--lanes", "layer")
    until(lambda: store.rows("SELECT said FROM made") == [("two",)], 15)
    reason = TOO_SLOW.replace("public.t", "public.made")
    failures = "SELECT key, error FROM steadytext_layer_failures('made')"
    until(lambda: store.rows(failures) == [("1", reason)], 15, lambda: str(store.rows(failures)))


@pytest.mark.parametrize("where", ["filter", "trigger"])
def test_whoever_runs_it_in_a_session_is_told(store: Store, owner: psycopg.Connection, where: str) -> None:
    run(
        owner,
        FILTER.format(CATCHES if where == "filter" else ""),
        TRIGGER.format(SLEEPS),
        "SELECT steadytext_autoembed('t', 'body', filter => 'holds()')",
    )
    if where == "trigger":
        run(owner, "CREATE TRIGGER fire BEFORE UPDATE ON t FOR EACH ROW EXECUTE FUNCTION fire()")
    run(owner, "INSERT INTO t VALUES (1, 'one')")
    store.run("SET statement_timeout = 0")
    with pytest.raises(psycopg.errors.QueryCanceled, match=f"^{TOO_SLOW}"):
        store.run("SELECT steadytext_autoembed_run('t')")
    store.run("SELECT pg_sleep(1.5)")  # no timer goes on


def test_a_statement_that_ends_in_time_leaves_no_timer(store: Store, owner: psycopg.Connection) -> None:
    run(
        owner,
        FILTER.format("PERFORM pg_sleep(0.2);"),
        "SELECT steadytext_autoembed('t', 'body', filter => 'holds()')",
        "INSERT INTO t VALUES (1, 'one')",
    )
    store.run("SET statement_timeout = 0")
    assert store.value("SELECT steadytext_autoembed_run('t')") == 1
    store.run("SELECT pg_sleep(1.5)")
    assert store.rows("SELECT id FROM t WHERE embedding IS NOT NULL") == [(1,)]


def test_a_limit_that_comes_with_the_statements_end_cancels_no_other(store: Store, owner: psycopg.Connection) -> None:
    run(
        owner,
        TRIGGER.format("PERFORM pg_sleep(0.01);"),
        "CREATE TRIGGER fire AFTER INSERT ON t FOR EACH ROW EXECUTE FUNCTION fire()",
    )
    store.run("SET statement_timeout = 0")
    ended = []
    for n in range(240):
        statement = f"INSERT INTO t VALUES ({n}) RETURNING id::text AS key, body AS value, body AS note"
        limit = f"until => clock_timestamp() + '{9 + n % 30 / 10} ms'"
        try:
            store.run(f"SELECT r.*, pg_sleep(0.002) FROM _steadytext_as_owner_of('t', '{statement}', {limit}) r")
            ended.append("in time")
        except psycopg.Error as error:
            ended.append(str(error.sqlstate))
    assert set(ended) == {"in time", "ST002"}


def test_a_timeout_of_the_callers_own_stays_theirs(store: Store, owner: psycopg.Connection) -> None:
    run(
        owner,
        FILTER.format(SLEEPS),
        "SELECT steadytext_autoembed('t', 'body', filter => 'holds()')",
        "INSERT INTO t VALUES (1, 'one')",
    )
    store.run("SET statement_timeout = '300ms'")
    began = time.monotonic()
    with pytest.raises(psycopg.errors.QueryCanceled, match="canceling statement due to statement timeout"):
        store.run("SELECT steadytext_autoembed_run('t')")
    assert time.monotonic() - began < 5


def test_a_slow_immutable_function_breaks_what_follows_a_table(working: Store, owner: psycopg.Connection) -> None:
    """The planner runs it."""
    immutable = FILTER.replace("AS $$", "IMMUTABLE AS $$")
    run(
        owner,
        "CREATE TABLE q (id int PRIMARY KEY, body text) PARTITION BY RANGE (id)",
        immutable.format(""),
        "SELECT steadytext_autoembed('q', 'body', filter => 'holds()')",
        immutable.format(SLEEPS),
    )
    working.run("SET statement_timeout = 0", "SELECT _steadytext_autoembed_look_after()")
    assert working.rows("SELECT state, reason FROM steadytext_autoembeddings WHERE relation = 'q'::regclass") == [
        ("broken", "its filter cannot be used: " + TOO_SLOW.replace("public.t", "public.q"))
    ]
    began = time.monotonic()
    working.run("SELECT _steadytext_autoembed_look_after()")
    assert time.monotonic() - began < 0.9
    run(owner, immutable.format(""), "SELECT steadytext_autoembed_alter('q')")
    assert owner.execute("SELECT steadytext_autoembed_wait('q', 20)").fetchone() == (True,)
