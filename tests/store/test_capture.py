"""Which changes are noted, and which cost nothing: no worker runs here, so that the log can be read."""

from __future__ import annotations

import psycopg
import pytest

from tests.support.databases import Sessions


class Log:
    """The log of one database, and its one declared table."""

    def __init__(self, connection: psycopg.Connection) -> None:
        self.connection = connection

    def run(self, *statements: str) -> None:
        for statement in statements:
            self.connection.execute(statement.encode())

    def taken(self) -> list[str]:
        """The keys that were noted since the last call, in order."""
        rows = self.connection.execute(
            "WITH l AS (DELETE FROM _steadytext_autoembed_log RETURNING id, keys)"
            " SELECT k.key FROM l, unnest(l.keys) WITH ORDINALITY k (key, place) ORDER BY l.id, k.place"
        ).fetchall()
        return [key for (key,) in rows]

    def queued(self) -> list[list[str]]:
        """The keys of each piece of work."""
        rows = self.connection.execute("SELECT keys FROM _steadytext_autoembed_work ORDER BY id").fetchall()
        return [keys for (keys,) in rows]


@pytest.fixture
def log(connection: psycopg.Connection) -> Log:
    """An empty table ``t (id, body, other)``, declared."""
    log = Log(connection)
    log.run(
        "CREATE TABLE t (id int PRIMARY KEY, body text, other int)",
        "SELECT steadytext_autoembed('t', 'body', backfill => false)",
    )
    return log


def test_an_insert_is_noted_with_one_entry_for_the_statement(log: Log) -> None:
    log.run("INSERT INTO t SELECT n, 'text', 0 FROM generate_series(1, 1000) n")
    assert log.connection.execute("SELECT count(*) FROM _steadytext_autoembed_log").fetchone() == (1,)
    assert log.taken() == [str(n) for n in range(1, 1001)]


def test_only_a_real_change_of_a_configured_column_is_noted(log: Log) -> None:
    log.run("INSERT INTO t VALUES (1, 'one', 0), (2, 'two', 0), (3, NULL, 0)")
    log.taken()
    log.run("UPDATE t SET other = other + 1", "UPDATE t SET body = body")
    log.run("UPDATE t SET embedding = array_fill(1, ARRAY[384])")
    assert log.taken() == []
    log.run("UPDATE t SET body = CASE id WHEN 2 THEN 'TWO' ELSE body END, other = 9")
    assert log.taken() == ["2"]
    log.run("UPDATE t SET body = 'three' WHERE id = 3", "UPDATE t SET body = NULL WHERE id = 1")
    assert log.taken() == ["3", "1"]


@pytest.mark.parametrize("role", ["origin", "replica"])
def test_a_vector_that_is_taken_away_is_made_anew(log: Log, role: str) -> None:
    log.run("INSERT INTO t VALUES (1, 'one', 0, array_fill(1, ARRAY[384])), (2, 'two', 0, NULL)")
    log.taken()
    log.run(
        f"SET session_replication_role = {role}",
        "INSERT INTO t VALUES (1, 'one', 0, NULL), (2, 'two', 0, NULL)"
        " ON CONFLICT (id) DO UPDATE SET (body, other, embedding) = (excluded.body, 1, excluded.embedding)",
        "RESET session_replication_role",
    )
    assert log.taken() == ["1"]


def test_a_row_whose_key_changes_is_noted_by_its_new_key(log: Log) -> None:
    log.run("INSERT INTO t VALUES (1, 'one', 0)")
    log.taken()
    log.run("UPDATE t SET id = 7")
    assert log.taken() == ["7"]


