"""A dump keeps declarations and what is not yet embedded; a restored database goes on."""

from __future__ import annotations

from uuid import uuid4

import psycopg
import pytest

from pg_steadytext.cluster.postgres import PrivateCluster
from tests.extension.test_dump import dump_and_restore
from tests.support.databases import create_database, drop_database


@pytest.mark.parametrize("jobs", [1, 3])
def test_a_restored_table_goes_on_embedding_itself(
    cluster: PrivateCluster, database: str, connection: psycopg.Connection, jobs: int
) -> None:
    for statement in (
        "CREATE TABLE t (gone int, id int PRIMARY KEY, body text)",
        "ALTER TABLE t DROP COLUMN gone",
        "SELECT steadytext_autoembed('t', 'body')",
        "CREATE TABLE p (id int PRIMARY KEY, body text) PARTITION BY RANGE (id)",
        "CREATE TABLE p1 PARTITION OF p FOR VALUES FROM (0) TO (10)",
        "SELECT steadytext_autoembed('p', 'body')",
        "CREATE TABLE echoes (id text PRIMARY KEY, source_id text, said text)",
        """CREATE FUNCTION echo(key text, words text) RETURNS jsonb LANGUAGE sql
        AS $$ SELECT jsonb_build_array(jsonb_build_object('said', words)) $$""",
        "SELECT steadytext_layer('t', 'echoes', 'nothing', 'echo(text,text)', column_name => 'body')",
        "INSERT INTO t VALUES (1, 'one')",
    ):
        connection.execute(statement.encode())
    copy = f"test_{uuid4().hex[:12]}"
    create_database(cluster, copy)
    try:
        dump_and_restore(cluster, database, copy, jobs)
        with cluster.connect(copy) as restored:
            restored.execute("SELECT _steadytext_autoembed_look_after()")
            restored.execute("INSERT INTO t (id, body) VALUES (2, 'two')")
            restored.execute("INSERT INTO p1 (id, body) VALUES (3, 'three')")
            restored.execute("UPDATE t SET body = 'ONE' WHERE id = 1")
            logged = restored.execute("SELECT keys FROM _steadytext_autoembed_log ORDER BY id").fetchall()
            assert logged == [(["1"],), (["2"],), (["3"],), (["1"],)]
            assert restored.execute("SELECT steadytext_layer_run('echoes')").fetchone() == (2,)
            said = restored.execute("SELECT source_id, said FROM echoes ORDER BY source_id").fetchall()
            assert said == [("1", "ONE"), ("2", "two")]
            states = restored.execute("SELECT state, reason FROM steadytext_autoembed_status()").fetchall()
            assert states == [("active", None), ("active", None)]
            read = restored.execute(
                "SELECT r.words FROM steadytext_autoembeddings d, _steadytext_autoembed_read(d, '{1}') r"
                " WHERE d.relation = 't'::regclass"
            ).fetchall()
            assert read == [("ONE",)]
    finally:
        drop_database(cluster, copy)


def test_a_restored_declaration_knows_its_columns_before_any_command_follows(
    cluster: PrivateCluster, database: str, connection: psycopg.Connection
) -> None:
    for statement in (
        "CREATE TABLE t (gone int, id int PRIMARY KEY, body text)",
        "SELECT steadytext_autoembed('t', 'body')",
        "CREATE TABLE echoes (id text PRIMARY KEY, source_id text, said text)",
        "SELECT steadytext_layer('t', 'echoes', 'embed', column_name => 'body')",
        "ALTER TABLE t DROP COLUMN gone",
    ):
        connection.execute(statement.encode())
    copy = f"test_{uuid4().hex[:12]}"
    create_database(cluster, copy)
    try:
        dump_and_restore(cluster, database, copy, sections=["pre-data", "data"])
        with cluster.connect(copy) as restored:
            known = "SELECT key_columns, columns, destination_column FROM steadytext_autoembeddings"
            assert restored.execute(known.encode()).fetchall() == [([1], [2], 3)]
            layers = restored.execute("SELECT key_columns, source_column FROM steadytext_layers").fetchall()
            assert layers == [([1], 2)]
    finally:
        drop_database(cluster, copy)
