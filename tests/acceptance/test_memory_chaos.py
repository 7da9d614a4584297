"""The memory service's processes are killed under load: nothing acknowledged is lost, and nothing takes effect twice.

`MEMORY_CHAOS_SECONDS` makes it longer: `make soak` sets it.
"""

from __future__ import annotations

import os
import random
import shutil
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from uuid import UUID, uuid4

import httpx2
import psycopg
import pytest

from pg_steadytext.cluster import ports
from pg_steadytext.cluster.home import Home
from pg_steadytext.cluster.postgres import PrivateCluster
from pg_steadytext.daemon.client import DaemonClient
from pg_steadytext.memory import accounts
from pg_steadytext.memory.storage.migrate import migrate
from tests.memory.redis_server import RedisServer
from tests.memory.server import MemoryServer
from tests.queue.workers import WorkerProcess
from tests.support.daemon import DaemonProcess

SECONDS = float(os.environ.get("MEMORY_CHAOS_SECONDS", "10"))
CLIENTS = 20
USERS = 5
SETTLE_SECONDS = 90 + SECONDS / 4
AWAY = {409, 503}
"""What may be answered while something is down: the first try is still at work, or the database is away."""

CHECKS = {
    "a save took effect twice": "SELECT source FROM memory.memories GROUP BY source HAVING count(*) > 1",
    "a user's counters differ from the rows": """
        SELECT u.user_id FROM memory.usage u, LATERAL (
            SELECT count(*) AS memories, coalesce(sum(m.bytes), 0) AS bytes
            FROM memory.memories m WHERE m.user_id = u.user_id) r
        WHERE (u.memories, u.bytes, u.saves) IS DISTINCT FROM (r.memories, r.bytes, r.memories)""",
    "a memory's history has a gap": """
        SELECT m.id FROM memory.memories m, LATERAL (
            SELECT array_agg(h.version ORDER BY h.version) AS versions,
                   min(h.action) FILTER (WHERE h.version = 1) AS first
            FROM memory.memory_history h WHERE h.user_id = m.user_id AND h.memory_id = m.id) h
        WHERE h.first IS DISTINCT FROM 'created'
           OR h.versions IS DISTINCT FROM ARRAY(SELECT generate_series(1, m.version))""",
    "a change does not begin where the one before it ended": """
        SELECT h.memory_id FROM (
            SELECT h.*, h.changes -> 'title' ->> 0 AS before,
                   lag(h.changes -> 'title' ->> 1) OVER (PARTITION BY h.memory_id ORDER BY h.version) AS after
            FROM memory.memory_history h) h
        WHERE h.version > 1 AND h.before IS DISTINCT FROM h.after""",
    "an embedding is not that of the present text": """
        SELECT m.id FROM memory.memories m LEFT JOIN memory.embeddings e ON e.user_id = m.user_id AND e.memory_id = m.id
        WHERE e.digest IS DISTINCT FROM memory.embedded_digest(m.title, m.body)""",
    "something is pending": """
        SELECT m.id::text FROM memory.memories m WHERE m.embedding_status <> 'done'
        UNION ALL SELECT q.request_id::text FROM steadytext_queue q WHERE q.status IN ('pending', 'processing')""",
    "what is spent differs from the bills": """
        SELECT w.id FROM memory.ai_budget_windows w WHERE w.reserved_micros <> 0 OR w.spent_micros <> (
            SELECT coalesce(sum(l.cost_micros), 0) FROM memory.ai_ledger l
            WHERE w.scope = 'global' OR l.user_id = w.user_id)""",
    "a breaker is open": "SELECT b.name FROM memory.ai_breakers b WHERE b.state <> 'closed'",
    "a change number was given twice": "SELECT change_seq FROM memory.memories GROUP BY 1 HAVING count(*) > 1",
}