def test_copy_upsert_and_merge_are_noted(log: Log) -> None:
    with log.connection.cursor().copy("COPY t FROM STDIN") as copy:
        copy.write("1\tone\t0\t\\N\n2\ttwo\t0\t\\N\n")
    assert log.taken() == ["1", "2"]
    log.run("INSERT INTO t VALUES (2, 'two', 1), (3, 'three', 0) ON CONFLICT (id) DO UPDATE SET other = excluded.other")
    assert log.taken() == ["3"]
    log.run("INSERT INTO t VALUES (1, 'x', 1) ON CONFLICT DO NOTHING")
    assert log.taken() == []
    log.run(
        "MERGE INTO t USING (VALUES (1, 'ONE'), (4, 'four')) v (id, body) ON t.id = v.id"
        " WHEN MATCHED THEN UPDATE SET body = v.body WHEN NOT MATCHED THEN INSERT (id, body) VALUES (v.id, v.body)"
    )
    assert sorted(log.taken()) == ["1", "4"]


def test_what_is_rolled_back_leaves_nothing(log: Log) -> None:
    log.run("BEGIN", "INSERT INTO t VALUES (1, 'one', 0)", "ROLLBACK")
    with log.connection.transaction():
        log.run(
            "INSERT INTO t VALUES (2, 'two', 0)", "SAVEPOINT s", "INSERT INTO t VALUES (3, 'x', 0)", "ROLLBACK TO s"
        )
    assert log.taken() == ["2"]


def test_a_cascade_is_noted(log: Log) -> None:
    log.run(
        "CREATE TABLE parent (name text PRIMARY KEY)",
        "CREATE TABLE child (id int PRIMARY KEY, body text REFERENCES parent ON UPDATE CASCADE)",
        "SELECT steadytext_autoembed('child', 'body', backfill => false)",
        "INSERT INTO parent VALUES ('a'), ('b')",
        "INSERT INTO child VALUES (1, 'a'), (2, 'b')",
    )
    log.taken()
    log.run("UPDATE parent SET name = 'c' WHERE name = 'a'")
    assert log.taken() == ["1"]


def test_what_replication_applies_is_noted_row_by_row(log: Log) -> None:
    log.run(
        "SET session_replication_role = replica",
        "INSERT INTO t VALUES (1, 'one', 0), (2, 'two', 0)",
        "UPDATE t SET other = 5",
        "UPDATE t SET body = 'ONE' WHERE id = 1",
        "RESET session_replication_role",
    )
    assert log.taken() == ["1", "2", "1"]


@pytest.mark.parametrize(
    ("columns", "values", "keys"),
    [
        ("a int, b text, PRIMARY KEY (b, a)", "1, 'x,\"y'", ['["x,\\"y", "1"]']),
        ("a uuid PRIMARY KEY", "'6ba7b810-9dad-11d1-80b4-00c04fd430c8'", ["6ba7b810-9dad-11d1-80b4-00c04fd430c8"]),
        ("a timestamptz PRIMARY KEY", "'2020-02-01 00:00+00'", ["2020-02-01T00:00:00+00:00"]),
        ("a bytea PRIMARY KEY", "'\\x00ff'", ["00ff"]),
        ("a mood PRIMARY KEY", "'calm'", ["calm"]),
        ("a char(5) PRIMARY KEY", "'a b'", ["a b"]),
    ],
)
def test_keys_of_many_kinds_find_their_rows_again(
    connection: psycopg.Connection, columns: str, values: str, keys: list[str]
) -> None:
    log = Log(connection)
    log.run(
        'CREATE SCHEMA "Odd ""one"',
        "CREATE TYPE mood AS ENUM ('calm')",
        "SET TimeZone = 'UTC'",
        "SET DateStyle = 'SQL, DMY'",
        f'CREATE TABLE "Odd ""one"."T able" ({columns}, "Bo dy" text)',
        """SELECT steadytext_autoembed('"Odd ""one"."T able"', 'Bo dy', backfill => false)""",
        f"""INSERT INTO "Odd ""one"."T able" VALUES ({values}, 'words')""",
    )
    assert log.taken() == keys
    read = connection.execute(
        "SELECT r.key, r.words, r.error FROM steadytext_autoembeddings d, _steadytext_autoembed_read(d, %s) r", (keys,)
    ).fetchall()
    assert read == [(keys[0], "words", None)]


