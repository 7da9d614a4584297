"""Embedding of memories: nothing pending is forgotten, nothing fails unseen, and saves wait for none of it."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest

from pg_steadytext.cluster.postgres import PrivateCluster
from pg_steadytext.daemon.aio import AsyncDaemonClient
from pg_steadytext.memory.domain.spending import T, Tokens, UnaffordableError, UnknownUserError, UnpricedModelError
from pg_steadytext.memory.jobs.embedding import MemoryEmbedding
from pg_steadytext.memory.storage.migrate import migrate
from pg_steadytext.queue.jobs import Answer, Context, Failure, Job
from tests.memory.finding import Finding, bodies, search
from tests.memory.server import Person, make_person
from tests.queue.workers import WorkerProcess, until
from tests.support.daemon import DaemonProcess


def embedded(finding: Finding, person: Person) -> int:
    row = finding.superuser.execute(
        "SELECT count(*) FROM memory.embeddings WHERE user_id = %s", (person.id,)
    ).fetchone()
    assert row is not None
    return int(row[0])


def test_what_was_saved_without_a_worker_or_a_daemon_is_embedded_when_they_come(
    finding: Finding, daemon: DaemonProcess
) -> None:
    person = finding.person()
    daemon.stop()
    for number in range(5):
        person.save(f"note {number}")
    finding.start_worker()
    person.save("one more")
    assert finding.states(person) == {"pending"}
    daemon.start()
    finding.wait_until_embedded(person)
    assert embedded(finding, person) == 6
    finding.stop_workers()


def test_a_killed_worker_forgets_nothing(finding: Finding, daemon: DaemonProcess) -> None:
    person = finding.person()
    worker = finding.start_worker()
    lines = "\n".join(f'{{"body": "memory number {number} of an import"}}' for number in range(400))
    person.api.post("/v1/memories/import", content=lines, headers={"Content-Type": "application/x-ndjson"})
    until(lambda: embedded(finding, person) > 0, 20)
    worker.kill()
    left = embedded(finding, person)
    assert left < 400
    finding.superuser.execute("UPDATE steadytext_workers SET lease_expires_at = now()")
    finding.start_worker()
    finding.wait_until_embedded(person, seconds=60)
    assert embedded(finding, person) == 400
    finding.stop_workers()


def test_an_emptied_queue_is_filled_again_from_what_is_pending(finding: Finding, daemon: DaemonProcess) -> None:
    person = finding.person()
    person.save("pending")
    assert finding.superuser.execute("SELECT queued FROM memory.queue_embeddings(false)").fetchone() == (1,)
    assert finding.superuser.execute("SELECT queued FROM memory.queue_embeddings(false)").fetchone() == (0,)
    finding.superuser.execute("DELETE FROM steadytext_queue")
    finding.start_worker()
    finding.wait_until_embedded(person)
    finding.stop_workers()


def test_two_users_memories_of_one_id_are_both_queued(finding: Finding) -> None:
    one, two = finding.person(), finding.person()
    memory = one.save("the first that has this id")["id"]
    fields = {"body": "the second"}
    created = {"operation": str(uuid4()), "kind": "create", "id": memory, "fields": fields}
    answer = two.api.post("/v1/sync", json={"operations": [created]})
    assert answer.json()["results"][0]["id"] == memory
    finding.superuser.execute("SELECT memory.queue_embeddings(false)")
    queued = finding.superuser.execute(
        "SELECT params ->> 'user' FROM steadytext_queue WHERE params ->> 'memory' = %s", (memory,)
    ).fetchall()
    assert sorted(queued) == sorted([(str(one.id),), (str(two.id),)])
    for person in (one, two):
        person.api.delete("/v1/me", params={"confirm": person.email})
    finding.superuser.execute("DELETE FROM steadytext_queue")


def test_one_users_import_does_not_keep_another_waiting(finding: Finding) -> None:
    big, small = finding.person(), finding.person()
    lines = "\n".join(f'{{"body": "memory number {number}"}}' for number in range(300))
    big.api.post("/v1/memories/import", content=lines, headers={"Content-Type": "application/x-ndjson"})
    small.save("alone")
    finding.superuser.execute("SELECT memory.queue_embeddings(false)")
    rows = finding.superuser.execute(
        "SELECT params ->> 'user', count(*) FROM steadytext_queue WHERE lane = 'memory_embed' AND status = 'pending' "
        "AND params ->> 'user' = ANY (%s) GROUP BY 1",
        ([str(big.id), str(small.id)],),
    ).fetchall()
    assert dict(rows) == {str(big.id): 100, str(small.id): 1}
    for person in (big, small):
        person.api.delete("/v1/me", params={"confirm": person.email})
    finding.superuser.execute("DELETE FROM steadytext_queue")


def test_the_workers_role_reaches_memories_by_the_routines_alone(
    finding: Finding, daemon: DaemonProcess, cluster: PrivateCluster
) -> None:
    person = finding.person()
    finding.superuser.execute("CREATE ROLE memory_worker_test LOGIN PASSWORD 'p-for-tests' IN ROLE steadytext_worker")
    try:
        with (
            cluster.connect(finding.name, "memory_worker_test", "p-for-tests") as session,
            pytest.raises(psycopg.errors.InsufficientPrivilege),
        ):
            session.execute("SELECT * FROM memory.memories")
        finding.start_worker("memory_worker_test", PGPASSWORD="p-for-tests", PGPASSFILE="/dev/null")
        person.save("embedded by a role that sees nothing")
        finding.wait_until_embedded(person)
        finding.stop_workers()
    finally:
        finding.superuser.execute("DROP ROLE memory_worker_test")


def test_the_schema_may_come_after_the_worker(
    daemon: DaemonProcess, database: str, cluster: PrivateCluster, daemon_ports: tuple[int, int]
) -> None:
    worker = WorkerProcess(
        {
            **cluster.client_environment(database),
            "STEADYTEXT_HOME": str(cluster.home.root),
            "STEADYTEXT_DAEMON_PORT": str(daemon_ports[0]),
        }
    )
    try:
        worker.wait_for_log("takes from")
        with cluster.connect(database) as superuser:
            migrate(superuser)
            superuser.execute("INSERT INTO memory.users (id, email, name) VALUES (gen_random_uuid(), 'a@b.c', 'A')")
            superuser.execute(
                "INSERT INTO memory.memories (user_id, id, body, content_hash, bytes, change_seq, enrichment_status, "
                "embedding_status) SELECT id, gen_random_uuid(), 'kept', sha256('kept'), 6, 1, 'none', 'pending' "
                "FROM memory.users"
            )
            superuser.execute("NOTIFY steadytext_queue")
            until(
                lambda: superuser.execute("SELECT count(*) FROM memory.embeddings").fetchone() == (1,),
                35,
                lambda: worker.log,
            )
    finally:
        worker.stop()
    assert "WARNING" not in worker.log
    assert "ERROR" not in worker.log


# The handler by itself, with a guard or a model that refuses.


class Poor:
    """A guard for whom one user's budget is spent."""

    def __init__(self, user: UUID, retry_at: datetime) -> None:
        self.user, self.retry_at = user, retry_at
        self.asked: list[tuple[str, str, UUID, Tokens]] = []

    async def call(
        self, purpose: str, model: str, user_id: UUID, most: Tokens, work: Callable[[], Awaitable[tuple[T, Tokens]]]
    ) -> T:
        self.asked.append((purpose, model, user_id, most))
        if user_id == self.user:
            raise UnaffordableError("the user's budget of the day is spent", self.retry_at)
        found, took = await work()
        assert took.read <= most.read
        return found