@pytest.fixture
def server(cluster: PrivateCluster, daemon: DaemonProcess) -> Iterator[PrivateCluster]:
    """A cluster of the test's own, since it is going to be killed; a commit is with the kernel when it is told."""
    root = Path(tempfile.mkdtemp(prefix="steadytext-chaos-"))
    root.chmod(0o755)
    home = Home.at(root / "home")
    home.create(cluster.account)
    server = PrivateCluster(
        home, cluster.account, cluster.binaries, ports.choose(()), durable=False, settings={"synchronous_commit": "on"}
    )
    server.start()
    with server.connect() as connection:
        connection.execute("CREATE EXTENSION pg_steadytext CASCADE")
        for key, value in {"daemon_host": "127.0.0.1", "daemon_port": str(daemon.port), "queue_max_retries": "100",
                           "queue_retry_seconds": "0"}.items():  # fmt: skip
            connection.execute("SELECT steadytext_config_set(%s, %s)", (key, value))
        migrate(connection)
    yield server
    server.stop("immediate")
    shutil.rmtree(root, ignore_errors=True)


@dataclass
class Kept:
    """What a client was told: a memory with its version and its title."""

    id: UUID
    key: str
    version: int = 1
    title: str | None = None


@dataclass
class Client:
    """Saves, changes and searches, and asks again until it is told."""

    number: int
    url: str
    token: str
    stop: threading.Event
    kept: list[Kept] = field(default_factory=list)
    told: Counter[str] = field(default_factory=Counter)

    def work(self) -> None:
        """Go on until told to stop; what was begun is finished."""
        luck = random.Random(self.number)
        with httpx2.Client(base_url=self.url, headers={"Authorization": f"Bearer {self.token}"}, timeout=5) as api:
            while not self.stop.is_set():
                acts = [self.save, self.search] if not self.kept else [self.save, self.change, self.search]
                luck.choice(acts)(api, luck)
                time.sleep(luck.uniform(0.1, 0.4))

    def until_told(self, luck: random.Random, ask: Callable[[httpx2.Timeout], httpx2.Response]) -> httpx2.Response:
        """Ask until there is an answer that is none of a service that is away.

        Every third time the client does not wait for the first answer, which is lost whether it took effect or not.
        """
        timeout = httpx2.Timeout(5, read=0.005 if luck.random() < 0.3 else 5)
        give_up = time.monotonic() + SETTLE_SECONDS
        while time.monotonic() < give_up:
            try:
                answer = ask(timeout)
            except httpx2.TransportError:
                self.told["lost"] += 1
            else:
                self.told[str(answer.status_code)] += 1
                if answer.status_code not in AWAY:
                    return answer
            timeout = httpx2.Timeout(5)
            time.sleep(0.4)
        raise AssertionError(f"client {self.number} was never answered: {self.told}")

    def save(self, api: httpx2.Client, luck: random.Random) -> None:
        """Save with a key, which is repeated until there is an answer."""
        key = uuid4().hex
        note = {"body": f"Client {self.number} keeps note {len(self.kept)}, {key[:8]}", "source": key}
        answer = self.until_told(
            luck,
            lambda timeout: api.post(
                "/v1/memories", json=note, headers={"Idempotency-Key": f'"{key}"'}, timeout=timeout
            ),
        )
        assert answer.status_code == 201, answer.text
        self.told["replayed"] += "Idempotent-Replayed" in answer.headers
        self.kept.append(Kept(UUID(answer.json()["id"]), key))

    def change(self, api: httpx2.Client, luck: random.Random) -> None:
        """Change one that is this client's alone; a 412 after a lost answer must be its own change."""
        it = luck.choice(self.kept)
        title = f"title {uuid4().hex[:8]}"
        lost = self.told["lost"] + self.told["503"]
        answer = self.until_told(
            luck,
            lambda timeout: api.patch(
                f"/v1/memories/{it.id}",
                json={"title": title},
                headers={"If-Match": f'"v{it.version}"'},
                timeout=timeout,
            ),
        )
        if answer.status_code == 412:
            assert self.told["lost"] + self.told["503"] > lost, "nobody else changes it"
        else:
            assert answer.status_code == 200, answer.text
        now = answer.json()["current"] if answer.status_code == 412 else answer.json()
        assert (now["version"], now["title"]) == (it.version + 1, title)
        it.version, it.title = it.version + 1, title

    def search(self, api: httpx2.Client, luck: random.Random) -> None:
        """Search: an answer says how it was come by."""
        query = f"note of client {luck.randrange(CLIENTS)}"
        answer = self.until_told(
            luck, lambda timeout: api.get("/v1/memories/search", params={"q": query, "limit": 3}, timeout=timeout)
        )
        assert answer.status_code == 200, answer.text
        found = answer.json()
        assert found["mode"] == "hybrid" or found["degraded_because"], found
        self.told[found["degraded_because"] or "hybrid"] += 1