def test_every_way_into_a_partitioned_table_is_noted(log: Log) -> None:
    log.run(
        "CREATE TABLE p (id int, body text, PRIMARY KEY (id)) PARTITION BY RANGE (id)",
        "CREATE TABLE p1 PARTITION OF p FOR VALUES FROM (0) TO (10)",
        "SELECT steadytext_autoembed('p', 'body', backfill => false)",
        "CREATE TABLE p2 PARTITION OF p FOR VALUES FROM (10) TO (20)",
    )
    log.run(
        "INSERT INTO p VALUES (1, 'a'), (11, 'b')", "INSERT INTO p1 VALUES (2, 'c')", "INSERT INTO p2 VALUES (12, 'd')"
    )
    assert log.taken() == ["1", "11", "2", "12"]
    log.run("UPDATE p SET id = 13 WHERE id = 1", "UPDATE p2 SET body = 'D' WHERE id = 12")
    assert log.taken() == ["13", "12"]


def test_a_partition_that_is_attached_later_is_found_with_its_rows(log: Log) -> None:
    log.run(
        "CREATE TABLE p (id int, body text, PRIMARY KEY (id)) PARTITION BY RANGE (id)",
        "SELECT steadytext_autoembed('p', 'body')",
        "CREATE TABLE late (LIKE p INCLUDING ALL)",
        "INSERT INTO late VALUES (1, 'a')",
        "SELECT _steadytext_autoembed_backfill(id) FROM steadytext_autoembeddings WHERE relation_name = 'public.p'",
        "ALTER TABLE p ATTACH PARTITION late FOR VALUES FROM (0) TO (10)",
        "SELECT _steadytext_autoembed_look_after()",
        "INSERT INTO late VALUES (2, 'b')",
    )
    assert log.taken() == ["2"]
    assert log.queued() == [["1"]]


def test_what_changes_in_a_partition_while_it_is_detached_is_embedded_when_it_is_back(log: Log) -> None:
    log.run(
        "CREATE TABLE p (id int, body text, PRIMARY KEY (id)) PARTITION BY RANGE (id)",
        "CREATE TABLE p1 PARTITION OF p FOR VALUES FROM (0) TO (10)",
        "SELECT steadytext_autoembed('p', 'body', backfill => false)",
        "INSERT INTO p VALUES (1, 'a', array_fill(1, ARRAY[384])::vector)",
        "ALTER TABLE p DETACH PARTITION p1",
        "UPDATE p1 SET body = 'A'",
        "INSERT INTO p1 VALUES (2, 'b')",
    )
    assert log.taken() == ["1"]
    log.run(
        "ALTER TABLE p ATTACH PARTITION p1 FOR VALUES FROM (0) TO (10)",
        "SELECT _steadytext_autoembed_look_after()",
        "INSERT INTO p1 VALUES (3, 'c')",
    )
    assert (log.queued(), log.taken()) == ([["1", "2"]], ["3"])


def test_a_column_that_only_the_filter_names_is_watched(connection: psycopg.Connection) -> None:
    log = Log(connection)
    log.run(
        "CREATE TABLE t (id int PRIMARY KEY, body text, shown bool, hits int)",
        "SELECT steadytext_autoembed('t', 'body', filter => 'shown', backfill => false)",
        "INSERT INTO t VALUES (1, 'one', true, 0)",
    )
    log.taken()
    log.run("UPDATE t SET hits = 1")
    assert log.taken() == []
    log.run("UPDATE t SET shown = false")
    assert log.taken() == ["1"]


def test_a_renamed_table_and_column_are_followed(log: Log) -> None:
    log.run(
        "ALTER TABLE t RENAME COLUMN body TO words",
        "ALTER TABLE t RENAME COLUMN id TO number",
        "ALTER TABLE t RENAME TO u",
        "CREATE SCHEMA elsewhere",
        "ALTER TABLE u SET SCHEMA elsewhere",
        "ALTER TABLE elsewhere.u RENAME embedding TO vector",
        "INSERT INTO elsewhere.u VALUES (1, 'one', 0)",
        "UPDATE elsewhere.u SET words = 'ONE'",
    )
    assert log.taken() == ["1", "1"]
    rows = log.connection.execute("SELECT table_name, destination, state FROM steadytext_autoembed_status()").fetchall()
    assert rows == [("elsewhere.u", "vector", "active")]


