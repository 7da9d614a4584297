"""Fifty clients at once."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise

import psycopg

from tests.memory.conftest import NewPerson
from tests.memory.finding import Finding
from tests.memory.server import Api, MemoryServer, Person, at_once
from tests.memory.spenders import set_budget
from tests.support.daemon import DaemonProcess

CLIENTS = 50


def test_one_idempotency_key_has_one_effect_and_one_answer(server: MemoryServer, person: Person) -> None:
    def save(api: Api, _: int) -> tuple[int, bytes, str, int]:
        refused = 0
        while True:
            answer = api.post(
                "/v1/memories?force=true",
                json={"body": "a payment of 12 euros"},
                headers={"Idempotency-Key": '"pay-12"'},
            )
            if answer.status_code != 409:
                return answer.status_code, answer.content, answer.headers["ETag"], refused
            refused += 1

    answers = at_once(CLIENTS, server.url, person.key, save)
    assert len({answer[:3] for answer in answers}) == 1
    assert answers[0][0] == 201
    assert len(person.api.get("/v1/memories").json()["items"]) == 1
    assert person.api.get("/v1/usage").json()["saves"]["used"] == 1


def test_of_many_changes_of_one_version_one_wins(server: MemoryServer, person: Person) -> None:
    saved = person.save("contested")

    def change(api: Api, number: int) -> tuple[int, str]:
        answer = api.patch(f"/v1/memories/{saved['id']}", json={"title": f"by {number}"}, headers={"If-Match": '"v1"'})
        return answer.status_code, answer.json().get("title", "")

    answers = at_once(CLIENTS, server.url, person.key, change)
    assert Counter(status for status, _ in answers) == {200: 1, 412: CLIENTS - 1}
    now = person.api.get(f"/v1/memories/{saved['id']}").json()
    assert (now["version"], now["title"]) == (2, next(title for status, title in answers if status == 200))


def test_one_text_saved_by_many_is_one_row(server: MemoryServer, person: Person) -> None:
    def save(api: Api, number: int) -> tuple[int, str]:
        answer = api.post("/v1/memories", json={"body": "the SAME thought" if number % 2 else "The same  thought"})
        return answer.status_code, answer.json()["id"]

    answers = at_once(CLIENTS, server.url, person.key, save)
    assert Counter(status for status, _ in answers) == {201: 1, 200: CLIENTS - 1}
    assert len({entry for _, entry in answers}) == 1
    assert len(person.api.get("/v1/memories").json()["items"]) == 1


def test_a_days_saves_are_never_overshot(
    server: MemoryServer, new_person: NewPerson, superuser: psycopg.Connection
) -> None:
    superuser.execute("INSERT INTO memory.tiers VALUES ('thirty saves', 90, 1000, 1000000, 30, 10, 10, false)")
    person = new_person(plan="thirty saves")

    def save(api: Api, number: int) -> tuple[int, str | None]:
        answer = api.post("/v1/memories", json={"body": f"note {number}"})
        return answer.status_code, answer.headers.get("RateLimit-Remaining")

    answers = at_once(CLIENTS, server.url, person.key, save)
    assert Counter(status for status, _ in answers) == {201: 30, 429: CLIENTS - 30}
    assert sorted(int(left or -1) for status, left in answers if status == 201) == list(range(30))
    assert len(person.api.get("/v1/memories").json()["items"]) == 30


def test_a_plans_memories_and_bytes_are_never_overshot(
    server: MemoryServer, new_person: NewPerson, superuser: psycopg.Connection
) -> None:
    superuser.execute("INSERT INTO memory.tiers VALUES ('seven', 91, 7, 1000000, 1000, 10, 10, false)")
    superuser.execute("INSERT INTO memory.tiers VALUES ('few bytes', 92, 100, 250, 1000, 10, 10, false)")

    def save(api: Api, number: int) -> int:
        return api.post("/v1/memories", json={"body": f"{number:08}"}).status_code

    for plan, room in (("seven", 7), ("few bytes", 25)):
        person = new_person(plan=plan)
        answers = at_once(CLIENTS, server.url, person.key, save)
        assert Counter(answers) == {201: room, 402: CLIENTS - room}
        used = person.api.get("/v1/usage").json()
        assert used["memories"]["used"] == room
        assert used["bytes"]["used"] == 10 * room


def test_agents_never_overshoot_a_plans_bytes(
    server: MemoryServer, new_person: NewPerson, superuser: psycopg.Connection
) -> None:
    superuser.execute("INSERT INTO memory.tiers VALUES ('few agents', 99, 100, 1150, 1000, 10, 10, false)")
    person = new_person(plan="few agents")
    answers = at_once(
        CLIENTS,
        server.url,
        person.key,
        lambda api, number: api.post("/v1/agents", json={"name": f"{number:08}"}).status_code,
    )
    assert Counter(answers) == {201: 10, 402: CLIENTS - 10}
    assert person.api.get("/v1/usage").json()["bytes"]["used"] == 10 * 110


def test_a_days_searches_are_never_overshot(
    server: MemoryServer, new_person: NewPerson, superuser: psycopg.Connection
) -> None:
    superuser.execute("INSERT INTO memory.tiers VALUES ('thirty searches', 93, 1000, 1000000, 1000, 30, 10, false)")
    person = new_person(plan="thirty searches")
    person.save("a note")

    def search(api: Api, number: int) -> tuple[int, str | None]:
        answer = api.get("/v1/memories/search", params={"q": f"note {number}", "mode": "keyword"})
        return answer.status_code, answer.headers.get("RateLimit-Remaining")

    answers = at_once(CLIENTS, server.url, person.key, search)
    assert Counter(status for status, _ in answers) == {200: 30, 429: CLIENTS - 30}
    assert sorted(int(left or -1) for status, left in answers if status == 200) == list(range(30))
    assert person.api.get("/v1/usage").json()["searches"]["used"] == 30


def test_one_deletion_for_good_among_many_counts_once(server: MemoryServer, person: Person) -> None:
    kept, gone = person.save("kept"), person.save("gone")

    def delete(api: Api, _: int) -> int:
        return api.delete(f"/v1/memories/{gone['id']}", params={"permanent": True}).status_code

    answers = at_once(CLIENTS, server.url, person.key, delete)
    assert Counter(answers) == {204: 1, 404: CLIENTS - 1}
    used = person.api.get("/v1/usage").json()
    assert (used["memories"]["used"], used["bytes"]["used"]) == (1, len(kept["body"]) + 2)


def test_the_trash_is_entered_and_left_once(server: MemoryServer, person: Person) -> None:
    saved = person.save("to and fro")

    def act(api: Api, number: int) -> int:
        path = f"/v1/memories/{saved['id']}"
        return (api.post(f"{path}/restore") if number % 2 else api.delete(path)).status_code

    at_once(CLIENTS, server.url, person.key, act)
    history = person.api.get(f"/v1/memories/{saved['id']}/history").json()["items"]
    acts = [entry["action"] for entry in reversed(history)]
    assert all(before != after for before, after in pairwise(acts)), acts
    assert [entry["version"] for entry in reversed(history)] == list(range(1, len(history) + 1))


def test_fifty_searches_at_once_never_pass_the_users_budget(finding: Finding, daemon: DaemonProcess) -> None:
    person = finding.person()
    person.save("a note")
    # What a query may take at most is reserved: there is room for some of these, and not for all.
    set_budget(finding.superuser, "user", "day", 10)
    finding.superuser.execute(
        "INSERT INTO memory.ai_prices VALUES ('all-minilm-l6-v2', now() - interval '1 second', 100000, 0)"
    )

    def search(api: Api, number: int) -> tuple[str, str | None]:
        answer = api.get("/v1/memories/search", params={"q": f"where is note number {number}"}).json()
        return answer["degraded_because"], answer["retry_at"]

    try:
        answers = at_once(CLIENTS, finding.server.url, person.key, search)
        assert any(reason == "not-affordable" and retry_at for reason, retry_at in answers)
        rows = finding.superuser.execute(
            "SELECT w.reserved_micros, w.spent_micros, (SELECT sum(l.cost_micros) FROM memory.ai_ledger l "
            "WHERE l.user_id = %(user)s) FROM memory.ai_budget_windows w "
            "WHERE w.user_id = %(user)s AND w.period = 'day'",
            {"user": person.id},
        ).fetchall()
        ((reserved, spent, billed),) = rows
        assert reserved == 0
        assert 0 < spent == billed <= 10
        assert person.api.get("/v1/usage").json()["searches"]["used"] == CLIENTS
    finally:
        set_budget(finding.superuser, "user", "day", 500_000)
        finding.superuser.execute("DELETE FROM memory.ai_prices WHERE input_micros = 100000 AND output_micros = 0")
