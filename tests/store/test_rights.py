"""Whose rights: an owner's code never has more than the owner's, a search no more than the caller's."""

from __future__ import annotations

from collections.abc import Iterator

import psycopg
import pytest
from psycopg import sql

from tests.queue.workers import until
from tests.store.conftest import Store
from tests.support.databases import Roles, Sessions

TAKE_OVER = """
CREATE FUNCTION take_over() RETURNS bool LANGUAGE plpgsql AS $$
BEGIN
    {0}
    BEGIN EXECUTE 'RESET ROLE'; EXCEPTION WHEN OTHERS THEN NULL; END;
    BEGIN EXECUTE 'RESET SESSION AUTHORIZATION'; EXCEPTION WHEN OTHERS THEN NULL; END;
    BEGIN EXECUTE 'DECLARE evil CURSOR WITH HOLD FOR SELECT escalate()'; EXCEPTION WHEN OTHERS THEN NULL; END;
    BEGIN EXECUTE 'PREPARE evil AS SELECT escalate()'; EXCEPTION WHEN OTHERS THEN NULL; END;
    BEGIN EXECUTE 'SET search_path = evil, public'; EXCEPTION WHEN OTHERS THEN NULL; END;
    PERFORM escalate();
    RETURN true;
END $$"""
ESCALATE = """
CREATE FUNCTION escalate() RETURNS bool LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO ran VALUES (current_user, current_setting('is_superuser'));
    EXECUTE format('ALTER ROLE %I SUPERUSER', (SELECT tableowner FROM pg_tables WHERE tablename = 'ran'));
    RETURN true;
EXCEPTION WHEN insufficient_privilege THEN
    INSERT INTO ran VALUES (current_user, 'refused');
    RETURN true;
END $$"""


@pytest.fixture
def owner(make_role: Roles, store: Store) -> str:
    """An ordinary user of the extension who may make tables."""
    name = make_role("steadytext_user")
    store.run(f'GRANT CREATE ON SCHEMA public TO "{name}"')
    return name


def is_super(store: Store, role: str) -> object:
    return store.value("SELECT rolsuper FROM pg_roles WHERE rolname = %s", role)


def test_an_ordinary_owner_declares_inserts_and_finds(working: Store, owner: str, connect: Sessions) -> None:
    session = connect(user=owner)
    session.execute("CREATE TABLE mine (id int PRIMARY KEY, body text)")
    session.execute("SELECT steadytext_autoembed('mine', 'body')")
    session.execute("INSERT INTO mine VALUES (1, 'Trees drink by their roots.')")
    assert session.execute("SELECT steadytext_autoembed_wait('mine')").fetchone() == (True,)
    found = session.execute("SELECT key FROM steadytext_search('mine', 'how do plants drink')").fetchall()
    assert found == [({"id": 1},)]
    assert session.execute("SELECT total, embedded, pending FROM steadytext_autoembed_status()").fetchall() == [
        (1, 1, 0)
    ]


def test_nobody_declares_on_anothers_table_or_sees_its_declaration(store: Store, owner: str, connect: Sessions) -> None:
    store.run("CREATE TABLE theirs (id int PRIMARY KEY, body text)")
    session = connect(user=owner)
    with pytest.raises(psycopg.errors.InsufficientPrivilege, match="must be owner of table"):
        session.execute("SELECT steadytext_autoembed('theirs', 'body')")
    store.run("SELECT steadytext_autoembed('theirs', 'body')")
    for call in ("status", "failures", "retry", "pause", "resume", "drop", "wait", "run", "alter"):
        with pytest.raises(psycopg.errors.InsufficientPrivilege, match="must be owner of table"):
            session.execute(f"SELECT steadytext_autoembed_{call}('theirs')".encode())
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        session.execute("SELECT * FROM steadytext_search('theirs', 'x')")
    assert session.execute("SELECT * FROM steadytext_autoembeddings").fetchall() == []


