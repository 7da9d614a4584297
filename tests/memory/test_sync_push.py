"""Operations of a client that was away: each takes effect once, merged with what others did."""

from __future__ import annotations

import asyncio
import signal
import threading
from collections import Counter
from typing import Any
from uuid import uuid4

import httpx2
import psycopg
import pytest

from pg_steadytext.cluster.postgres import PrivateCluster
from pg_steadytext.memory.jobs.cleanup import clean
from pg_steadytext.memory.storage.database import Database
from pg_steadytext.settings import Settings
from tests.memory.conftest import NewPerson
from tests.memory.server import Api, MemoryServer, Person, at_once
from tests.support.runtime import wait_until

CLIENTS = 50
Result = dict[str, Any]


def op(kind: str, memory: str, **members: Any) -> dict[str, Any]:
    """An operation with an id of its own."""
    return {"operation": str(uuid4()), "kind": kind, "id": memory, **members}


def push(api: Api, *operations: dict[str, Any]) -> list[Result]:
    """Push a batch and return its results."""
    answer = api.post("/v1/sync", json={"operations": operations})
    assert answer.status_code == 200, answer.text
    results: list[Result] = answer.json()["results"]
    assert [result["operation"] for result in results] == [operation["operation"] for operation in operations]
    return results


def outcomes(results: list[Result]) -> list[str | int]:
    """Each result's outcome, or the status of its refusal."""
    return [result["problem"]["status"] if result["problem"] else result["outcome"] for result in results]


def change(person: Person, memory: str, **fields: Any) -> dict[str, Any]:
    """What another client does in the meantime."""
    answer = person.api.patch(f"/v1/memories/{memory}", json=fields, headers={"If-Match": "*"})
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def test_a_batch_is_carried_out_in_its_order(person: Person) -> None:
    new, other = str(uuid4()), person.save("there before")["id"]
    results = push(
        person.api,
        op("create", new, fields={"body": "made offline", "tags": ["trip"]}),
        op("update", new, base_version=1, fields={"title": "T"}),
        op("delete", other, base_version=1),
        op("restore", other),
        op("delete", new, base_version=1, base={"title": "T"}),
    )
    assert outcomes(results) == ["applied"] * 5
    assert [result["version"] for result in results] == [1, 2, 2, 3, 3]
    found = person.api.get(f"/v1/memories/{new}", params={"trash": True}).json()
    assert (found["title"], found["tags"], found["deleted_at"] is None) == ("T", ["trip"], False)
    assert person.api.get(f"/v1/memories/{other}").json()["version"] == 3


def test_fields_that_one_side_changed_are_merged(person: Person) -> None:
    memory = person.save("text", tags=["a", "b"], provenance={"page": 1, "book": "x"})["id"]
    change(person, memory, title="theirs", tags=["a", "b", "c"], provenance={"page": 2, "book": "x"})
    change(person, memory, category="work", tags=["b", "c"])
    mine = {"body": "my text", "tags": ["a", "d"], "provenance": {"page": 1, "book": "x", "line": 7}}
    (result,) = push(person.api, op("update", memory, base_version=1, fields=mine))

    assert (result["outcome"], result["version"]) == ("merged", 4)
    now = person.api.get(f"/v1/memories/{memory}").json()
    assert (now["body"], now["title"], now["category"], now["tags"]) == ("my text", "theirs", "work", ["c", "d"])
    assert now["provenance"] == {"page": 2, "book": "x", "line": 7}


def test_a_conflict_shows_base_mine_and_theirs_and_changes_nothing(person: Person) -> None:
    memory = person.save("base", title="T")["id"]
    change(person, memory, body="theirs")
    operation = op("update", memory, base_version=1, fields={"body": "mine", "title": "mine too"})
    (result,) = push(person.api, operation)

    assert (result["outcome"], result["version"]) == ("conflict", 2)
    assert result["conflicts"] == {"body": {"base": "base", "mine": "mine", "theirs": "theirs"}}
    assert person.api.get(f"/v1/memories/{memory}").json()["title"] == "T"

    (again,) = push(person.api, operation)
    assert (again["outcome"], again["replayed"]) == ("conflict", False)
    (kept,) = push(person.api, {**operation, "operation": "theirs", "resolve": "theirs"})
    now = person.api.get(f"/v1/memories/{memory}").json()
    assert (kept["outcome"], now["body"], now["title"]) == ("merged", "theirs", "mine too")
    change(person, memory, title="T")
    (won,) = push(person.api, {**operation, "operation": "mine", "resolve": "mine"})
    now = person.api.get(f"/v1/memories/{memory}").json()
    assert (won["outcome"], now["body"], now["title"]) == ("merged", "mine", "mine too")


