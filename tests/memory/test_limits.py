"""What a plan allows."""

from __future__ import annotations

import psycopg
import pytest

from tests.memory.conftest import NewPerson


def test_a_full_plan_says_what_would_lift_it(new_person: NewPerson, superuser: psycopg.Connection) -> None:
    superuser.execute("INSERT INTO memory.tiers VALUES ('two', 80, 2, 1000000, 100, 10, 10, true)")
    person = new_person(plan="two")
    person.save("one")
    person.save("two")
    full = person.api.post("/v1/memories", json={"body": "three"})
    assert full.status_code == 402
    problem = full.json()
    assert (problem["what"], problem["limit"], problem["used"]) == ("memories", 2, 2)
    assert {"plan": "pro", "limit": 100000} in problem["lifted_by"]
    assert person.api.post("/v1/memories", json={"body": "ONE"}).status_code == 200


def test_the_days_saves_come_back_a_day_after_the_first(new_person: NewPerson, superuser: psycopg.Connection) -> None:
    superuser.execute("INSERT INTO memory.tiers VALUES ('two a day', 81, 100, 1000000, 2, 10, 10, true)")
    person = new_person(plan="two a day")
    person.save("one")
    answer = person.api.post("/v1/memories", json={"body": "two"})
    assert (answer.headers["RateLimit-Limit"], answer.headers["RateLimit-Remaining"]) == ("2", "0")
    full = person.api.post("/v1/memories", json={"body": "three"})
    assert full.status_code == 429
    assert full.headers["RateLimit-Remaining"] == "0"
    assert 0 < int(full.headers["Retry-After"]) <= 86400
    assert full.headers["RateLimit-Reset"] == full.headers["Retry-After"]

    superuser.execute(
        "UPDATE memory.usage SET saves_since = saves_since - interval '24 hours' WHERE user_id = %s", (person.id,)
    )
    assert person.api.get("/v1/usage").json()["saves"] == {"used": 0, "limit": 2, "reset": 86400}
    person.save("three")
    assert person.api.get("/v1/usage").json()["saves"]["used"] == 1


def test_a_smaller_plan_keeps_what_is_there_and_takes_no_more(
    new_person: NewPerson, superuser: psycopg.Connection
) -> None:
    superuser.execute("INSERT INTO memory.tiers VALUES ('one', 82, 1, 1000000, 100, 10, 10, true)")
    person = new_person(plan="pro")
    saved = [person.save("one"), person.save("two")]
    usage = person.api.post("/v1/plan", json={"plan": "one"}).json()
    assert (usage["plan"], usage["memories"]) == ("one", {"used": 2, "limit": 1})
    assert person.api.get(f"/v1/memories/{saved[1]['id']}").status_code == 200
    assert person.api.post("/v1/memories", json={"body": "three"}).status_code == 402
    longer = person.api.patch(f"/v1/memories/{saved[0]['id']}", json={"body": "longer"}, headers={"If-Match": "*"})
    assert longer.status_code == 200

    refused = person.api.post("/v1/plan", json={"plan": "team"})
    assert (refused.status_code, refused.json()["type"].rpartition("/")[2]) == (403, "plan-by-administrator")
    assert person.api.post("/v1/plan", json={"plan": "none such"}).json()["plans"][:2] == ["free", "pro"]


def test_bytes_count_titles_provenance_and_attachments(new_person: NewPerson, superuser: psycopg.Connection) -> None:
    superuser.execute("INSERT INTO memory.tiers VALUES ('bytes', 83, 100, 40, 100, 10, 10, true)")
    person = new_person(plan="bytes")
    path = f"/v1/memories/{person.save('0123456789')['id']}"
    assert person.api.put(f"{path}/attachments/a", json={"text": "x" * 28}).status_code == 200
    assert person.api.put(f"{path}/attachments/b", json={"text": "x"}).status_code == 402
    assert person.api.put(f"{path}/attachments/a", json={"text": "x" * 27}).status_code == 200
    assert person.api.patch(path, json={"title": "ab"}, headers={"If-Match": "*"}).status_code == 402
    assert person.api.patch(path, json={"title": "a"}, headers={"If-Match": "*"}).status_code == 200
    assert person.api.get("/v1/usage").json()["bytes"] == {"used": 40, "limit": 40}


def test_bytes_count_agents_sessions_and_the_users_of_memfuse(
    new_person: NewPerson, superuser: psycopg.Connection
) -> None:
    superuser.execute("INSERT INTO memory.tiers VALUES ('names', 98, 100, 520, 100, 10, 10, true)")
    api = new_person(plan="names").api

    def used() -> int:
        return int(api.get("/v1/usage").json()["bytes"]["used"])

    agent = api.post("/v1/agents", json={"name": "a", "metadata": {"k": "v"}}).json()["id"]
    assert used() == 100 + 1 + len('{"k": "v"}')
    assert api.post("/v1/sessions", json={"name": "s", "agent_id": agent}).status_code == 201
    assert used() == 111 + 103
    refused = api.post("/v1/agents", json={"name": "b", "metadata": {"long": "x" * 300}})
    assert (refused.status_code, refused.json()["what"], used()) == (402, "bytes", 214)
    user = api.post("/api/v1/users", json={"name": "ü", "description": "d"}).json()["data"]["user"]["id"]
    assert used() == 214 + 103
    assert api.put(f"/api/v1/users/{user}", json={"description": "d" * 300}).status_code == 402
    assert api.put(f"/api/v1/users/{user}", json={"description": "d" * 100}).status_code == 200
    assert used() == 214 + 202
    assert api.delete(f"/api/v1/users/{user}").status_code == 200
    assert used() == 214


def test_bytes_count_what_a_change_replaces_until_it_is_deleted_for_good(
    new_person: NewPerson, superuser: psycopg.Connection
) -> None:
    superuser.execute("INSERT INTO memory.tiers VALUES ('a history', 85, 100, 1000, 100, 10, 10, true)")
    person = new_person(plan="a history")
    path = f"/v1/memories/{person.save('0' + 'x' * 199)['id']}"
    changed = [
        person.api.patch(path, json={"body": f"{turn}" + "x" * 199}, headers={"If-Match": "*"}).status_code
        for turn in range(1, 6)
    ]
    assert changed == [200, 200, 200, 402, 402]
    assert person.api.get("/v1/usage").json()["bytes"]["used"] == 4 * 200 + 2
    assert person.api.delete(f"{path}?permanent=true").status_code == 204
    assert person.api.get("/v1/usage").json()["bytes"]["used"] == 0


def test_searches_and_enrichments_are_counted_to_their_limits(
    new_person: NewPerson, superuser: psycopg.Connection
) -> None:
    superuser.execute("INSERT INTO memory.tiers VALUES ('three searches', 84, 10, 1000, 10, 3, 10, true)")
    person = new_person(plan="three searches")
    with superuser.transaction():
        superuser.execute("SELECT set_config('memory.user_id', %s, true)", (str(person.id),))
        left = [superuser.execute("SELECT memory.count_rate('searches')").fetchone() for _ in range(3)]
        assert left == [(2,), (1,), (0,)]
        with pytest.raises(psycopg.Error) as refused, superuser.transaction():
            superuser.execute("SELECT memory.count_rate('searches')")
        assert refused.value.sqlstate == "MC429"
        with pytest.raises(psycopg.Error), superuser.transaction():
            superuser.execute("SELECT memory.count_rate('enrichments', 11)")
        assert superuser.execute("SELECT memory.count_rate('enrichments', 10)").fetchone() == (0,)
    assert person.api.get("/v1/usage").json()["searches"]["used"] == 3
