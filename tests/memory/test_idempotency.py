"""Idempotency-Key, as the IETF draft has it."""

from __future__ import annotations

import psycopg
import pytest

from tests.memory.conftest import NewPerson
from tests.memory.server import Person

KEY = {"Idempotency-Key": '"8e03978e-40d5-43dd-bc93-6894a57f9324"'}


def test_a_repeated_request_gets_the_first_answer_again(person: Person) -> None:
    first = person.api.post("/v1/memories", json={"body": "once"}, headers=KEY)
    person.api.delete(f"{first.headers['Location']}?permanent=true")
    again = person.api.post("/v1/memories", json={"body": "once"}, headers=KEY)

    assert (again.status_code, again.content) == (first.status_code, first.content) == (201, first.content)
    assert "Idempotent-Replayed" not in first.headers
    assert again.headers["Idempotent-Replayed"] == "true"
    for name in ("ETag", "Location", "RateLimit-Remaining"):
        assert again.headers[name] == first.headers[name]
    assert person.api.get("/v1/memories").json()["items"] == []


def test_another_payload_under_the_same_key_is_refused(person: Person) -> None:
    person.api.post("/v1/memories", json={"body": "once"}, headers=KEY)
    other = person.api.post("/v1/memories", json={"body": "twice"}, headers=KEY)
    assert (other.status_code, other.json()["type"].rpartition("/")[2]) == (422, "idempotency-mismatch")
    assert person.api.post("/v1/memories?force=true", json={"body": "once"}, headers=KEY).status_code == 422


@pytest.mark.parametrize("malformed", ['"', '""', "a b", '"ä"', '"' + "x" * 256 + '"', '"a"b"'])
def test_a_malformed_key_is_refused(person: Person, malformed: str) -> None:
    headers = {b"Idempotency-Key": malformed.encode("latin-1")}
    answer = person.api.post("/v1/memories", json={"body": "x"}, headers=headers)
    assert (answer.status_code, answer.headers["content-type"]) == (400, "application/problem+json")


def test_a_key_counts_for_its_user_method_and_path(person: Person, new_person: NewPerson) -> None:
    assert person.api.post("/v1/memories", json={"body": "mine"}, headers=KEY).status_code == 201
    assert person.api.post("/v1/agents", json={"name": "helper"}, headers=KEY).status_code == 201
    assert new_person().api.post("/v1/memories", json={"body": "not yours"}, headers=KEY).status_code == 201


def test_a_key_in_flight_is_a_conflict(person: Person, superuser: psycopg.Connection) -> None:
    with superuser.transaction():
        superuser.execute("SELECT set_config('memory.user_id', %s, true)", (str(person.id),))
        superuser.execute("SELECT memory.idempotency_begin('POST', '/v1/memories', 'k', sha256('x'))")
        answer = person.api.post("/v1/memories", json={"body": "x"}, headers={"Idempotency-Key": "k"})
    assert (answer.status_code, answer.headers["Retry-After"]) == (409, "1")
    assert person.api.post("/v1/memories", json={"body": "x"}, headers={"Idempotency-Key": "k"}).status_code == 201


def test_a_refused_request_leaves_its_key_unused(person: Person) -> None:
    memory = person.save("to be changed")
    path = f"/v1/memories/{memory['id']}"
    late = {**KEY, "If-Match": '"v9"'}
    assert person.api.patch(path, json={"title": "T"}, headers=late).status_code == 412
    right = {**KEY, "If-Match": '"v1"'}
    changed = person.api.patch(path, json={"title": "T"}, headers=right)
    again = person.api.patch(path, json={"title": "T"}, headers=right)
    assert changed.status_code == again.status_code == 200
    assert again.content == changed.content
    assert again.headers["ETag"] == changed.headers["ETag"] == '"v2"'
    assert again.headers["Idempotent-Replayed"] == "true"


def test_an_old_key_is_forgotten(person: Person, superuser: psycopg.Connection) -> None:
    first = person.api.post("/v1/memories?force=true", json={"body": "again"}, headers=KEY).json()["id"]
    age = "UPDATE memory.idempotency_keys SET created_at = created_at - interval '24 hours' WHERE user_id = %s"
    superuser.execute(age, (person.id,))
    second = person.api.post("/v1/memories?force=true", json={"body": "again"}, headers=KEY).json()["id"]
    assert first != second

    superuser.execute(age, (person.id,))
    superuser.execute("SELECT memory.cleanup()")
    left = superuser.execute("SELECT count(*) FROM memory.idempotency_keys WHERE user_id = %s", (person.id,)).fetchone()
    assert left == (0,)