class Chaos:
    """What may happen at any moment."""

    def __init__(self, server: PrivateCluster, daemon: DaemonProcess, redis: RedisServer) -> None:
        self.server, self.daemon, self.redis = server, daemon, redis
        self.random = random.Random(6)
        self.settings = {
            "STEADYTEXT_DAEMON_HOST": "127.0.0.1", "STEADYTEXT_DAEMON_PORT": str(daemon.port),
            "STEADYTEXT_MEMORY_REDIS_URL": redis.url, "STEADYTEXT_MEMORY_SEARCH_DEADLINE_MS": "1500",
            "STEADYTEXT_MEMORY_WAIT_SECONDS": "3",
            "STEADYTEXT_MEMORY_ENRICHMENT": "0",
        }  # fmt: skip
        self.api = self._api(ports.choose(()))
        self.worker = self._worker()
        self.happened: Counter[str] = Counter()

    def _api(self, port: int) -> MemoryServer:
        return MemoryServer(self.server, "postgres", user=None, port=port, **self.settings)

    def _worker(self) -> WorkerProcess:
        home = {"STEADYTEXT_HOME": str(self.server.home.root)}
        return WorkerProcess({**self.server.client_environment("postgres"), **home, **self.settings})

    def reign(self, seconds: float) -> None:
        """Let each thing happen once, then anything."""
        until = time.monotonic() + seconds
        planned = list(self.events)
        while planned or time.monotonic() < until:
            time.sleep(self.random.uniform(0.3, 0.8))
            event = planned.pop() if planned else self.random.choice(self.events)
            event()
            self.happened[event.__name__] += 1

    @property
    def events(self) -> list[Callable[[], None]]:
        """Everything."""
        return [self.kill_worker, self.restart_server, self.stop_redis, self.flush_redis, self.kill_api]

    def kill_api(self) -> None:
        """SIGKILL the service and start it again, on the same port."""
        self.api.kill()
        self.api = self._api(self.api.port)

    def kill_worker(self) -> None:
        """SIGKILL the worker and start another."""
        self.worker.kill()
        self.worker = self._worker()

    def restart_server(self) -> None:
        """Stop PostgreSQL as a crash would, and start it again."""
        self.server.stop("immediate")
        self.server.start()

    def stop_redis(self) -> None:
        """Kill Redis, and start an empty one."""
        self.redis.stop()
        time.sleep(0.5)
        self.redis.start()

    def flush_redis(self) -> None:
        """Empty Redis."""
        self.redis.flush()

    def end(self) -> None:
        """Stop what runs."""
        self.worker.stop()
        self.api.stop()


@pytest.fixture
def chaos(server: PrivateCluster, daemon: DaemonProcess, tmp_path: Path) -> Iterator[Chaos]:
    """The service, its worker and Redis."""
    redis = RedisServer(tmp_path)
    running = Chaos(server, daemon, redis)
    yield running
    running.end()
    redis.stop()
    print(running.worker.log[-3000:], "".join(running.api.log)[-3000:], sep="\n----\n")  # shown where the test fails