@pytest.mark.parametrize(
    ("field", "base", "mine", "theirs"),
    [
        ("title", None, "a", "b"),
        ("category", "x", None, "y"),
        ("source", "s", "a", "b"),
        ("expires_at", None, "2090-01-01T00:00:00+02:00", "2091-01-01T00:00:00Z"),
        ("provenance", {"a": 1}, {"a": 2}, {"a": True}),
    ],
)
def test_every_field_may_be_in_conflict(person: Person, field: str, base: Any, mine: Any, theirs: Any) -> None:
    given = {} if base is None else {field: base}
    memory = person.save("a memory", **given)["id"]
    change(person, memory, **{field: theirs})
    (result,) = push(person.api, op("update", memory, base_version=1, fields={field: mine}))
    assert list(result["conflicts"]) == [field]
    (same,) = push(person.api, op("update", memory, base_version=1, fields={field: theirs}))
    assert (same["outcome"], same["version"]) == ("merged", 2)


def test_a_deletion_against_a_change_is_a_conflict_for_either_side(person: Person) -> None:
    memory = person.save("precious")["id"]
    change(person, memory, body="more precious")
    delete = op("delete", memory, base_version=1)
    (result,) = push(person.api, delete)
    assert result["conflicts"] == {
        "deleted": {"base": False, "mine": True, "theirs": False},
        "body": {"base": "precious", "mine": "precious", "theirs": "more precious"},
    }
    assert outcomes(push(person.api, {**delete, "operation": "t", "resolve": "theirs"})) == ["merged"]
    assert person.api.get(f"/v1/memories/{memory}").status_code == 200
    assert outcomes(push(person.api, {**delete, "operation": "m", "resolve": "mine"})) == ["merged"]
    assert person.api.get(f"/v1/memories/{memory}").status_code == 404

    update = op("update", memory, base_version=2, fields={"title": "T"})
    (result,) = push(person.api, update)
    assert result["conflicts"] == {"deleted": {"base": False, "mine": False, "theirs": True}}
    assert outcomes(push(person.api, {**update, "operation": "u", "resolve": "theirs"})) == ["merged"]
    assert person.api.get(f"/v1/memories/{memory}").status_code == 404
    assert outcomes(push(person.api, {**update, "operation": "v", "resolve": "mine"})) == ["merged"]
    assert person.api.get(f"/v1/memories/{memory}").json()["title"] == "T"


def test_what_both_deleted_is_deleted_and_what_is_gone_for_good_stays_gone(person: Person) -> None:
    memory = person.save("short-lived")["id"]
    person.api.delete(f"/v1/memories/{memory}")
    assert outcomes(push(person.api, op("delete", memory, base_version=1))) == ["applied"]
    person.api.delete(f"/v1/memories/{memory}", params={"permanent": True})
    batch = (
        op("delete", memory, base_version=1),
        op("update", memory, base_version=1, fields={"title": "T"}),
        op("restore", memory),
        op("create", memory, fields={"body": "again"}),
    )
    results = [result for operation in batch for result in push(person.api, operation)]
    assert outcomes(results) == ["applied", 410, 410, 410]


