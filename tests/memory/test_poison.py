"""A memory whose text ends the daemon each time fails with its reason, and nothing beside it pays."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Iterator
from typing import Any, cast

import pytest

from pg_steadytext.daemon.aio import AsyncDaemonClient
from tests.memory.finding import Finding
from tests.memory.lanes import Model, Post
from tests.memory.server import Person
from tests.memory.sqs_server import SqsServer
from tests.queue.workers import until
from tests.support.mortal import POISON, kept_alive

REASON = "closed the connection before it answered, with nothing else in work"
NEIGHBOURS = 5
LANES = ("memory_embed", "memory_enrich")


@pytest.fixture
def hurried(finding: Finding) -> Iterator[Finding]:
    """The database, with few retries and no pause before them."""

    def configure(retries: str, seconds: str) -> None:
        for name, value in (("queue_max_retries", retries), ("queue_retry_seconds", seconds)):
            finding.superuser.execute("SELECT steadytext_config_set(%s, %s)", (name, value))

    configure("1", "0")
    yield finding
    configure("3", "1")


def save(person: Person) -> str:
    """Save what ends the daemon, in the middle of what does not; returns its id."""
    saved = [person.save(POISON if n == 2 else f"a wholesome note, number {n}")["id"] for n in range(NEIGHBOURS + 1)]
    return str(saved[2])


def states(person: Person, kind: str) -> dict[str, str]:
    items = person.api.get("/v1/memories").json()["items"]
    return {memory["id"]: memory[kind] for memory in items}


def rounds(finding: Finding, poison: str, lane: str) -> list[tuple[str, int]]:
    """State and retries of what was queued for the memory that ends the daemon."""
    query = "SELECT status, retry_count FROM steadytext_queue WHERE lane = %s AND params ->> 'memory' = %s"
    return finding.superuser.execute(query, (lane, poison)).fetchall()


def test_a_memory_that_ends_the_daemon_fails_for_its_owner_to_see_and_alone(hurried: Finding, unused_port: int) -> None:
    person = hurried.person()
    poison = save(person)
    expected = {"done": NEIGHBOURS, "failed": 1}

    def counted() -> list[dict[str, int]]:
        found = [list(states(person, f"{kind}_status").values()) for kind in ("embedding", "enrichment")]
        return [{state: several.count(state) for state in several} for several in found]

    with kept_alive(unused_port) as deaths:
        hurried.start_worker(STEADYTEXT_DAEMON_PORT=str(unused_port), STEADYTEXT_MEMORY_ENRICHMENT="1")
        until(lambda: counted() == [expected] * 2, 60, lambda: f"{counted()} {hurried.workers[0].log}")
        (failed,) = person.api.get("/v1/memories", params={"enrichment": "failed"}).json()["items"]
        assert failed["id"] == poison
        assert REASON in failed["enrichment_error"]
        assert [rounds(hurried, poison, lane) for lane in LANES] == [[("failed", 1)]] * 2
        innocent = hurried.superuser.execute(
            "SELECT max(retry_count) FROM steadytext_queue WHERE owner = 'pg_steadytext memory' AND status <> 'failed'"
        ).fetchone()
        assert innocent == (0,)
        opened = hurried.superuser.execute("SELECT name FROM memory.ai_breakers WHERE state <> 'closed'").fetchall()
        assert opened == []
        before = deaths.count(-signal.SIGKILL)
        assert before >= 6

        # Its owner asks once more: it is tried once more, and that is all.
        assert person.api.post(f"/v1/memories/{poison}/enrich").json()["enrichment_status"] == "pending"
        until(lambda: states(person, "enrichment_status")[poison] == "failed", 60, lambda: hurried.workers[0].log)
        assert rounds(hurried, poison, "memory_enrich") == [("failed", 1)] * 2
        hurried.stop_workers()


def test_what_the_queue_gave_up_for_another_reason_has_failed_too(hurried: Finding) -> None:
    person = hurried.person()
    memory = person.save("The worker was lost with it.")["id"]

    def look() -> list[tuple[Any, ...]]:
        """Queue what is pending, as a worker would."""
        return hurried.superuser.execute(
            "SELECT (memory.queue_embeddings(false)).queued, (memory.queue_enrichments()).queued"
        ).fetchall()

    assert look() == [(1, 1)]
    hurried.superuser.execute(
        "UPDATE steadytext_queue SET status = 'failed', error = 'lost', started_at = now(), completed_at = now() "
        "WHERE params ->> 'memory' = %s",
        (memory,),
    )
    assert look() == [(0, 0)]
    note = person.api.get(f"/v1/memories/{memory}").json()
    assert (note["embedding_status"], note["enrichment_status"], note["enrichment_error"]) == (
        "failed",
        "failed",
        "lost",
    )
    # What says something else, or is asked for, begins anew.
    person.api.post(f"/v1/memories/{memory}/enrich")
    assert look() == [(0, 1)]
    person.api.patch(f"/v1/memories/{memory}", json={"body": "Found again."}, headers={"If-Match": "*"})
    assert look() == [(1, 0)]


def test_a_memory_that_came_by_a_broker_and_ends_the_daemon_is_given_up(
    finding: Finding, unused_port: int, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    finding.superuser.execute("UPDATE memory.memories SET enrichment_status = 'none'")
    person = finding.person()
    poison = save(person)
    running = SqsServer(tmp_path_factory.mktemp("broker"))
    for name, value in running.environment.items():
        monkeypatch.setenv(name, value)
    post = Post(finding, "sqs:poison")

    async def run() -> None:
        def is_over() -> bool:
            return post.count() == 0 and "pending" not in states(person, "enrichment_status").values()

        async def is_buried() -> bool:
            return await post.depth() == (0, 1)

        async with (
            AsyncDaemonClient(f"tcp://127.0.0.1:{unused_port}") as daemon,
            post.relay(),
            post.consumer(cast("Model", daemon)),
        ):
            await post.until(is_over)
            await post.until(is_buried)

    try:
        with kept_alive(unused_port):
            asyncio.run(run())
    finally:
        running.close()
    found = states(person, "enrichment_status")
    assert found.pop(poison) == "failed"
    assert set(found.values()) == {"done"}
    assert REASON in person.api.get(f"/v1/memories/{poison}").json()["enrichment_error"]
