"""Workers on the test's database."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import psycopg
import pytest

from pg_steadytext.cluster.postgres import PrivateCluster
from tests.queue.workers import Queue, WorkerProcess

StartWorker = Callable[..., WorkerProcess]


@pytest.fixture
def queue(connection: psycopg.Connection) -> Queue:
    """The queue of the test's database, with room for every test."""
    for name in ("max_queue_size", "max_pending_per_user"):
        connection.execute("SELECT steadytext_config_set(%s, '1000000')", (name,))
    return Queue(connection)


@pytest.fixture
def start_worker(
    cluster: PrivateCluster, database: str, queue: Queue, daemon_ports: tuple[int, int]
) -> Iterator[StartWorker]:
    """Start worker processes: ``start_worker("--lanes", "embed")``; each is listening when it is returned."""
    environment = {
        "PGHOST": str(cluster.home.run),
        "PGPORT": str(cluster.port),
        "PGDATABASE": database,
        "PGUSER": "postgres",
        "STEADYTEXT_HOME": str(cluster.home.root),
        "STEADYTEXT_DAEMON_HOST": "127.0.0.1",
        "STEADYTEXT_DAEMON_PORT": str(daemon_ports[0]),
    }
    started: list[WorkerProcess] = []

    def start(*options: str, **changed: str) -> WorkerProcess:
        worker = WorkerProcess(environment | changed, *options)
        started.append(worker)
        worker.wait_for_log("listening as")
        worker.wait_for_log("takes from")
        return worker

    yield start
    for worker in started:
        worker.stop()
        print(worker.log)  # shown where the test fails