def test_own_changes_on_top_of_own_changes_are_no_conflict(person: Person) -> None:
    memory = person.save("one", tags=["a"])["id"]
    change(person, memory, title="theirs", tags=["a", "t"])
    first = op("update", memory, base_version=1, fields={"body": "two", "tags": ["a", "m"]})
    second = op("update", memory, base_version=1, base={"body": "two", "tags": ["a", "m"]},
                fields={"body": "three", "tags": ["m"]})  # fmt: skip
    third = op("update", memory, base_version=1, base={"body": "three", "tags": ["m"]}, fields={"title": "mine"})
    results = push(person.api, first, second, third)
    assert outcomes(results) == ["merged", "merged", "conflict"]
    now = person.api.get(f"/v1/memories/{memory}").json()
    assert (now["body"], now["title"], sorted(now["tags"])) == ("three", "theirs", ["m", "t"])


def test_a_refused_operation_loses_none_but_those_about_its_memory_wait(person: Person) -> None:
    bad, good = str(uuid4()), str(uuid4())
    refused = op("create", bad, fields={"body": "x", "no_such": 1})
    results = push(
        person.api,
        refused,
        op("create", good, fields={"body": "kept"}),
        op("update", bad, base_version=1, fields={"title": "T"}),
        op("update", good, fields={"title": "T"}),
        op("update", str(uuid4()), base_version=1, fields={"title": "T"}),
        op("restore", str(uuid4())),
    )
    assert outcomes(results) == [422, "applied", 424, 422, 404, 404]
    assert results[0]["problem"]["errors"][0]["at"] == ["fields", "no_such"]
    assert results[2]["problem"]["after"] == refused["operation"]
    assert push(person.api, op("update", good, base_version=9, fields={}))[0]["problem"]["status"] == 422
    assert person.api.get(f"/v1/memories/{good}").status_code == 200


def test_a_text_that_is_there_already_is_not_saved_twice(person: Person) -> None:
    there = person.save("the same thought")["id"]
    new = str(uuid4())
    create = op("create", new, fields={"body": "The same  THOUGHT"})
    results = push(person.api, create, op("update", new, base_version=1, fields={"title": "T"}))
    assert outcomes(results) == ["duplicate", 424]
    assert results[0]["id"] == there
    assert outcomes(push(person.api, op("create", new, fields={"body": "the same thought"}, force=True))) == ["applied"]
    assert outcomes(push(person.api, op("create", new, fields={"body": "another"}))) == [409]


def test_an_operation_counts_as_a_write_of_its_kind_does(new_person: NewPerson, superuser: psycopg.Connection) -> None:
    superuser.execute("INSERT INTO memory.tiers VALUES ('three synced', 94, 3, 1000, 2, 10, 10, false)")
    person = new_person(plan="three synced")
    memory = str(uuid4())
    creates = [op("create", str(uuid4()), fields={"body": f"note {number}"}) for number in range(2)]
    results = push(
        person.api, op("create", memory, fields={"body": "first"}), *creates,
        op("update", memory, base_version=1, fields={"body": "x" * 2000}),
    )  # fmt: skip
    assert outcomes(results) == ["applied", "applied", 429, 402]
    assert results[2]["problem"]["reset"] > 0
    assert results[3]["problem"]["lifted_by"]
    usage = person.api.get("/v1/usage").json()
    assert (usage["saves"]["used"], usage["memories"]["used"]) == (2, 2)

    superuser.execute(
        "UPDATE memory.usage SET saves_since = saves_since - interval '1 day' WHERE user_id = %s", (person.id,)
    )
    assert outcomes(push(person.api, *creates)) == ["applied", "applied"]


def test_the_same_operation_is_answered_again_and_another_under_its_id_is_refused(person: Person) -> None:
    memory = str(uuid4())
    batch = [
        op("create", memory, fields={"body": "once"}),
        op("update", memory, base_version=1, fields={"title": "T"}),
    ]
    first, again = push(person.api, *batch), push(person.api, *batch)
    assert [{**result, "replayed": True} for result in first] == again
    assert not any(result["replayed"] for result in first)
    assert outcomes(push(person.api, {**batch[1], "fields": {"title": "other"}})) == [422]
    assert person.api.get(f"/v1/memories/{memory}").json()["version"] == 2


