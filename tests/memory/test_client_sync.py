"""The Python client as one who is offline for a while uses it: pushes, pulls, and two who meet again."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

import psycopg
import pytest

from pg_steadytext.memory.client import CursorGone, MemoryClient, Operation
from pg_steadytext.memory.domain.merge import FIELDS, State, changed
from tests.memory.offline import Offline


def test_more_operations_than_a_batch_takes_are_pushed_in_several(client: MemoryClient) -> None:
    memory = client.save("counted")
    operations = [Operation(kind="restore", id=memory.id) for _ in range(501)]
    results = client.push(operations)
    assert [result.operation for result in results] == [one.operation for one in operations]
    assert {result.outcome for result in results} == {"applied"}


def test_a_tombstone_and_a_cursor_that_is_gone_are_told_apart(
    client: MemoryClient, superuser: psycopg.Connection
) -> None:
    memory = client.save("short-lived")
    cursor = client.pull().cursor
    client.delete(memory, permanent=True)
    (gone,) = client.pull(cursor).items
    assert (gone.id, gone.memory) == (memory.id, None)
    assert gone.deleted_at is not None
    superuser.execute("UPDATE memory.sync_epoch SET epoch = gen_random_uuid()")
    with pytest.raises(CursorGone):
        client.pull(cursor)


class Remote:
    """The service as an offline client needs it."""

    def __init__(self, client: MemoryClient) -> None:
        self.client = client

    def push(self, operations: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
        sent = [Operation(**{"force": True, **one}) for one in operations]
        return [{"outcome": one.outcome, "problem": one.problem} for one in self.client.push(sent)]

    def pull(self) -> dict[str, tuple[int, State]]:
        return {
            str(note.id): (
                note.version,
                State({name: getattr(note, name) for name in FIELDS}, note.deleted_at is not None),
            )
            for note in (change.memory for change in self.client.pull(limit=500).items)
            if note is not None
        }


@pytest.mark.parametrize("seed", range(6))
def test_two_offline_clients_and_the_service_end_with_the_same_memories(client: MemoryClient, seed: int) -> None:
    chance = random.Random(seed)
    server = Remote(client)
    first = Offline("z", "mine")
    for number in range(3):
        first.create({"body": f"memory {number}", "tags": ["s", "t"]})
    first.sync(server)
    clients = [Offline("a", "mine"), Offline("b", "theirs")]
    for offline in clients:
        offline.sync(server)
    for _ in range(4):
        for offline in clients:
            for _ in range(5):
                _act(offline, chance)
        chance.choice(clients).sync(server)
    for offline in (*clients, clients[0]):
        offline.sync(server)

    kept = server.pull()
    assert clients[0].conflicts + clients[1].conflicts > 0
    for offline in clients:
        assert offline.view.keys() == kept.keys()
        for name, (_, state) in kept.items():
            assert offline.view[name].deleted == state.deleted
            assert changed(state.fields, offline.view[name].fields) == []


def _act(offline: Offline, chance: random.Random) -> None:
    live = sorted(name for name, state in offline.view.items() if not state.deleted)
    away = sorted(name for name, state in offline.view.items() if state.deleted)
    kind = chance.choice(("create", "update", "update", "update", "delete", "restore"))
    fields = {
        "title": chance.choice("abc"), "tags": chance.sample("stuv", 2), "body": chance.choice(("x", "y")),
        "provenance": {chance.choice("pq"): chance.randrange(3)},
    }  # fmt: skip
    patch = {name: fields[name] for name in chance.sample(sorted(fields), 2)}
    if kind == "create":
        offline.create({"body": "new", **patch})
    elif kind == "update" and live:
        offline.update(chance.choice(live), patch)
    elif kind == "delete" and live:
        offline.delete(chance.choice(live))
    elif kind == "restore" and away:
        offline.restore(chance.choice(away))
