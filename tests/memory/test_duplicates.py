"""Near duplicates: suggested after the save, decided by their owner, and nothing is ever lost."""

from __future__ import annotations

from collections import Counter
from typing import Any
from uuid import UUID

import psycopg
import pytest

from pg_steadytext.memory.domain.duplicates import merged_fields
from tests.memory.finding import Finding
from tests.memory.server import Api, MemoryServer, Person, at_once
from tests.queue.workers import WorkerProcess, until

CLIENTS = 50


def suggest(superuser: psycopg.Connection, person: Person, one: str, other: str) -> str:
    """Suggest a pair as the worker does; returns its id."""
    a, b = sorted((UUID(one), UUID(other)))
    superuser.execute(
        "INSERT INTO memory.duplicate_pairs (user_id, a, b, a_digest, b_digest, scores) "
        "SELECT a.user_id, a.id, b.id, memory.embedded_digest(a.title, a.body), "
        "memory.embedded_digest(b.title, b.body), %s FROM memory.memories a, memory.memories b "
        "WHERE a.id = %s AND b.id = %s",
        ('{"because": "lexical", "lexical": 97.5, "cosine": 0.95}', a, b),
    )
    row = superuser.execute("SELECT id FROM memory.duplicate_pairs WHERE a = %s AND b = %s", (a, b)).fetchone()
    assert row is not None
    return str(row[0])


def pairs(person: Person, **params: Any) -> list[dict[str, Any]]:
    answer = person.api.get("/v1/duplicates", params=params)
    assert answer.status_code == 200, answer.text
    found: list[dict[str, Any]] = answer.json()["items"]
    return found


def decide(person: Person, pair: str, decision: str, if_match: str | None = None, **wishes: Any) -> Any:
    headers = {"If-Match": if_match} if if_match else {}
    return person.api.post(f"/v1/duplicates/{pair}", json={"decision": decision, **wishes}, headers=headers)


@pytest.fixture
def two(person: Person, superuser: psycopg.Connection) -> tuple[str, str, str]:
    """Two memories and their pair."""
    one = person.save("Buy milk on the way home", tags=["home"], source="phone", provenance={"by": "voice"})["id"]
    other = person.save("On the way home, buy milk", tags=["shop", "home"], title="Milk", pinned=True)["id"]
    return one, other, suggest(superuser, person, one, other)


def test_a_merge_keeps_one_with_all_that_hung_on_both(
    person: Person, superuser: psycopg.Connection, two: tuple[str, str, str]
) -> None:
    one, other, pair = two
    third = person.save("third")["id"]
    person.api.put(f"/v1/memories/{other}/links/{third}", json={"kind": "cites"})
    person.api.put(f"/v1/memories/{third}/links/{other}", json={})
    person.api.put(f"/v1/memories/{one}/links/{other}", json={})
    for memory in (one, other):
        person.api.put(f"/v1/memories/{memory}/attachments/list", json={"text": memory})
    bytes_before = person.api.get("/v1/usage").json()["bytes"]["used"]
    (shown,) = pairs(person)
    assert shown["etag"] == person.api.get(f"/v1/duplicates/{pair}").headers["ETag"] == '"v1-v1"'
    since = person.api.get("/v1/sync").json()["cursor"]

    answer = decide(person, pair, "merge", shown["etag"])
    assert answer.status_code == 200, answer.text
    assert (answer.json()["state"], answer.json()["kept"], answer.json()["took_effect"]) == ("merged", one, True)

    kept = person.api.get(f"/v1/memories/{one}").json()
    assert (kept["body"], kept["title"], kept["source"]) == ("Buy milk on the way home", "Milk", "phone")
    assert (kept["tags"], kept["pinned"]) == (["home", "shop"], True)
    assert kept["provenance"] == {"by": "voice", "merged": [other]}
    links = person.api.get(f"/v1/memories/{one}/links").json()["items"]
    assert [(link["target_id"], link["kind"]) for link in links] == [(third, "cites")]
    back = person.api.get(f"/v1/memories/{third}/links").json()["items"]
    assert [link["target_id"] for link in back] == [one]
    attached = person.api.get(f"/v1/memories/{one}/attachments").json()["items"]
    assert {entry["name"]: entry["text"] for entry in attached} == {"list": one, f"list {other}": other}

    assert person.api.get(f"/v1/memories/{other}").status_code == 404
    gone = person.api.get(f"/v1/memories/{other}", params={"trash": True}).json()
    assert (gone["duplicate_of"], gone["body"]) == (one, "On the way home, buy milk")
    last = person.api.get(f"/v1/memories/{other}/history").json()["items"][0]
    assert (last["action"], last["changes"]) == ("trashed", {"duplicate_of": [None, one]})
    changed = person.api.get(f"/v1/memories/{one}/history").json()["items"][0]
    assert changed["changes"]["provenance"][1]["merged"] == [other]
    added = len("Milk") + len(f', "merged": ["{other}"]')
    replaced = len('{"by": "voice"}')  # the history keeps it
    assert person.api.get("/v1/usage").json()["bytes"]["used"] - bytes_before == added + replaced
    fed = [item["id"] for item in person.api.get("/v1/sync", params={"since": since}).json()["items"]]
    assert sorted(fed) == sorted((one, other, third))
    assert pairs(person) == []
    assert [item["id"] for item in pairs(person, state="merged")] == [pair]