def test_fifty_identical_batches_have_one_effect(server: MemoryServer, person: Person) -> None:
    there = person.save("there before", tags=["x"])["id"]
    new = [str(uuid4()) for _ in range(5)]
    batch = [
        *(op("create", memory, fields={"body": f"note {memory}"}) for memory in new),
        *(op("update", memory, base_version=1, fields={"title": "T"}) for memory in new),
        op("update", there, base_version=1, fields={"tags": ["x", "y"]}),
        op("delete", new[0], base_version=1, base={"title": "T"}),
    ]

    answers = at_once(CLIENTS, server.url, person.key, lambda api, _: push(api, *batch))
    assert len({str([{**result, "replayed": None} for result in results]) for results in answers}) == 1
    assert {result["outcome"] for results in answers for result in results} == {"applied"}
    firsts = Counter(result["operation"] for results in answers for result in results if not result["replayed"])
    assert firsts == Counter({operation["operation"]: 1 for operation in batch})
    assert person.api.get("/v1/usage").json()["saves"]["used"] == 6
    for memory, version in ((new[0], 3), (new[1], 2), (there, 2)):
        found = person.api.get(f"/v1/memories/{memory}", params={"trash": True}).json()
        assert found["version"] == version


def test_a_batch_that_a_crash_cut_is_sent_again_and_takes_effect_once(
    cluster: PrivateCluster, memory_database: str, server: MemoryServer, person: Person
) -> None:
    crashing = MemoryServer(cluster, memory_database)
    batch = [op("create", str(uuid4()), fields={"body": f"offline note {number}"}) for number in range(200)]
    failed = threading.Event()

    def send() -> None:
        with crashing.client(person.key) as api:
            try:
                push(api, *batch)
            except httpx2.TransportError:
                failed.set()

    sender = threading.Thread(target=send)
    sender.start()
    wait_until(lambda: person.api.get("/v1/usage").json()["saves"]["used"] > 5, 30)
    crashing.process.send_signal(signal.SIGKILL)
    sender.join(30)
    crashing.stop()
    assert failed.is_set()
    done = person.api.get("/v1/usage").json()["saves"]["used"]
    assert 0 < done < 200

    results = push(person.api, *batch)
    assert {result["outcome"] for result in results} == {"applied"}
    assert [result["replayed"] for result in results] == [True] * done + [False] * (200 - done)
    assert person.api.get("/v1/usage").json()["saves"]["used"] == 200


def test_a_key_that_may_only_read_pushes_nothing(new_person: NewPerson) -> None:
    reader = new_person(scopes=("memories:read",))
    answer = reader.api.post("/v1/sync", json={"operations": [op("create", str(uuid4()), fields={"body": "x"})]})
    assert answer.status_code == 403
    assert reader.api.get("/v1/sync").json()["items"] == []


def test_a_batch_without_operations_or_with_too_many_is_refused(api: Api) -> None:
    assert api.post("/v1/sync", json={"operations": []}).status_code == 422
    many = [op("restore", str(uuid4())) for _ in range(501)]
    assert api.post("/v1/sync", json={"operations": many}).status_code == 422


def test_old_operations_are_forgotten_by_the_hourly_cleaning(
    cluster: PrivateCluster, memory_database: str, person: Person, superuser: psycopg.Connection
) -> None:
    def grow_old() -> None:
        superuser.execute(
            "UPDATE memory.sync_operations SET created_at = created_at - interval '30 days' WHERE user_id = %s",
            (person.id,),
        )

    memory = person.save("kept")["id"]
    operation = op("update", memory, base_version=1, fields={"title": "T"})
    push(person.api, operation)
    grow_old()
    (again,) = push(person.api, operation)
    assert (again["outcome"], again["version"], again["replayed"]) == ("merged", 2, False)
    grow_old()

    async def cleaned() -> dict[str, int]:
        database = Database(Settings.load(cluster.client_environment(memory_database)), 2, 10)
        await database.open()
        try:
            return await clean(database)
        finally:
            await database.close()

    assert asyncio.run(cleaned())["sync_operations"] >= 1
    left = superuser.execute("SELECT count(*) FROM memory.sync_operations WHERE user_id = %s", (person.id,)).fetchone()
    assert left == (0,)