@pytest.mark.parametrize("place", ["filter", "trigger", "deferred", "check"])
def test_an_owners_code_runs_as_the_owner_in_the_worker(
    working: Store, owner: str, connect: Sessions, place: str
) -> None:
    session = connect(user=owner)
    for statement in (
        "CREATE TABLE ran (who name, super text)",
        ESCALATE,
        TAKE_OVER.format(""),
        "CREATE FUNCTION fire() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM take_over(); RETURN NEW; END $$",
        "CREATE TABLE mine (id int PRIMARY KEY, body text, embedding vector(384))",
        "SELECT steadytext_autoembed('mine', 'body'" + (", filter => 'take_over()')" if place == "filter" else ")"),
    ):
        session.execute(statement.encode())
    match place:
        case "trigger":
            session.execute("CREATE TRIGGER t BEFORE UPDATE ON mine FOR EACH ROW EXECUTE FUNCTION fire()")
        case "deferred":
            session.execute(
                "CREATE CONSTRAINT TRIGGER t AFTER UPDATE ON mine DEFERRABLE INITIALLY DEFERRED"
                " FOR EACH ROW EXECUTE FUNCTION fire()"
            )
        case "check":
            session.execute("ALTER TABLE mine ADD CHECK (embedding IS NULL OR take_over())")
    session.execute("INSERT INTO mine VALUES (1, 'words')")
    working.settle()
    working.run("INSERT INTO mine VALUES (2, 'more')")
    working.settle()
    assert is_super(working, owner) is False
    assert set(working.rows("SELECT who, super FROM ran")) <= {(owner, "refused")}
    assert working.stale("mine WHERE embedding IS NOT NULL") == []
    if place == "deferred":
        errors = set(working.rows("SELECT code, error FROM steadytext_autoembed_failures('mine')"))
        assert errors == {("42501", "cannot fire deferred trigger within security-restricted operation")}
    if place in ("filter", "check"):
        assert working.rows("SELECT count(*) > 0 FROM ran") == [(True,)]


def test_a_filter_cannot_smuggle_a_statement_in(store: Store, owner: str, connect: Sessions) -> None:
    session = connect(user=owner)
    session.execute("CREATE TABLE mine (id int PRIMARY KEY, body text)")
    for text in (
        "true); ALTER ROLE current_user SUPERUSER; --",
        "true) OR (nothing",
        "1",
        "body",
        "(SELECT 1 FROM pg_authid) = 1",
    ):
        with pytest.raises(psycopg.errors.InvalidParameterValue):
            session.execute("SELECT steadytext_autoembed('mine', 'body', filter => %s)", (text,))
    assert is_super(store, owner) is False


def test_a_search_obeys_row_security_column_rights_and_the_callers_own_filter(
    working: Store, owner: str, make_role: Roles, connect: Sessions
) -> None:
    reader = make_role("steadytext_user")
    session = connect(user=owner)
    for statement in (
        "CREATE TABLE mine (id int PRIMARY KEY, body text, who name)",
        "SELECT steadytext_autoembed('mine', 'body')",
        f"INSERT INTO mine VALUES (1, 'trees and water', '{reader}'), (2, 'trees and roots', 'nobody')",
        "ALTER TABLE mine ENABLE ROW LEVEL SECURITY",
        "CREATE POLICY own ON mine FOR SELECT USING (who = current_user)",
    ):
        session.execute(statement.encode())
    working.settle()
    other = connect(user=reader)
    query = "SELECT key FROM steadytext_search('mine', 'trees', mode => %s)"
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        other.execute(query, ("hybrid",))
    session.execute(f'GRANT SELECT (id, who) ON mine TO "{reader}"'.encode())
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        other.execute(query, ("hybrid",))
    session.execute(f'GRANT SELECT ON mine TO "{reader}"'.encode())
    for mode in ("hybrid", "vector", "keyword"):
        assert other.execute(query, (mode,)).fetchall() == [({"id": 1},)]
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        other.execute("SELECT * FROM steadytext_search('mine', 'x', filter => 'EXISTS (SELECT FROM pg_authid)')")