@pytest.mark.parametrize(
    ("tables", "rename"),
    [
        ("CREATE TABLE above (id int, body text); CREATE TABLE c (PRIMARY KEY (id)) INHERITS (above)", "TABLE above"),
        (
            "CREATE TYPE kind AS (id int, body text, embedding vector(384)); CREATE TABLE c OF kind (PRIMARY KEY (id))",
            "TYPE kind",
        ),
    ],
)
def test_a_column_that_is_renamed_with_its_parent_or_type_is_followed(log: Log, tables: str, rename: str) -> None:
    what, ending = ("COLUMN", "") if "TABLE" in rename else ("ATTRIBUTE", " CASCADE")
    log.run(
        *tables.split("; "),
        "SELECT steadytext_autoembed('c', 'body', backfill => false)",
        f"ALTER {rename} RENAME {what} body TO words{ending}",
        f"ALTER {rename} RENAME {what} id TO number{ending}",
        "INSERT INTO c (number, words) VALUES (1, 'one')",
        "UPDATE c SET words = 'ONE'",
    )
    assert log.taken() == ["1", "1"]


@pytest.mark.parametrize(
    ("harm", "reason", "cure"),
    [
        (
            "ALTER TABLE f RENAME shown TO visible",
            'its filter cannot be used: column "shown" does not exist',
            "ALTER TABLE f RENAME visible TO shown",
        ),
        (
            "ALTER TABLE f DROP CONSTRAINT f_pkey",
            "its primary key has changed",
            "ALTER TABLE f ADD PRIMARY KEY (id)",
        ),
        (
            "ALTER TABLE f DROP CONSTRAINT f_pkey, ADD PRIMARY KEY (other)",
            "its primary key has changed",
            "SELECT steadytext_autoembed_alter('f')",
        ),
    ],
)
def test_what_changes_while_a_declaration_is_broken_is_embedded_when_it_is_mended(
    log: Log, harm: str, reason: str, cure: str
) -> None:
    status = "SELECT state, reason, backfill FROM steadytext_autoembed_status('f')"
    log.run(
        "CREATE TABLE f (id int PRIMARY KEY, other int, body text, shown bool DEFAULT true)",
        "SELECT steadytext_autoembed('f', 'body', filter => 'shown', backfill => false)",
        harm,
        "INSERT INTO f (id, other, body) VALUES (1, 2, 'one')",
    )
    assert log.connection.execute(status.encode()).fetchall() == [("broken", reason, "done")]
    log.run(cure)
    assert log.connection.execute(status.encode()).fetchall() == [("active", None, "running")]


def test_a_dropped_column_leaves_the_table_usable_and_the_declaration_says_why(log: Log) -> None:
    log.run("ALTER TABLE t DROP COLUMN body", "INSERT INTO t (id) VALUES (1)", "UPDATE t SET other = 2")
    rows = log.connection.execute("SELECT state, reason FROM steadytext_autoembed_status('t')").fetchall()
    assert rows == [("broken", 'column "body" was dropped')]
    log.run("ALTER TABLE t ADD COLUMN body text")
    rows = log.connection.execute("SELECT state, backfill FROM steadytext_autoembed_status('t')").fetchall()
    assert rows == [("active", "running")]
    log.run("INSERT INTO t (id, body) VALUES (2, 'two')")
    assert log.taken() == ["2"]


