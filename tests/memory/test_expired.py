"""A memory that has expired lies in the trash, whether or not the hourly cleanup has found it."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

import psycopg
import pytest

from tests.memory.server import Person

PAST = "2020-01-01T00:00:00.000000Z"


def expired(person: Person, superuser: psycopg.Connection, body: str = "for a while", **fields: Any) -> dict[str, Any]:
    """A memory whose time is up."""
    saved = person.save(body, expires_at="2999-01-01T00:00:00Z", **fields)
    superuser.execute("UPDATE memory.memories SET expires_at = %s WHERE id = %s", (PAST, saved["id"]))
    return saved


def in_trash(person: Person) -> list[tuple[str, str]]:
    """What the trash lists, and since when it lies there."""
    return [(item["id"], item["deleted_at"]) for item in person.api.get("/v1/memories?trash=true").json()["items"]]


def test_an_expired_memory_lies_in_the_trash_at_once(person: Person, superuser: psycopg.Connection) -> None:
    it = expired(person, superuser)["id"]
    path = f"/v1/memories/{it}"
    assert (person.api.get("/v1/memories").json()["items"], in_trash(person)) == ([], [(it, PAST)])
    assert person.api.get(f"{path}?trash=true").json()["deleted_at"] == PAST
    assert person.api.delete(path).status_code == 404
    change = person.api.get("/v1/sync").json()["items"][0]["memory"]
    assert (change["id"], change["deleted_at"]) == (it, PAST)
    assert person.api.delete(f"{path}?permanent=true").status_code == 204
    assert in_trash(person) == []


def test_an_expired_memory_is_restored_without_its_end(person: Person, superuser: psycopg.Connection) -> None:
    it = expired(person, superuser)["id"]
    restored = person.api.post(f"/v1/memories/{it}/restore")
    assert restored.status_code == 200, restored.text
    assert [restored.json()[name] for name in ("deleted_at", "expires_at", "version", "duplicate_of")] == [
        None, None, 3, None,
    ]  # fmt: skip
    history = person.api.get(f"/v1/memories/{it}/history").json()["items"]
    assert [entry["action"] for entry in history] == ["restored", "trashed", "created"]
    assert [item["id"] for item in person.api.get("/v1/memories").json()["items"]] == [it]
    assert person.api.post(f"/v1/memories/{it}/restore").status_code == 409


def test_the_copies_of_a_restored_memory_have_one_original(person: Person, superuser: psycopg.Connection) -> None:
    it = person.save("for a while", expires_at="2999-01-01T00:00:00Z")["id"]
    copies = [person.api.post("/v1/memories?force=true", json={"body": "for a while"}).json()["id"] for _ in range(2)]
    superuser.execute("UPDATE memory.memories SET expires_at = %s WHERE id = %s", (PAST, it))
    assert person.api.post(f"/v1/memories/{it}/restore").json()["duplicate_of"] == copies[0]
    assert person.api.get(f"/v1/memories/{copies[1]}").json()["duplicate_of"] == copies[0]
    assert person.api.get(f"/v1/memories/{copies[0]}").json()["duplicate_of"] is None


@pytest.mark.parametrize("kind", ["restore", "update"])
def test_a_push_takes_an_expired_memory_out_of_the_trash(
    person: Person, superuser: psycopg.Connection, kind: str
) -> None:
    it = expired(person, superuser)["id"]
    operation = {"operation": str(uuid4()), "kind": kind, "id": it, "base_version": 1}
    if kind == "update":
        operation |= {"fields": {"body": "kept after all"}, "resolve": "mine"}
    other = {"operation": str(uuid4()), "kind": "create", "id": str(uuid4()), "fields": {"body": "another"}}
    answer = person.api.post("/v1/sync", json={"operations": [operation, other]})
    assert answer.status_code == 200, answer.text
    assert {result["outcome"] for result in answer.json()["results"]} <= {"applied", "merged"}
    found = person.api.get(f"/v1/memories/{it}").json()
    assert (found["deleted_at"], found["expires_at"]) == (None, None)
    assert found["body"] == ("for a while" if kind == "restore" else "kept after all")