def test_forced_row_security_does_not_hide_rows_from_the_worker(working: Store, owner: str, connect: Sessions) -> None:
    session = connect(user=owner)
    for statement in (
        "CREATE TABLE mine (id int PRIMARY KEY, body text)",
        "SELECT steadytext_autoembed('mine', 'body')",
        "INSERT INTO mine VALUES (1, 'words')",
        "ALTER TABLE mine ENABLE ROW LEVEL SECURITY",
        "ALTER TABLE mine FORCE ROW LEVEL SECURITY",
    ):
        session.execute(statement.encode())
    working.settle()
    assert working.stale("mine") == []


def test_keys_of_rows_that_wait_are_for_those_who_may_read_the_key(
    store: Store, make_role: Roles, connect: Sessions
) -> None:
    reader = make_role("steadytext_user")
    store.run(
        "CREATE TABLE t (email text PRIMARY KEY, body text)",
        "SELECT steadytext_autoembed('t', 'body')",
        f'GRANT SELECT (body) ON t TO "{reader}"',
        "INSERT INTO t VALUES ('anna@clinic.example', 'has a cold')",
    )
    session = connect(user=reader)
    told = "SELECT _steadytext_search_pending('t', i) FROM generate_series(1, 100) i"
    assert {tuple(keys) for (keys,) in session.execute(told)} == {()}
    store.run(f'GRANT SELECT (email) ON t TO "{reader}"')
    assert ("anna@clinic.example",) in {tuple(keys) for (keys,) in session.execute(told)}


@pytest.mark.parametrize("place", ["key", "column", "destination"])
def test_a_columns_name_is_no_code(store: Store, owner: str, connect: Sessions, place: str) -> None:
    """A function's body that a name could end would go on as the extension's owner's commands."""
    session = connect(user=owner)
    session.execute("SET check_function_bodies = off")
    for mark in ("$capture$", "$$", "'", "\\'", '"'):
        name = f'x{mark}; ALTER ROLE "{owner}" SUPERUSER; --'[:63]
        quoted = sql.Identifier(name)
        key, column = (quoted if place == kind else sql.Identifier(kind) for kind in ("key", "column"))
        session.execute(sql.SQL("CREATE TABLE odd ({} int PRIMARY KEY, {} text)").format(key, column))
        session.execute(
            "SELECT steadytext_autoembed('odd', %s, destination => %s)",
            (name if place == "column" else "column", name if place == "destination" else "vector"),
        )
        session.execute("INSERT INTO odd VALUES (1, 'one')")
        session.execute(sql.SQL("UPDATE odd SET {} = 'two'").format(column))
        assert store.value("SELECT count(*) FROM _steadytext_autoembed_log") == 2
        assert not is_super(store, owner)
        session.execute("DROP TABLE odd")
        store.run("DELETE FROM _steadytext_autoembed_log")


def test_a_trigger_function_that_somebody_made_is_not_taken(store: Store, owner: str, connect: Sessions) -> None:
    store.run("CREATE TABLE kept (id int PRIMARY KEY, body text)")
    declared = store.value("SELECT steadytext_autoembed('kept', 'body')")
    session = connect(user=owner)
    name = f"_steadytext_autoembed_{int(str(declared)) + 1}_insert"
    session.execute(f"CREATE FUNCTION {name}() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'".encode())
    store.run("CREATE TABLE theirs (id int PRIMARY KEY, body text)")
    with pytest.raises(psycopg.errors.DuplicateFunction, match=f"role {owner} has made a function public.{name}"):
        store.run("SELECT steadytext_autoembed('theirs', 'body')")