def test_a_dropped_table_takes_its_declaration_with_it(log: Log) -> None:
    log.run(
        "INSERT INTO t VALUES (1, 'one', 0)", "CREATE SCHEMA s", "ALTER TABLE t SET SCHEMA s", "DROP SCHEMA s CASCADE"
    )
    left = log.connection.execute(
        "SELECT (SELECT count(*) FROM steadytext_autoembeddings),"
        " (SELECT count(*) FROM pg_proc WHERE proname ~ '^_steadytext_autoembed_[0-9]')"
    ).fetchone()
    assert left == (0, 0)


@pytest.mark.parametrize("harm", ["", "ALTER TABLE t DROP COLUMN body"])
def test_dropping_the_extension_leaves_the_table_usable(log: Log, harm: str) -> None:
    log.run(harm)
    log.run("DROP EXTENSION pg_steadytext", "INSERT INTO t (id, other) VALUES (1, 0)", "UPDATE t SET other = 1")
    assert log.connection.execute("SELECT count(*) FROM pg_trigger WHERE NOT tgisinternal").fetchone() == (0,)


def test_a_sleeping_worker_is_told_once_for_a_statement_and_an_awake_one_never(log: Log, connect: Sessions) -> None:
    listener = connect()
    listener.execute("LISTEN steadytext_queue")
    log.run("INSERT INTO t SELECT n, 'text', 0 FROM generate_series(1, 10) n")
    assert list(listener.notifies(timeout=0.2)) == []
    log.run("INSERT INTO steadytext_workers (name, lease_expires_at, sleeping) VALUES ('w', 'infinity', '{autoembed}')")
    log.run("INSERT INTO t SELECT n, 'text', 0 FROM generate_series(11, 2000) n")
    assert len(list(listener.notifies(timeout=0.5))) == 1


def test_who_keeps_a_snapshot_tells_a_worker_that_has_fallen_asleep_since(log: Log, connect: Sessions) -> None:
    listener, writer = connect(), connect()
    listener.execute("LISTEN steadytext_queue")
    log.run("INSERT INTO steadytext_workers (name, lease_expires_at, sleeping) VALUES ('w', 'infinity', '{}')")
    for write in ("INSERT INTO t VALUES (1, 'one', 0)", "UPDATE t SET body = 'two'"):
        log.run("UPDATE steadytext_workers SET sleeping = '{}'")
        with writer.transaction():
            writer.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
            writer.execute("SELECT count(*) FROM t")
            log.run("UPDATE steadytext_workers SET sleeping = '{autoembed}'")
            writer.execute(write.encode())
        assert len(list(listener.notifies(timeout=0.5))) == 1


def test_a_statement_of_many_rows_is_noted_in_parts_that_miss_none(log: Log) -> None:
    noted = """
        SELECT count(*), (SELECT count(DISTINCT k) FROM _steadytext_autoembed_log, unnest(keys) AS k)
        FROM _steadytext_autoembed_log
    """
    log.run("INSERT INTO t SELECT n, 'text', 0 FROM generate_series(1, 400000) n")
    assert log.connection.execute(noted).fetchone() == (2, 400_000)
    log.run("TRUNCATE _steadytext_autoembed_log", "UPDATE t SET body = 'other' WHERE id < 200002")
    assert log.connection.execute(noted).fetchone() == (2, 200_001)
    log.run("TRUNCATE _steadytext_autoembed_log")
    log.run("INSERT INTO t SELECT n, 'text', 0 FROM generate_series(400001, 600000) n")
    assert log.connection.execute(noted).fetchone() == (1, 200_000)


def test_changed_tables_do_not_wait_for_each_other(log: Log, connect: Sessions) -> None:
    for table in ("one", "two"):
        log.run(f"CREATE TABLE {table} (id int PRIMARY KEY, body text)")
        log.run(f"SELECT steadytext_autoembed('{table}', 'body')")
    first, second = (connect(autocommit=False) for _ in range(2))
    for session, table in ((second, "two"), (first, "one")):
        session.execute("SET lock_timeout = '5s'")
        session.execute(f"ALTER TABLE {table} ADD COLUMN more int".encode())
    first.commit()
    second.commit()