def test_a_merge_is_undone_from_the_trash_and_not_suggested_again(
    person: Person, superuser: psycopg.Connection, two: tuple[str, str, str]
) -> None:
    one, other, pair = two
    assert decide(person, pair, "merge", "*", keep=other, join=True).json()["kept"] == other
    kept = person.api.get(f"/v1/memories/{other}").json()
    assert kept["body"] == "On the way home, buy milk\n\nBuy milk on the way home"
    restored = person.api.post(f"/v1/memories/{one}/restore").json()
    assert (restored["body"], restored["deleted_at"]) == ("Buy milk on the way home", None)
    assert again(superuser, one, other) == 0
    assert pairs(person) == []


def again(superuser: psycopg.Connection, one: str, other: str) -> int:
    """Compare anew as the worker does, and find them alike; returns how many pairs were suggested."""
    with superuser.transaction():
        superuser.execute("SELECT memory.work_for(user_id) FROM memory.memories WHERE id = %s", (one,))
        row = superuser.execute(
            "SELECT memory.end_comparing(a.id, memory.embedded_digest(a.title, a.body), ARRAY[b.id], "
            'ARRAY[memory.embedded_digest(b.title, b.body)], ARRAY[\'{"because": "lexical", "lexical": 1, '
            '"cosine": null}\'::jsonb]) FROM memory.memories a, memory.memories b WHERE a.id = %s AND b.id = %s',
            (one, other),
        ).fetchone()
    assert row is not None
    return int(row[0])


@pytest.mark.parametrize(("decision", "state"), [("keep_both", "kept"), ("not_duplicate", "not_duplicate")])
def test_a_decided_pair_comes_again_only_when_a_text_was_changed(
    person: Person, superuser: psycopg.Connection, two: tuple[str, str, str], decision: str, state: str
) -> None:
    one, other, pair = two
    answer = decide(person, pair, decision).json()
    assert (answer["state"], answer["took_effect"], answer["by"]["kind"]) == (state, True, "key")
    assert len(person.api.get("/v1/memories").json()["items"]) == 2
    assert again(superuser, one, other) == 0
    person.api.patch(f"/v1/memories/{one}", json={"tags": ["x"]}, headers={"If-Match": "*"})
    assert again(superuser, one, other) == 0
    person.api.patch(f"/v1/memories/{one}", json={"body": "Buy milk going home"}, headers={"If-Match": "*"})
    assert again(superuser, one, other) == 1
    assert [item["id"] for item in pairs(person)] == [pair]


def test_a_suggestion_ends_when_a_text_changes_and_waits_while_one_is_in_the_trash(
    person: Person, two: tuple[str, str, str]
) -> None:
    one, other, pair = two
    person.api.delete(f"/v1/memories/{one}")
    assert pairs(person) == []
    assert decide(person, pair, "merge", "*").status_code == 409
    person.api.post(f"/v1/memories/{one}/restore")
    assert [item["id"] for item in pairs(person)] == [pair]
    person.api.patch(f"/v1/memories/{other}", json={"body": "Something else"}, headers={"If-Match": "*"})
    assert pairs(person) == []
    assert decide(person, pair, "merge", "*").status_code == 404


def test_a_merge_is_of_the_versions_that_the_caller_knows(person: Person, two: tuple[str, str, str]) -> None:
    one, _, pair = two
    assert decide(person, pair, "merge").status_code == 428
    assert decide(person, pair, "merge", "v1").status_code == 400
    person.api.patch(f"/v1/memories/{one}", json={"pinned": True}, headers={"If-Match": "*"})
    late = decide(person, pair, "merge", '"v1-v1"')
    assert late.status_code == 412
    assert late.headers["ETag"] == late.json()["current"]["etag"]
    assert decide(person, pair, "merge", late.headers["ETag"], keep=pair).status_code == 422
    assert decide(person, pair, "keep_both", join=True).status_code == 422
    merged = decide(person, pair, "merge", late.headers["ETag"], body="Milk!").json()
    assert {merged["a"]["body"], merged["b"]["body"]} >= {"Milk!"}
    assert len(person.api.get("/v1/memories").json()["items"]) == 1


def test_a_merge_that_takes_the_others_text_is_no_second_row_of_it(person: Person, two: tuple[str, str, str]) -> None:
    one, other, pair = two
    decide(person, pair, "merge", "*", keep=one, body="On the way home, buy milk")
    kept = person.api.get(f"/v1/memories/{one}").json()
    assert (kept["body"], kept["duplicate_of"]) == ("On the way home, buy milk", None)
    restored = person.api.post(f"/v1/memories/{other}/restore").json()
    assert restored["duplicate_of"] == one


