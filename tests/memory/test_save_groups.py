"""Saves of many users that come at once are stored together, and have nothing to do with each other."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager
from typing import Any
from uuid import uuid4

import psycopg
import pytest

from pg_steadytext.cluster.postgres import PrivateCluster
from pg_steadytext.memory.domain.text import content_hash
from pg_steadytext.memory.domain.tokens import token_hash
from pg_steadytext.memory.storage.database import Caller, Database
from pg_steadytext.memory.storage.saves import LARGE, Saves, Stored
from pg_steadytext.settings import Settings
from tests.memory.conftest import NewPerson
from tests.memory.server import Person
from tests.queue.workers import until


def entry(key: str, body: str) -> dict[str, Any]:
    """A save as the endpoint hands it on."""
    note = {
        "id": str(uuid4()), "body": body, "content_hash": "\\x" + content_hash(body).hex(), "tags": [],
        "provenance": {}, "pinned": False, "is_recalled": False,
    }  # fmt: skip
    return {"kind": "key", "hash": "\\x" + token_hash(key).hex(), "note": note, "force": False}


@pytest.fixture
def settings(cluster: PrivateCluster, memory_database: str) -> Settings:
    """What leads to the tests' database."""
    return Settings.load(cluster.client_environment(memory_database))


@asynccontextmanager
async def saves_of(settings: Settings, connections: int = 4) -> AsyncIterator[Saves]:
    """The saves of a process of its own."""
    database = Database(settings, connections, 10)
    await database.open()
    try:
        yield Saves(database)
    finally:
        await database.close()


def stored_at_once(settings: Settings, *saves: tuple[str, str]) -> list[Stored | BaseException]:
    """Save texts with keys in the same moment; returns what became of each."""

    async def run() -> list[Stored | BaseException]:
        async with saves_of(settings) as group:
            wanted: list[Coroutine[Any, Any, Stored]] = [
                group.save(Caller("key", token_hash(key)), entry(key, body)) for key, body in saves
            ]
            return await asyncio.gather(*wanted, return_exceptions=True)

    return asyncio.run(run())


@contextmanager
def locked(cluster: PrivateCluster, database: str, *people: Person) -> Iterator[None]:
    """Hold what every write of a user's takes, as a long import does."""
    with cluster.connect(database) as importer, importer.transaction():
        whose = [person.id for person in people]
        importer.execute("SELECT FROM memory.usage WHERE user_id = ANY (%s) FOR UPDATE", (whose,))
        yield


def test_a_group_is_one_transaction_in_which_everybody_has_what_is_his(
    settings: Settings, new_person: NewPerson, superuser: psycopg.Connection
) -> None:
    superuser.execute("INSERT INTO memory.tiers VALUES ('none at all', 86, 0, 1000000, 30, 10, 10, false)")
    people = [new_person() for _ in range(3)]
    reader, full = new_person(scopes=("memories:read",)), new_person(plan="none at all")
    told = stored_at_once(
        settings,
        *((person.key, f"group {number} {uuid4().hex}") for number, person in enumerate(people)),
        ("no such key", "of nobody"),
        (reader.key, "of one who only reads"),
        (people[1].key, "twice by the same"),
        (full.key, "beyond the plan"),
        (people[2].key, "the last"),
    )
    stored = [one for one in told if isinstance(one, Stored)]
    assert [one.failure or one.status for one in stored] == [201, 201, 201, "MC401", "MC403", 201, "MC402", 201]
    assert [one.body for one in stored if one.failure] == [None] * 3
    found = superuser.execute(
        "SELECT m.user_id, count(*), min(h.at), max(h.at) FROM memory.memories m JOIN memory.memory_history h"
        " ON (h.user_id, h.memory_id) = (m.user_id, m.id) WHERE m.user_id = ANY (%s) GROUP BY 1",
        ([person.id for person in (*people, reader, full)],),
    ).fetchall()
    assert {user: count for user, count, _, _ in found} == {people[0].id: 1, people[1].id: 2, people[2].id: 2}
    assert len({moment for _, _, first, last in found for moment in (first, last)}) == 1


def test_what_postgresql_cannot_hold_fails_by_itself(settings: Settings, new_person: NewPerson) -> None:
    people = [new_person() for _ in range(3)]
    good, bad, other = stored_at_once(
        settings, *((person.key, body) for person, body in zip(people, ("one", "a\0b", "two"), strict=True))
    )
    assert isinstance(bad, psycopg.DataError)
    assert [one.status for one in (good, other) if isinstance(one, Stored)] == [201, 201]


def test_those_whose_memories_are_locked_keep_nobody_else_waiting(
    cluster: PrivateCluster, memory_database: str, new_person: NewPerson
) -> None:
    importing, others = [new_person() for _ in range(2)], [new_person() for _ in range(8)]
    with ThreadPoolExecutor(12) as threads:
        with locked(cluster, memory_database, *importing):
            waiting = [
                threads.submit(person.save, f"behind the import {number}") for person in importing for number in "12"
            ]
            for turn in range(3):
                for one in [threads.submit(other.save, f"not behind it {turn}") for other in others]:
                    one.result(10)
            assert not any(one.done() for one in waiting)
        assert [one.result(10)["version"] for one in waiting] == [1, 1, 1, 1]


def test_a_lost_connection_is_the_failure_of_those_whom_it_stored(
    settings: Settings, cluster: PrivateCluster, memory_database: str, new_person: NewPerson,
    superuser: psycopg.Connection,
) -> None:  # fmt: skip
    one, two = new_person(), new_person()
    is_stored = "SELECT count(*) FROM memory.memories WHERE user_id = %s"
    end_who_waits = (
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
        " WHERE datname = current_database() AND wait_event_type = 'Lock'"
    )

    async def run() -> list[Stored | BaseException]:
        async with saves_of(settings) as group:
            saving = asyncio.gather(
                *(
                    group.save(Caller("key", token_hash(person.key)), entry(person.key, f"{person.id}"))
                    for person in (one, two)
                ),
                return_exceptions=True,
            )
            await asyncio.to_thread(until, lambda: superuser.execute(is_stored, (two.id,)).fetchone() == (1,), 10)
            await asyncio.to_thread(until, lambda: superuser.execute(end_who_waits).fetchone() is not None, 10)
            return await saving

    with locked(cluster, memory_database, one):
        lost, stored = asyncio.run(run())
    assert isinstance(lost, psycopg.OperationalError)
    assert isinstance(stored, Stored)
    assert stored.status == 201


def test_a_large_one_keeps_no_group_waiting(
    settings: Settings, new_person: NewPerson, superuser: psycopg.Connection
) -> None:
    people = [new_person() for _ in range(3)]
    bodies = ("a short one", "x " * LARGE, "another")
    stored_at_once(settings, *((person.key, body) for person, body in zip(people, bodies, strict=True)))
    moments = [
        superuser.execute("SELECT at FROM memory.memory_history WHERE user_id = %s", (person.id,)).fetchone()
        for person in people
    ]
    assert moments[0] == moments[2] != moments[1]