CASTS = """
CREATE TYPE plot AS (a int);
CREATE TYPE plot_word AS ENUM ('1', '2');
CREATE DOMAIN plot_key AS plot_word;
CREATE FUNCTION met() RETURNS int LANGUAGE plpgsql IMMUTABLE AS $$
BEGIN
    IF current_user <> session_user THEN
        RAISE 'run as %', current_user;
    END IF;
    RETURN 1;
END $$;
CREATE FUNCTION plot_text(plot) RETURNS text LANGUAGE sql IMMUTABLE AS 'SELECT public.met()::text';
CREATE FUNCTION plot_json(plot) RETURNS json LANGUAGE sql IMMUTABLE AS 'SELECT public.met()::text::json';
CREATE FUNCTION plot_bytes(plot) RETURNS bytea LANGUAGE sql IMMUTABLE AS 'SELECT public.met()::text::bytea';
CREATE FUNCTION plot_number(plot_word) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT public.met()';
CREATE CAST (plot AS text) WITH FUNCTION plot_text(plot) AS ASSIGNMENT;
CREATE CAST (plot AS json) WITH FUNCTION plot_json(plot) AS IMPLICIT;
CREATE CAST (plot AS bytea) WITH FUNCTION plot_bytes(plot) AS IMPLICIT;
CREATE CAST (plot_word AS int) WITH FUNCTION plot_number(plot_word) AS IMPLICIT
"""


@pytest.fixture
def casts(store: Store, owner: str, connect: Sessions) -> Iterator[psycopg.Connection]:
    """A session of an owner whose types have casts that tell when they run with another's rights."""
    session = connect(user=owner)
    session.execute(CASTS.encode())
    yield session
    store.run("DROP TYPE plot, plot_word CASCADE")


@pytest.mark.parametrize("kind", ["int", "date", "bytea"])
def test_a_column_that_comes_in_the_place_of_a_key_runs_no_cast(casts: psycopg.Connection, kind: str) -> None:
    """ALTER VIEW renames columns of tables too, and nobody follows it."""
    casts.execute(f"CREATE TABLE t (id {kind} PRIMARY KEY, body text, other plot)".encode())
    casts.execute("SELECT steadytext_autoembed('t', 'body')")
    casts.execute("ALTER VIEW t RENAME COLUMN id TO former")
    casts.execute("ALTER VIEW t RENAME COLUMN other TO id")
    value = {"int": "1", "date": "2026-01-01", "bytea": "a"}[kind]
    casts.execute("INSERT INTO t VALUES (%s, 'a', '(1)')", (value,))
    casts.execute("UPDATE t SET body = 'b'")


def test_a_trigger_that_stays_with_a_detached_partition_runs_no_cast(casts: psycopg.Connection) -> None:
    """Those that have another name are left where they are, and the table may become any other."""
    for statement in (
        "CREATE TABLE t (place int, id int, body text, PRIMARY KEY (place, id)) PARTITION BY RANGE (place)",
        "CREATE TABLE p PARTITION OF t FOR VALUES FROM (0) TO (10)",
        "SELECT steadytext_autoembed('t', 'body')",
        "ALTER TRIGGER _steadytext_autoembed_1_insert ON p RENAME TO inserts",
        "ALTER TRIGGER _steadytext_autoembed_1_update ON p RENAME TO updates",
        "ALTER TABLE t DETACH PARTITION p",
        "ALTER TABLE p DROP CONSTRAINT p_pkey, ALTER id DROP NOT NULL",
        "ALTER TABLE p ALTER id TYPE plot USING NULL",
        "INSERT INTO p VALUES (1, '(1)', 'a')",
        "UPDATE p SET body = 'b'",
    ):
        casts.execute(statement.encode())


def test_keys_are_compared_without_a_cast(casts: psycopg.Connection) -> None:
    """Where a domain has no operator of its own, PostgreSQL takes one that a cast leads to."""
    for statement in (
        "CREATE TABLE t (id plot_key PRIMARY KEY, content text)",
        "CREATE TABLE made (id text PRIMARY KEY, source_id text, content text)",
        "SELECT steadytext_autoembed('t', 'content')",
        "SELECT steadytext_layer('t', 'made')",
        "INSERT INTO t VALUES ('1', 'a')",
        "UPDATE t SET content = 'b'",
        "ALTER TABLE t ENABLE ALWAYS TRIGGER _steadytext_autoembed_1_row",  # else only where replication applies
        "UPDATE t SET content = 'c'",
    ):
        casts.execute(statement.encode())


