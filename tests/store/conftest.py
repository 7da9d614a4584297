"""Workers on the test's database, and what a test sees of embedded tables."""

from __future__ import annotations

from dataclasses import dataclass

import psycopg
import pytest

from pg_steadytext.cluster.postgres import PrivateCluster
from tests.queue.conftest import StartWorker, queue, start_worker
from tests.queue.workers import until
from tests.store.second_model import two_models
from tests.support.daemon import DaemonProcess
from tests.support.databases import Roles

__all__ = ["queue", "start_worker", "two_models"]


@dataclass
class Store:
    """Embedded tables of one database, as a superuser sees them."""

    connection: psycopg.Connection
    start: StartWorker

    def run(self, *statements: str) -> None:
        """Run statements, each in its own transaction."""
        for statement in statements:
            self.connection.execute(statement.encode())

    def value(self, query: str, *values: object) -> object:
        """The only value that a query gives."""
        row = self.connection.execute(query.encode(), values or None).fetchone()
        assert row is not None
        return row[0]

    def rows(self, query: str) -> list[tuple[object, ...]]:
        """What a query gives."""
        return self.connection.execute(query.encode()).fetchall()

    def is_idle(self) -> bool:
        """Whether nothing is logged, waits or is in work."""
        waiting = (
            "SELECT (SELECT count(*) FROM _steadytext_autoembed_log) + (SELECT count(*) FROM _steadytext_autoembed_work"
        )
        return (
            self.value(f"{waiting} WHERE NOT failed) = 0 AND bool_and(backfill_done) FROM steadytext_autoembeddings")
            is True
        )

    def settle(self, seconds: float = 60) -> None:
        """Wait until everything is embedded that can be."""
        until(self.is_idle, seconds, self.work)

    def work(self) -> str:
        """What is not yet done, for an assertion's message."""
        return str(
            self.rows("SELECT id, worker_id, attempt, failed, error, keys[1:3] FROM _steadytext_autoembed_work LIMIT 5")
        )

    def stale(self, table: str, text: str = "body", vector: str = "embedding") -> list[tuple[object, ...]]:
        """Rows whose vector is not that of their text, which is embedded anew."""
        return self.rows(
            f"WITH t AS (SELECT row_number() OVER () AS n, {vector}::text AS had, {text} AS words FROM {table}),"
            " e AS (SELECT row_number() OVER () AS n, x.embedding::text AS wanted FROM steadytext_embed_batch("
            "(SELECT coalesce(array_agg(CASE WHEN words ~ '\\S' THEN words END ORDER BY n), '{}') FROM t)) x)"
            " SELECT words, had IS NULL, wanted IS NULL FROM t JOIN e USING (n) WHERE had IS DISTINCT FROM wanted"
        )


@pytest.fixture
def store(connection: psycopg.Connection, make_role: Roles, start_worker: StartWorker, daemon: object) -> Store:
    """The test's database with a daemon, and no worker yet."""
    return Store(connection, start_worker)


@pytest.fixture
def working(store: Store) -> Store:
    """The same with a worker that embeds."""
    store.start("--lanes", "autoembed")
    return store


@pytest.fixture
def between_models(store: Store, two_models: DaemonProcess) -> Store:
    """A database that knows two embedding models, with a worker."""
    store.run(f"SELECT steadytext_config_set('daemon_port', '{two_models.port}')", "SELECT steadytext_models_sync()")
    store.start("--lanes", "autoembed", "--lease", "2", STEADYTEXT_DAEMON_PORT=str(two_models.port))
    return store


@pytest.fixture
def articles(working: Store) -> Store:
    """With a worker and a declared table ``articles (id, title, body)``, empty."""
    working.run(
        "CREATE TABLE articles (id int PRIMARY KEY, title text, body text)",
        "SELECT steadytext_autoembed('articles', 'body')",
    )
    return working


@pytest.fixture
def postgres(cluster: PrivateCluster, database: str) -> dict[str, object]:
    """The test's database as a store's configuration names it."""
    return {"host": str(cluster.home.run), "port": cluster.port, "database": database, "user": "postgres"}
