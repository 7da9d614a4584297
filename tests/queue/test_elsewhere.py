"""A worker needs no more rights than a worker's role has, and finds the extension where it is."""

from __future__ import annotations

import asyncio
from uuid import uuid4

import psycopg
from psycopg import sql
from typer.testing import CliRunner

from pg_steadytext.cli.main import app
from pg_steadytext.cluster.postgres import PrivateCluster
from pg_steadytext.queue.sessions import Connection, Session
from tests.queue.workers import Queue, WorkerProcess
from tests.support.databases import Roles, drop_database


def worker_environment(cluster: PrivateCluster, database: str, port: int) -> dict[str, str]:
    """Where a worker of the test connects."""
    return {
        "PGHOST": str(cluster.home.run),
        "PGPORT": str(cluster.port),
        "PGDATABASE": database,
        "STEADYTEXT_HOME": str(cluster.home.root),
        "STEADYTEXT_DAEMON_HOST": "127.0.0.1",
        "STEADYTEXT_DAEMON_PORT": str(port),
    }


def test_a_role_that_is_a_worker_and_nothing_else_does_all_of_a_workers_work(
    cluster: PrivateCluster,
    database: str,
    queue: Queue,
    make_role: Roles,
    role_passwords: dict[str, str],
    daemon_ports: tuple[int, int],
    daemon: object,
) -> None:
    role = make_role("steadytext_worker")
    environment = worker_environment(cluster, database, daemon_ports[0])
    worker = WorkerProcess({**environment, "PGUSER": role, "PGPASSWORD": role_passwords[role]})
    try:
        queue.connection.execute("SELECT steadytext_embed_batch_async(ARRAY['a', 'b'])")
        queue.connection.execute("SELECT steadytext_generate_async('Say hi.', max_tokens => 4)")
        queue.wait_until("completed", 3)
        worker.wait_for_log("the daemon has started")
        assert "failed" not in worker.log
        assert "ERROR" not in worker.log
    finally:
        assert worker.stop() == 0


def test_the_extension_may_be_in_any_schema(
    cluster: PrivateCluster,
    database: str,
    connection: psycopg.Connection,
    daemon_ports: tuple[int, int],
    daemon: object,
) -> None:
    connection.execute("DROP EXTENSION pg_steadytext")
    connection.execute('CREATE SCHEMA "Else where"')
    connection.execute('CREATE EXTENSION pg_steadytext SCHEMA "Else where"')
    connection.execute('SET search_path = "Else where", public')
    connection.execute("SELECT steadytext_config_set('daemon_host', '127.0.0.1')")
    connection.execute("SELECT steadytext_config_set('daemon_port', %s)", (str(daemon_ports[0]),))
    worker = WorkerProcess({**worker_environment(cluster, database, daemon_ports[0]), "PGUSER": "postgres"})
    try:
        row = connection.execute("SELECT steadytext_embed_async('a')").fetchone()
        assert row is not None
        result = connection.execute("SELECT steadytext_get_async_result(%s)", row).fetchone()
        assert result is not None
        assert result[0].startswith("[")
    finally:
        assert worker.stop() == 0


def test_a_database_without_an_encoding_is_read_as_utf8(
    cluster: PrivateCluster, daemon_ports: tuple[int, int], daemon: object
) -> None:
    name = f"plain_{uuid4().hex[:12]}"
    with cluster.connect() as connection:
        connection.execute(f"CREATE DATABASE {name} TEMPLATE template0 LOCALE 'C' ENCODING 'SQL_ASCII'")
    environment = {**worker_environment(cluster, name, daemon_ports[0]), "PGUSER": "postgres"}
    with cluster.connect(name) as connection:
        connection.execute("CREATE EXTENSION pg_steadytext CASCADE")
        connection.execute("SET client_encoding = 'UTF8'")
        queue = Queue(connection)
        worker = WorkerProcess(environment)
        try:
            request = queue.value("SELECT steadytext_rerank_async('café', ARRAY['thé', 'a cow'])")
            queue.wait_for(request, "completed")
            shown = CliRunner().invoke(app, ["queue", "list"], env=environment)
        finally:
            worker.stop()
        assert queue.value("SELECT result FROM steadytext_queue").startswith('[["thé",')
    drop_database(cluster, name)
    assert shown.exit_code == 0, shown.exception
    assert "café" in shown.stdout


LIMITS = {
    "default_transaction_isolation": "serializable",
    "statement_timeout": "100ms",
    "lock_timeout": "1ms",
    "idle_session_timeout": "100ms",
}


def test_what_a_database_sets_for_its_sessions_does_not_hold_for_a_worker(
    cluster: PrivateCluster, database: str, connection: psycopg.Connection
) -> None:
    for name, value in LIMITS.items():
        setting = sql.SQL("ALTER DATABASE {} SET {} = {}")
        connection.execute(setting.format(sql.Identifier(database), sql.Identifier(name), sql.Literal(value)))

    async def connect() -> Connection:
        return await psycopg.AsyncConnection.connect(
            host=str(cluster.home.run), port=cluster.port, dbname=database, user="postgres", autocommit=True
        )

    async def told(prepare: str, is_pooled: bool) -> tuple[str, ...]:
        ask = b"SELECT current_setting('transaction_isolation'), pg_sleep(0.15)"
        session = Session(connect, "test", prepare, {"ask": ask})
        await session.connected()
        session.is_pooled = is_pooled
        if not is_pooled:
            await asyncio.sleep(0.2)
        (row,) = await session.run_once("ask")
        await session.close()
        return row

    for prepare in ("prepare", "prepare_claims"):
        assert asyncio.run(told(prepare, False))[0] == "read committed"
    assert asyncio.run(told("prepare", True))[0] == "read committed"