def test_keys_are_noted_alike_whatever_the_session_sets(casts: psycopg.Connection, store: Store) -> None:
    kinds = {
        "date": "2026-02-01",
        "timestamp": "2026-02-01 03:04:05",
        "bytea": "ab",
        "boolean": "true",
        "inet": "10.0.0.1",
    }
    for kind, value in kinds.items():
        casts.execute(f"CREATE TABLE t (id {kind} PRIMARY KEY, body text)".encode())
        casts.execute("SELECT steadytext_autoembed('t', 'body')")
        for style, output in (("ISO, MDY", "hex"), ("SQL, DMY", "escape")):
            casts.execute(f"SET DateStyle = '{style}'; SET bytea_output = '{output}'".encode())
            casts.execute(
                "INSERT INTO t VALUES (%s, 'a') ON CONFLICT (id) DO UPDATE SET body = t.body || 'b'", (value,)
            )
        noted = "SELECT count(DISTINCT keys), count(*) FROM _steadytext_autoembed_log"
        assert store.rows(noted) == [(1, 2)], kind
        assert store.value("SELECT steadytext_autoembed_run('t')") == 1
        assert store.value("SELECT embedding IS NOT NULL FROM t") is True
        casts.execute("RESET DateStyle; RESET bytea_output; DROP TABLE t")


HOLDS = """
CREATE OR REPLACE FUNCTION holds() RETURNS bool LANGUAGE plpgsql IMMUTABLE AS $$ BEGIN {}; RETURN true; END $$"""


@pytest.fixture
def others(working: Store, owner: str, connect: Sessions) -> psycopg.Connection:
    """A session of an owner who declares table `t`, with id and body; somebody else's `theirs` is embedded too."""
    working.run(
        "CREATE TABLE theirs (id int PRIMARY KEY, body text)",
        "SELECT steadytext_autoembed('theirs', 'body')",
    )
    return connect(user=owner)


def served(working: Store) -> bool:
    """Whether a new row of somebody else's is embedded soon."""
    working.run("INSERT INTO theirs SELECT count(*), 'a text' FROM theirs")
    return working.value("SELECT steadytext_autoembed_wait('theirs', 15)") is True


@pytest.mark.parametrize(
    ("said", "statements"),
    [
        (
            "its rows cannot be read: permission denied for table t",
            [
                "CREATE TABLE t (id int PRIMARY KEY, body text)",
                "BEGIN",
                "SELECT steadytext_autoembed('t', 'body')",
                "REVOKE SELECT ON t FROM CURRENT_USER",
                "COMMIT",
            ],
        ),
        (
            'its table cannot be followed: trigger "_steadytext_autoembed_2_update" for relation "p" already exists',
            [
                "CREATE TABLE t (id int PRIMARY KEY, body text) PARTITION BY RANGE (id)",
                "CREATE TABLE p PARTITION OF t FOR VALUES FROM (1) TO (9)",
                "SELECT steadytext_autoembed('t', 'body')",
                "DROP TRIGGER _steadytext_autoembed_2_insert ON p",
            ],
        ),
        (
            "its table cannot be followed: no",
            [
                "CREATE TABLE t (id int PRIMARY KEY, body text) PARTITION BY RANGE (id)",
                HOLDS.format("NULL"),
                "SELECT steadytext_autoembed('t', 'body', filter => 'holds()')",
                HOLDS.format("ASSERT false, 'no'"),
            ],
        ),
    ],
)
def test_what_is_wrong_with_one_table_keeps_no_worker_from_the_others(
    working: Store, others: psycopg.Connection, said: str, statements: list[str]
) -> None:
    for statement in statements:
        others.execute(statement.encode())
    assert served(working)
    working.run("SELECT _steadytext_autoembed_look_after()")  # as a worker does once in a while
    found = working.rows("SELECT state, reason FROM steadytext_autoembeddings WHERE id = 2")
    assert found == [("broken", said)]
    assert served(working)


