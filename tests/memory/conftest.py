"""The memory service on a database of its own, spoken to over real sockets."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import psycopg
import pytest

from pg_steadytext.cluster.postgres import PrivateCluster
from pg_steadytext.memory.client import MemoryClient
from pg_steadytext.memory.storage.migrate import migrate
from tests.memory.finding import Finding
from tests.memory.server import Api, MemoryServer, Person, make_person
from tests.queue.workers import WorkerProcess
from tests.support.daemon import DaemonProcess
from tests.support.databases import create_database, drop_database

NewPerson = Callable[..., Person]


@pytest.fixture(scope="session")
def memory_database(cluster: PrivateCluster) -> Iterator[str]:
    """A database with the service's schema, shared by the tests: each has users of its own."""
    name = "memory_tests"
    create_database(cluster, name)
    with cluster.connect(name) as connection:
        migrate(connection)
    yield name
    drop_database(cluster, name)


@pytest.fixture(scope="session")
def server(cluster: PrivateCluster, memory_database: str) -> Iterator[MemoryServer]:
    """`pg-steadytext memory serve`, a process of its own, which reaches no daemon, whatever else the machine runs."""
    running = MemoryServer(cluster, memory_database, STEADYTEXT_DAEMON_PORT="1")
    yield running
    running.stop()


@pytest.fixture
def superuser(cluster: PrivateCluster, memory_database: str) -> Iterator[psycopg.Connection]:
    """A session that row-level security does not bind."""
    with cluster.connect(memory_database) as connection:
        yield connection


@pytest.fixture
def new_person(server: MemoryServer, superuser: psycopg.Connection) -> Iterator[NewPerson]:
    """Make users with keys: ``new_person(plan="pro", is_admin=True)``."""
    made: list[Person] = []

    def make(**wishes: object) -> Person:
        made.append(make_person(server, superuser, **wishes))  # type: ignore[arg-type]
        return made[-1]

    yield make
    for person in made:
        person.api.close()


@pytest.fixture
def person(new_person: NewPerson) -> Person:
    """A user of the team plan, with a key that may read and write."""
    return new_person()


@pytest.fixture
def api(person: Person) -> Api:
    """That user's client."""
    return person.api


@pytest.fixture(scope="module")
def finding(cluster: PrivateCluster, template_database: str, daemon_ports: tuple[int, int]) -> Iterator[Finding]:
    """The service beside the extension; its daemon and workers are the tests' business."""
    found = Finding(cluster, template_database, daemon_ports[0])
    yield found
    found.stop()


@pytest.fixture
def worker(finding: Finding, daemon: DaemonProcess) -> Iterator[WorkerProcess]:
    """A worker on that database."""
    yield finding.start_worker()
    finding.stop_workers()


@pytest.fixture
def client(server: MemoryServer, person: Person) -> MemoryClient:
    """The user's client."""
    return MemoryClient(server.url, person.key)
