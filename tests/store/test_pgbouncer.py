"""Everything works through a real PgBouncer in transaction mode, and leaves nothing behind in the pool's sessions."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import psycopg
import pytest

from pg_steadytext.client import Client
from pg_steadytext.cluster.home import Home
from pg_steadytext.cluster.postgres import PrivateCluster
from pg_steadytext.store import ChunkData, PgaiStore
from tests.queue.workers import WorkerProcess, until
from tests.store.conftest import Store
from tests.support.pgbouncer import PgBouncer


@dataclass
class Pooled:
    """A test's database behind a pooler, with two workers that reach it through that alone."""

    bouncer: PgBouncer
    database: str
    workers: list[WorkerProcess]

    def connect(self) -> psycopg.Connection[Any]:
        """A session through the pooler, in which nothing is prepared."""
        connection = self.bouncer.connect(self.database)
        connection.prepare_threshold = None
        return connection


@pytest.fixture
def bouncer(cluster: PrivateCluster, test_home: Home, database: str) -> Iterator[PgBouncer]:
    """A pooler in front of the test's database."""
    process = PgBouncer(cluster, test_home.root / f"pgbouncer-{database}")
    yield process
    process.stop()


@pytest.fixture
def pooled(
    bouncer: PgBouncer, cluster: PrivateCluster, database: str, daemon_ports: tuple[int, int], store: Store
) -> Iterator[Pooled]:
    """The test's database as workers see it that are behind a pooler."""
    environment = {
        **bouncer.environment(database),
        "STEADYTEXT_HOME": str(cluster.home.root),
        "STEADYTEXT_DAEMON_HOST": "127.0.0.1",
        "STEADYTEXT_DAEMON_PORT": str(daemon_ports[0]),
    }
    workers = [WorkerProcess(environment, "--lease", "3") for _ in range(2)]
    for worker in workers:
        worker.wait_for_log("through a pooler")
        worker.wait_for_log("takes from")
    yield Pooled(bouncer, database, workers)
    for worker in workers:
        print(worker.log)
        worker.stop()


def test_functions_of_all_kinds_answer(pooled: Pooled) -> None:
    with pooled.connect() as session:
        row = session.execute("SELECT vector_dims(steadytext_embed('one')), steadytext_generate('One', 4)").fetchone()
        assert row is not None
        assert (row[0], len(row[1]) > 0) == (384, True)
        asked = session.execute("SELECT steadytext_embed_async('two')").fetchone()
        assert asked is not None
        assert session.execute("SELECT length(steadytext_get_async_result(%s, 20)) > 384", asked).fetchone() == (True,)


def test_tables_are_embedded_and_found_within_a_few_seconds(pooled: Pooled, store: Store) -> None:
    with pooled.connect() as session:
        session.execute("CREATE TABLE articles (id int PRIMARY KEY, body text)")
        session.execute("SELECT steadytext_autoembed('articles', 'body')")
        for turn in range(3):
            session.execute(
                "INSERT INTO articles SELECT n, 'text ' || n FROM generate_series(%s::int, %s) n",
                (100 * turn, 100 * turn + 99),
            )
            session.execute("UPDATE articles SET body = 'trees drink by their roots' WHERE id = %s", (100 * turn,))
            began = time.monotonic()
            assert session.execute("SELECT steadytext_autoembed_wait('articles', 20)").fetchone() == (True,)
            assert time.monotonic() - began < 15
        found = session.execute(
            "SELECT (key ->> 'id')::int % 100 FROM steadytext_search('articles', 'how do trees drink', 3)"
        ).fetchall()
    assert store.stale("articles") == []
    assert found == [(0,), (0,), (0,)]


def test_the_clients_of_queue_and_store_work(pooled: Pooled, database: str) -> None:
    parameters: dict[str, Any] = {"host": "127.0.0.1", "port": pooled.bouncer.port, "dbname": database}
    with Client(user="postgres", **parameters) as client:
        vectors = client.gather(client.embed_batch([f"text {number}" for number in range(20)]), timeout=60)
        assert [len(vector) for vector in vectors] == [384] * 20
        request = client.generate("Count to five.", max_tokens=8, stream=True)
        assert "".join(request.stream(timeout=60)) == request.result(timeout=60)