@pytest.mark.parametrize("code", ["57014", "P0004", "P0001"])
def test_an_owners_code_that_looks_like_a_cancel_stops_no_worker(
    working: Store, others: psycopg.Connection, code: str
) -> None:
    for statement in (
        "CREATE TABLE t (id int PRIMARY KEY, body text)",
        HOLDS.replace("IMMUTABLE", "").format(f"RAISE 'no' USING ERRCODE = '{code}'"),
        "SELECT steadytext_autoembed('t', 'body', filter => 'id <> 2 OR holds()')",
        "INSERT INTO t VALUES (1, 'one'), (2, 'two'), (3, 'three')",
    ):
        others.execute(statement.encode())
    assert served(working)
    until(lambda: working.value("SELECT count(embedding) FROM t") == 2, 15)
    until(lambda: working.value("SELECT min(error) FROM _steadytext_autoembed_work WHERE retry_count > 0") == "no", 15)


def test_who_locks_a_table_of_theirs_holds_up_no_other(
    working: Store, others: psycopg.Connection, connect: Sessions, owner: str
) -> None:
    others.execute("CREATE TABLE t (id int PRIMARY KEY, body text)")
    others.execute("SELECT steadytext_autoembed('t', 'body')")
    worker = working.value("SELECT _steadytext_worker_register('by hand', '1 min')")
    working.run("SELECT steadytext_autoembed_pause('theirs')")
    with connect(user=owner) as locking:
        locking.autocommit = False
        locking.execute("LOCK TABLE t")
        working.run("SET statement_timeout = '10s'")
        finished = (
            "SELECT _steadytext_autoembed_finish(%s, 2, 1, '{}', '{}',"
            " ARRAY[1], '{1}', '{x}', '{null}', '{null}', '{null}')"
        )
        assert working.value(finished, worker) == 0
        working.run("RESET statement_timeout", "SELECT steadytext_autoembed_resume('theirs')")
        assert served(working)
        locking.rollback()


def test_nobodys_command_waits_for_what_somebody_else_has_locked(store: Store, owner: str, connect: Sessions) -> None:
    """Event triggers tidy up after all tables."""
    session, locking = connect(user=owner), connect(user=owner)
    for statement in (
        "CREATE TABLE t (id int PRIMARY KEY, content text)",
        "CREATE TABLE made (id text PRIMARY KEY, source_id text, content text)",
        "SELECT steadytext_layer('t', 'made')",
        "CREATE TABLE q (id int PRIMARY KEY, body text) PARTITION BY RANGE (id)",
        "CREATE TABLE p PARTITION OF q FOR VALUES FROM (1) TO (9)",
        "SELECT steadytext_autoembed('q', 'body')",
        "SET steadytext.following = 'on'",
        "DROP TABLE made",
        "ALTER TABLE q DETACH PARTITION p",
    ):
        session.execute(statement.encode())
    locking.autocommit = False
    locking.execute("LOCK TABLE t, p")
    store.run("SET statement_timeout = '5s'", "CREATE TABLE theirs (id int)", "ALTER TABLE theirs ADD body text")
    locking.rollback()
    store.run("ALTER TABLE theirs ADD more text")
    assert (
        store.rows("SELECT tgname FROM pg_trigger WHERE tgrelid IN ('t'::regclass, 'p'::regclass) AND NOT tgisinternal")
        == []
    )
    assert store.rows("SELECT * FROM steadytext_layers") == []


def test_which_keys_there_are_is_not_told_to_whoever_may_not_read_them(
    store: Store, connect: Sessions, make_role: Roles
) -> None:
    reader = make_role("steadytext_user")
    store.run(
        "CREATE TABLE t (email text PRIMARY KEY, body text)",
        "SELECT steadytext_autoembed('t', 'body', filter => 'body IS NOT NULL')",
        "INSERT INTO t VALUES ('anna@clinic.example', 'a text')",
        f'GRANT SELECT (body) ON t TO "{reader}"',
    )
    session = connect(user=reader)
    asked = "SELECT _steadytext_search_admitted('t', 1, ARRAY['anna@clinic.example', 'bert@clinic.example'])"
    assert session.execute(asked.encode()).fetchone() == ([],)
    store.run(f'GRANT SELECT (email) ON t TO "{reader}"')
    assert session.execute(asked.encode()).fetchone() == (["anna@clinic.example"],)