def test_of_fifty_decisions_one_wins_and_all_see_the_same_end(
    server: MemoryServer, person: Person, two: tuple[str, str, str]
) -> None:
    one, other, pair = two

    def act(api: Api, number: int) -> tuple[int, bool, str, str | None]:
        decision = ("merge", "keep_both", "not_duplicate")[number % 3]
        keep = {"keep": (one, other)[number % 2]} if decision == "merge" else {}
        answer = api.post(
            f"/v1/duplicates/{pair}", json={"decision": decision, **keep}, headers={"If-Match": '"v1-v1"'}
        )
        found = answer.json()
        return answer.status_code, found["took_effect"], found["state"], found["kept"]

    answers = at_once(CLIENTS, server.url, person.key, act)
    assert Counter(answer[0] for answer in answers) == {200: CLIENTS}
    assert Counter(answer[1] for answer in answers) == {True: 1, False: CLIENTS - 1}
    assert len({answer[2:] for answer in answers}) == 1
    left = len(person.api.get("/v1/memories").json()["items"])
    assert left == (1 if answers[0][2] == "merged" else 2)


def test_pairs_come_in_pages(person: Person, superuser: psycopg.Connection) -> None:
    entries = [person.save(f"page {number}")["id"] for number in range(6)]
    made = [suggest(superuser, person, entries[0], entry) for entry in entries[1:]]
    found: list[str] = []
    cursor = None
    while True:
        page = person.api.get("/v1/duplicates", params={"limit": 2, **({"cursor": cursor} if cursor else {})}).json()
        found += [item["id"] for item in page["items"]]
        cursor = page["next_cursor"]
        if cursor is None:
            break
    assert found == made[::-1]


def test_a_merged_memory_expires_only_when_both_would_have() -> None:
    memory: dict[str, Any] = {
        "id": "1", "title": None, "category": None, "source": None, "tags": [], "pinned": False,
        "expires_at": "2100-01-01", "provenance": {"merged": ["0"]},
    }  # fmt: skip
    later = {**memory, "id": "2", "expires_at": "2101-01-01"}
    assert merged_fields(memory, later, "x")["expires_at"] == "2101-01-01"
    assert merged_fields(memory, {**later, "expires_at": None}, "x")["expires_at"] is None
    assert merged_fields(memory, later, "x")["provenance"] == {"merged": ["0", "2"]}


def set_flag(finding: Finding, **fields: object) -> None:
    for name, value in fields.items():
        finding.superuser.execute(
            f"UPDATE memory.flags SET {name} = %s WHERE key = 'near_duplicates'".encode(), (value,)
        )


def waiting(finding: Finding, person: Person) -> int:
    row = finding.superuser.execute(
        "SELECT count(*) FROM memory.to_compare WHERE user_id = %s", (person.id,)
    ).fetchone()
    assert row is not None
    return int(row[0])


def test_the_worker_suggests_for_those_whom_the_flag_is_on_for_and_catches_up(
    finding: Finding, worker: WorkerProcess
) -> None:
    first, second = finding.person(), finding.person()
    set_flag(finding, enabled=True, percentage=0)
    finding.superuser.execute("INSERT INTO memory.flag_users VALUES (%s, 'near_duplicates', true)", (first.id,))
    texts = (
        "The meeting with Grace is at 5 pm on Friday", "Meeting with Grace at 5 pm on Friday",
        "The meeting with Grace is at 6 pm on Friday", "The meeting with Grace is not at 5 pm on Friday",
    )  # fmt: skip
    for person in (first, second):
        for text in texts:
            person.save(text)
    first.api.post("/v1/memories", params={"force": True}, json={"body": texts[3]})
    until(lambda: waiting(finding, first) == 0 and len(pairs(first)) == 2, 20, lambda: worker.log)
    found = {frozenset((pair["a"]["body"], pair["b"]["body"])): pair["scores"]["because"] for pair in pairs(first)}
    assert found == {frozenset(texts[:2]): "lexical", frozenset(texts[3:]): "hash"}
    assert first.api.get("/v1/duplicates").json()["is_enabled"] is True

    finding.wait_until_embedded(second)
    assert (pairs(second), waiting(finding, second)) == ([], 4)
    assert second.api.get("/v1/duplicates").json()["is_enabled"] is False
    set_flag(finding, percentage=100)
    until(lambda: second.api.get("/v1/duplicates").json()["is_enabled"] is True, 10)
    second.save("Something new wakes the worker")
    until(lambda: len(pairs(second)) == 1 and waiting(finding, second) == 0, 40, lambda: worker.log)
    finding.superuser.execute("DELETE FROM memory.flag_users")
    set_flag(finding, enabled=False, percentage=0)