def people(connection: psycopg.Connection) -> list[str]:
    """Make the users; returns a key of each."""
    keys = []
    for number in range(USERS):
        email = f"chaos{number}@example.org"
        accounts.add_user(connection, email, email, None, is_admin=False, plan="team")
        keys.append(accounts.add_key(connection, email, "chaos", ["memories:read", "memories:write"]))
    return keys


def wait_until_nothing_is_pending(connection: psycopg.Connection) -> None:
    """Wait for the worker."""
    give_up = time.monotonic() + SETTLE_SECONDS
    while connection.execute(CHECKS["something is pending"].encode()).fetchall():
        assert time.monotonic() < give_up, "something stays pending"
        time.sleep(0.2)


def sweep(connection: psycopg.Connection) -> None:
    """End what killed processes had reserved, as happens a few minutes later."""
    connection.execute("UPDATE memory.ai_ledger SET expires_at = now() WHERE state = 'reserved'")
    connection.execute("SELECT memory.sweep()")


def wait_until_search_is_whole(url: str, token: str) -> None:
    """Search until both arms answer: a breaker that opened closes by itself."""
    give_up = time.monotonic() + SETTLE_SECONDS
    with httpx2.Client(base_url=url, headers={"Authorization": f"Bearer {token}"}, timeout=10) as api:
        for number in range(10_000):
            found = api.get("/v1/memories/search", params={"q": f"note number {number}", "limit": 1}).json()
            if found["mode"] == "hybrid":
                return
            assert time.monotonic() < give_up, found
            time.sleep(0.5)


def test_nothing_acknowledged_is_lost_and_nothing_is_done_twice(
    server: PrivateCluster, daemon: DaemonProcess, chaos: Chaos
) -> None:
    with server.connect() as connection:
        keys = people(connection)
    stop = threading.Event()
    clients = [Client(number, chaos.api.url, keys[number % USERS], stop) for number in range(CLIENTS)]
    with ThreadPoolExecutor(CLIENTS) as threads:
        running = [threads.submit(client.work) for client in clients]
        try:
            chaos.reign(SECONDS)
        finally:
            stop.set()
        for one in running:
            one.result()
    told = sum((client.told for client in clients), Counter[str]())
    kept = {it.id: it for client in clients for it in client.kept}
    print(dict(told), dict(chaos.happened), len(kept))
    assert told["lost"] > 0, "the load never noticed"
    assert told["replayed"] > 0, "no answer that was lost had taken effect"
    assert told["500"] == 0

    with server.connect() as connection:
        wait_until_nothing_is_pending(connection)
        wait_until_search_is_whole(chaos.api.url, keys[0])
        sweep(connection)
        rows = connection.execute("SELECT id, source, version, title FROM memory.memories").fetchall()
        assert {row[0]: row for row in rows} == {it.id: (it.id, it.key, it.version, it.title) for it in kept.values()}
        wrong = {
            name: found for name, query in CHECKS.items() if (found := connection.execute(query.encode()).fetchall())
        }
        assert wrong == {}
        searched = connection.execute("SELECT sum(used) FROM memory.usage_rates WHERE kind = 'searches'").fetchone()
        answered = sum(
            told[how] for how in ("hybrid", "model-slow", "model-down", "embeddings-pending", "not-affordable")
        )
        assert searched is not None
        assert searched[0] >= answered
        embedded = connection.execute(
            "SELECT memory.embedded_text(m.title, m.body), e.embedding::text FROM memory.memories m "
            "JOIN memory.embeddings e ON e.user_id = m.user_id AND e.memory_id = m.id ORDER BY m.id LIMIT 100"
        ).fetchall()
        with DaemonClient(f"tcp://127.0.0.1:{daemon.port}") as client:
            right = client.embed_batch([text for text, _ in embedded]).embeddings
        same = connection.execute(
            "SELECT bool_and(a::vector = b::vector) FROM unnest(%s::text[], %s::text[]) g (a, b)",
            ([vector for _, vector in embedded], right),
        ).fetchone()
        assert same == (True,)