def test_a_readers_function_meets_no_row_of_anothers_table(store: Store, owner: str, connect: Sessions) -> None:
    store.run("CREATE TABLE theirs (id int PRIMARY KEY, body text)", "SELECT steadytext_autoembed('theirs', 'body')")
    session = connect(user=owner)
    for statement in (
        "CREATE TABLE mine (id int PRIMARY KEY, body text)",
        "SELECT steadytext_autoembed('mine', 'body')",
        "CREATE SEQUENCE met",
        "CREATE FUNCTION meets(regclass) RETURNS bool LANGUAGE plpgsql AS 'BEGIN RETURN nextval(''met'') > 0; END'",
        "ALTER FUNCTION meets COST 0.0001",
        "SET enable_nestloop = off",
        "SELECT * FROM steadytext_store_stats WHERE meets(relation)",
    ):
        session.execute(statement.encode())
    assert store.value("SELECT last_value FROM met") == 1


def test_whoever_searches_runs_no_cast_of_the_owners(store: Store, owner: str, connect: Sessions) -> None:
    """As whoever reads the table runs none."""
    session = connect(user=owner)
    session.execute(CASTS.replace("<> session_user", f"<> '{owner}'").encode())
    for statement in (
        "CREATE TYPE word AS ENUM ('1')",
        "CREATE FUNCTION word_json(word) RETURNS json LANGUAGE sql IMMUTABLE AS 'SELECT public.met()::text::json'",
        "CREATE CAST (word AS json) WITH FUNCTION word_json(word)",
        "CREATE TABLE t (id word PRIMARY KEY, body text, place plot)",
        "SELECT steadytext_autoembed('t', ARRAY['body', 'place'])",
        "INSERT INTO t VALUES ('1', 'trees drink', '(17)')",
    ):
        session.execute(statement.encode())
    assert store.value("SELECT steadytext_autoembed_run('t')") == 1
    for words in ("drink", "17"):
        assert store.value("SELECT key FROM steadytext_search('t', %s, mode => 'keyword')", words) == {"id": "1"}
    store.run("DROP TYPE plot, plot_word, word CASCADE")


def test_an_owner_makes_partitions_of_a_declared_table(working: Store, owner: str, connect: Sessions) -> None:
    session = connect(user=owner)
    for statement in (
        "CREATE TABLE t (id int PRIMARY KEY, body text) PARTITION BY RANGE (id)",
        "SELECT steadytext_autoembed('t', 'body')",
        "CREATE TABLE p PARTITION OF t FOR VALUES FROM (1) TO (9)",
        "INSERT INTO t VALUES (1, 'one')",
    ):
        session.execute(statement.encode())
    assert session.execute("SELECT steadytext_autoembed_wait('t')").fetchone() == (True,)


def test_who_holds_an_advisory_lock_keeps_nobody_for_ever(store: Store, owner: str, connect: Sessions) -> None:
    store.run("CREATE TABLE theirs (id int PRIMARY KEY, body text)", "SELECT steadytext_autoembed('theirs', 'body')")
    key = store.value("SELECT _steadytext_builder_key('theirs')")
    connect(user=owner).execute("SELECT pg_advisory_lock(%s)", (key,))
    store.run("SET statement_timeout = '20s'")
    with pytest.raises(psycopg.errors.LockNotAvailable, match="another session keeps the declarations of table"):
        store.run("SELECT steadytext_autoembed_pause('theirs')")


def test_a_chunk_tables_name_may_look_like_a_part_of_the_search(store: Store) -> None:
    store.run(
        "CREATE TABLE t (id int PRIMARY KEY, body text)",
        "INSERT INTO t VALUES (1, 'trees drink')",
        """SELECT steadytext_autoembed('t', 'body', destination => ') = (', chunking => '{"by": "characters"}')""",
    )
    assert store.value("SELECT key FROM steadytext_search('t', 'drink')") == {"id": 1}