def test_a_store_works(pooled: Pooled, database: str) -> None:
    postgres = {"host": "127.0.0.1", "port": pooled.bouncer.port, "database": database, "user": "postgres"}

    async def use() -> None:
        async with PgaiStore(config={"postgres": postgres}) as store:
            for number in range(12):  # as often as makes psycopg prepare a statement
                await store.insert_data(ChunkData(id=f"{number}", content=f"text {number}"))
                found = await store.search(f"text {number}", 1)
            assert len(found) == 1

    asyncio.run(asyncio.wait_for(use(), 60))


def ask_again(pooled: Pooled, statement: str, parameters: Any = None) -> Any:
    """Ask until the pool lends a session that nobody has ended."""
    while True:
        with pooled.connect() as session, contextlib.suppress(psycopg.errors.AdminShutdown):
            return session.execute(statement.encode(), parameters).fetchone()


def test_a_cancelled_request_stops_and_a_lost_worker_is_replaced(pooled: Pooled, store: Store) -> None:
    with pooled.connect() as session:
        session.execute("CREATE TABLE notes (id int PRIMARY KEY, body text)")
        session.execute("SELECT steadytext_autoembed('notes', 'body')")
        session.execute("INSERT INTO notes SELECT n, 'note ' || n FROM generate_series(1, 600) n")
        pooled.workers[0].kill()
        store.run(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'pg_steadytext worker'"
        )
        asked = ask_again(pooled, "SELECT steadytext_generate_async('Once upon a time', 400)")
        until(lambda: store.value("SELECT status FROM steadytext_queue") == "processing", 30)
        ask_again(pooled, "SELECT steadytext_cancel_async(%s)", asked)
        until(lambda: store.value("SELECT status FROM steadytext_queue") == "cancelled", 10)
    store.settle()
    assert store.stale("notes") == []


def test_nothing_is_left_in_the_sessions_of_the_pool(pooled: Pooled, store: Store) -> None:
    store.run(
        "CREATE TABLE notes (id int PRIMARY KEY, body text)",
        "SELECT steadytext_autoembed('notes', 'body')",
        "INSERT INTO notes SELECT n, 'note ' || n FROM generate_series(1, 300) n",
    )
    store.settle()
    sessions = [pooled.connect() for _ in range(4)]
    seen = set()
    for session in sessions:
        session.execute("BEGIN")  # which keeps the server session, so that the next one gets another
        state = session.execute(
            "SELECT pg_backend_pid(), current_setting('search_path'), current_setting('synchronous_commit'),"
            " (SELECT count(*) FROM pg_prepared_statements), (SELECT count(*) FROM pg_listening_channels())"
        ).fetchone()
        assert state is not None
        seen.add(state[0])
        assert state[1:] == ('"$user", public', "off", 0, 0)  # a test's cluster has it off for all
    for session in sessions:
        session.execute("COMMIT")
        session.close()
    assert len(seen) == 4
    assert store.value("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'") == 0


def test_one_of_the_workers_looks_after_the_database(pooled: Pooled, store: Store) -> None:
    leads = "this worker leads"
    until(lambda: any(leads in worker.log for worker in pooled.workers), 10)
    assert sum(worker.log.count(leads) for worker in pooled.workers) == 1
    until(lambda: store.value("SELECT count(*) FROM steadytext_daemon_health WHERE status = 'healthy'") == 1, 10)
    assert [worker.stop() for worker in pooled.workers] == [0, 0]
    assert store.value("SELECT count(*) FROM steadytext_workers") == 0


def test_indexes_are_left_to_a_worker_that_is_connected_directly(pooled: Pooled, store: Store) -> None:
    store.run(
        "CREATE TABLE notes (id int PRIMARY KEY, body text)",
        "SELECT steadytext_autoembed('notes', 'body')",
        "INSERT INTO notes SELECT n, 'note ' || n FROM generate_series(1, 50) n",
    )
    store.settle()
    state = "SELECT index_state FROM steadytext_autoembeddings"
    time.sleep(1.5)
    assert store.value(state) == "wanted"
    store.start("--lanes", "autoembed")
    until(lambda: store.value(state) == "built", 30)