def job(person: Person, memory: str) -> Job:
    params = f'{{"user": "{person.id}", "memory": "{memory}"}}'
    return Job(1, memory, "memory_embed", 1, 5, datetime.now(UTC), None, None, params, False)


@pytest.fixture
def handle(finding: Finding, daemon: DaemonProcess) -> Callable[..., list[Any]]:
    """Run the handler on some jobs."""

    def run(jobs: list[Job], guard: Any, meanwhile: Callable[[], None] | None = None) -> list[Any]:
        async def connect() -> psycopg.AsyncConnection:
            info = finding.superuser.info
            return await psycopg.AsyncConnection.connect(
                host=info.host,
                port=info.port,
                dbname=info.dbname,
                user=info.user,
                password=info.password,
                autocommit=True,
            )

        async def work() -> list[Any]:
            async with AsyncDaemonClient(f"tcp://127.0.0.1:{daemon.port}") as client:
                if meanwhile is not None:
                    whole = client.embed_batch

                    async def embed_batch(*given: Any, **options: Any) -> Any:
                        found = await whole(*given, **options)
                        await asyncio.to_thread(meanwhile)
                        return found

                    client.embed_batch = embed_batch  # type: ignore[method-assign]

                async def announce(channel: str, payload: str) -> None: ...

                handler = MemoryEmbedding(connect, guard)
                try:
                    return list(await handler.run(jobs, Context(client, announce)))
                finally:
                    await handler._session.close()

        return asyncio.run(work())

    return run


