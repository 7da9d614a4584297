"""A memory service beside the extension, with a worker and the model: what search needs."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

import psycopg

from pg_steadytext.cluster.postgres import PrivateCluster
from pg_steadytext.memory.storage.migrate import migrate
from tests.memory.server import MemoryServer, Person, make_person
from tests.queue.workers import WorkerProcess, until
from tests.support.databases import create_database, drop_database


@dataclass
class Finding:
    """A database with the extension and the service's schema; the service runs, workers are started by tests."""

    cluster: PrivateCluster
    template: str
    daemon_port: int
    name: str = "memory_finding"
    workers: list[WorkerProcess] = field(default_factory=list)
    superuser: psycopg.Connection = field(init=False)
    server: MemoryServer = field(init=False)

    def __post_init__(self) -> None:
        drop_database(self.cluster, self.name)
        create_database(self.cluster, self.name, self.template)
        self.superuser = self.cluster.connect(self.name)
        migrate(self.superuser)
        self.server = MemoryServer(
            self.cluster, self.name,
            STEADYTEXT_DAEMON_PORT=str(self.daemon_port), STEADYTEXT_MEMORY_SEARCH_DEADLINE_MS="1500",
        )  # fmt: skip

    def start_worker(self, user: str = "postgres", **environment: str) -> WorkerProcess:
        """Start a worker and wait until it takes work. It does not enrich, which would slow everything else down."""
        worker = WorkerProcess(
            {
                **self.cluster.client_environment(self.name),
                "PGUSER": user,
                "STEADYTEXT_HOME": str(self.cluster.home.root),
                "STEADYTEXT_DAEMON_HOST": "127.0.0.1",
                "STEADYTEXT_DAEMON_PORT": str(self.daemon_port),
                "STEADYTEXT_MEMORY_ENRICHMENT": "0",
                **environment,
            }
        )
        self.workers.append(worker)
        worker.wait_for_log("listening as")
        worker.wait_for_log("takes from")
        return worker

    def stop_workers(self) -> None:
        """End every worker."""
        while self.workers:
            worker = self.workers.pop()
            worker.stop()
            print(worker.log)  # shown where the test fails

    def person(self, **wishes: Any) -> Person:
        """Make a user with a key."""
        return make_person(self.server, self.superuser, **wishes)

    def wait_until_embedded(self, person: Person, *, seconds: float = 30) -> None:
        """Wait until nothing of the user's is left to embed."""
        until(lambda: not self.states(person) - {"done"}, seconds, lambda: str(self.states(person)))

    def states(self, person: Person) -> set[str]:
        """Where the embeddings of the user's memories stand."""
        rows = self.superuser.execute(
            "SELECT DISTINCT embedding_status FROM memory.memories WHERE user_id = %s", (person.id,)
        ).fetchall()
        return {state for (state,) in rows}

    def stop(self) -> None:
        """End everything."""
        self.stop_workers()
        self.server.stop()
        self.superuser.close()
        drop_database(self.cluster, self.name)


def search(person: Person, query: str, **params: Any) -> dict[str, Any]:
    """Search, and return the answer."""
    answer = person.api.get("/v1/memories/search", params={"q": query, **params})
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def bodies(found: dict[str, Any]) -> list[str]:
    """The bodies of what was found, in its order."""
    return [item["body"] for item in found["items"]]


def fill_randomly(superuser: psycopg.Connection, user: UUID, memories: int, prefix: str = "random") -> None:
    """Give a user memories with random vectors, by SQL; every tenth is tagged `tenth`."""
    superuser.execute(
        "INSERT INTO memory.memories (user_id, id, body, tags, content_hash, bytes, change_seq, enrichment_status, "
        "embedding_status) SELECT %(user)s, gen_random_uuid(), %(prefix)s || ' ' || n, "
        "CASE WHEN n %% 10 = 0 THEN '{tenth}'::text[] ELSE '{}' END, sha256((%(prefix)s || n)::bytea), 1, n, "
        "'none', 'done' "
        "FROM generate_series(1, %(memories)s) n",
        {"user": user, "memories": memories, "prefix": prefix},
    )
    superuser.execute(
        "INSERT INTO memory.embeddings (user_id, memory_id, digest, model, embedding) "
        "SELECT m.user_id, m.id, sha256(m.body::bytea), 'random', "
        "(SELECT array_agg(random() - 0.5 + 0 * g * length(m.body)) FROM generate_series(1, 384) g)::vector "
        "FROM memory.memories m WHERE m.user_id = %s AND m.embedding_status = 'done' ",
        (user,),
    )
    superuser.execute("UPDATE memory.usage SET memories = %s WHERE user_id = %s", (memories, user))