def test_what_cannot_be_afforded_is_paused_and_tried_again_at_its_time(
    finding: Finding, handle: Callable[..., list[Any]]
) -> None:
    poor, rich = finding.person(), finding.person()
    saved, other = poor.save("too dear"), rich.save("affordable")
    guard = Poor(poor.id, datetime.now(UTC) + timedelta(seconds=5))
    outcomes = handle([job(poor, saved["id"]), job(rich, other["id"])], guard)
    assert [outcome.text for outcome in outcomes] == ["paused", "done"]
    assert {asked[:3] for asked in guard.asked} == {("embedding", "all-minilm-l6-v2", p.id) for p in (poor, rich)}
    now = poor.api.get("/v1/memories", params={"embedding": "paused"}).json()["items"]
    assert [item["embedding_error"] for item in now] == ["the user's budget of the day is spent"]
    assert bodies(search(poor, "dear")) == ["too dear"]
    ((queued, pause),) = finding.superuser.execute("SELECT queued, pause FROM memory.queue_embeddings(true)").fetchall()
    assert queued == 0
    assert 0 < pause <= 5
    finding.start_worker()
    finding.wait_until_embedded(poor)
    assert poor.api.get(f"/v1/memories/{saved['id']}").json()["embedding_error"] is None
    finding.stop_workers()


def test_a_text_that_fails_fails_alone_and_is_listed(finding: Finding, handle: Callable[..., list[Any]]) -> None:
    class Choosy(Poor):
        async def call(
            self, purpose: str, model: str, user_id: UUID, most: Tokens,
            work: Callable[[], Awaitable[tuple[T, Tokens]]],
        ) -> T:  # fmt: skip
            found, _ = await work()
            if most.read > 20:
                from pg_steadytext.errors import InvalidArgument

                raise InvalidArgument("the model refuses it")
            return found

    person = finding.person()
    good, bad = person.save("good"), person.save("bad because it is much too long for this model")
    done, failed = handle([job(person, good["id"]), job(person, bad["id"])], Choosy(UUID(int=0), datetime.now(UTC)))
    assert isinstance(done, Answer)
    assert failed == Failure("22023", "the model refuses it", retryable=False)
    listed = person.api.get("/v1/memories", params={"embedding": "failed"}).json()["items"]
    assert [(item["id"], item["embedding_error"]) for item in listed] == [(bad["id"], "the model refuses it")]
    patched = person.api.patch(f"/v1/memories/{bad['id']}", json={"body": "short"}, headers={"If-Match": "*"}).json()
    assert (patched["embedding_status"], patched["embedding_error"]) == ("pending", None)


@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        (UnknownUserError("who?"), "nothing to do"),
        (UnpricedModelError("no price"), "UnpricedModelError: no price"),
        (TimeoutError("too long"), "TimeoutError: too long"),
    ],
)
def test_what_keeps_one_users_text_from_being_embedded_costs_another_nothing(
    finding: Finding, handle: Callable[..., list[Any]], error: Exception, outcome: str
) -> None:
    class Failing(Poor):
        async def call(
            self, purpose: str, model: str, user_id: UUID, most: Tokens,
            work: Callable[[], Awaitable[tuple[T, Tokens]]],
        ) -> T:  # fmt: skip
            if user_id == self.user:
                raise error
            return (await work())[0]

    one, other = finding.person(), finding.person()
    jobs = [job(person, person.save("a text")["id"]) for person in (one, other)]
    ended, done = handle(jobs, Failing(one.id, datetime.now(UTC)))
    assert isinstance(done, Answer)
    assert (ended.text if isinstance(ended, Answer) else ended.message) == outcome


def test_a_vector_of_what_was_changed_meanwhile_is_not_written(
    finding: Finding, handle: Callable[..., list[Any]]
) -> None:
    person = finding.person()
    guard = Poor(UUID(int=0), datetime.now(UTC))
    for change in ("patch", "delete"):
        saved = person.save(f"as it was, {change}")
        path = f"/v1/memories/{saved['id']}"

        def meanwhile(change: str = change, path: str = path) -> None:
            if change == "patch":
                person.api.patch(path, json={"body": "as it is"}, headers={"If-Match": "*"})
            else:
                person.api.delete(path, params={"permanent": True})

        handle([job(person, saved["id"])], guard, meanwhile)
        assert embedded(finding, person) == 0
    assert finding.states(person) == {"pending"}


def test_a_memory_that_somebody_is_changing_is_tried_again(finding: Finding, handle: Callable[..., list[Any]]) -> None:
    person = finding.person()
    saved = person.save("contested")
    guard = Poor(UUID(int=0), datetime.now(UTC))
    with finding.cluster.connect(finding.name) as other, other.transaction():
        other.execute("SELECT FROM memory.memories WHERE id = %s FOR NO KEY UPDATE", (saved["id"],))
        (outcome,) = handle([job(person, saved["id"])], guard)
        assert outcome.pause > 0
        assert embedded(finding, person) == 0
    (outcome,) = handle([job(person, saved["id"])], guard)
    assert outcome.text == "done"
    assert embedded(finding, person) == 1


def test_a_hung_daemon_holds_up_neither_saves_nor_searches(finding: Finding, daemon: DaemonProcess) -> None:
    person = finding.person()
    finding.start_worker()
    person.save("The kettle is descaled with vinegar.")
    finding.wait_until_embedded(person)
    assert search(person, "limestone")["mode"] == "hybrid"
    os.kill(daemon.pid, signal.SIGSTOP)
    try:
        person.save("The kettle is new.")
        found = search(person, "kettle")
        assert (found["mode"], found["degraded_because"]) == ("keyword", "model-slow")
        assert len(found["items"]) == 2
        assert found["pending_embeddings"] == 1
        assert search(person, "limestone")["mode"] == "hybrid"  # its vector was asked for before
    finally:
        os.kill(daemon.pid, signal.SIGCONT)
    finding.wait_until_embedded(person)
    daemon.stop()
    found = search(person, "kettles", mode="semantic")
    assert (found["mode"], found["degraded_because"]) == ("keyword", "model-down")
    assert len(found["items"]) == 2
    daemon.start()
    until(lambda: search(person, "kettles", mode="semantic")["mode"] == "semantic", 15)
    finding.stop_workers()


def test_while_nothing_is_embedded_search_goes_by_words(finding: Finding, daemon: DaemonProcess) -> None:
    person = make_person(finding.server, finding.superuser)
    person.save("words alone")
    found = search(person, "word", mode="semantic")
    assert (found["mode"], found["degraded_because"], bodies(found)) == (
        "keyword",
        "embeddings-pending",
        ["words alone"],
    )
