"""The change feed: what a client that was away has missed, in order, once."""

from __future__ import annotations

import random
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import psycopg
import pytest
from psycopg.types.json import Jsonb

from pg_steadytext.cluster.postgres import PrivateCluster
from tests.memory.conftest import NewPerson
from tests.memory.server import Api, MemoryServer, Person, at_once

WRITERS = 20
Item = dict[str, Any]


def read(api: Api, since: str | None = None, **params: Any) -> tuple[list[Item], str]:
    """Everything after a cursor, and the next one."""
    items: list[Item] = []
    while True:
        page = api.get("/v1/sync", params={**params, **({"since": since} if since else {})}).json()
        items += page["items"]
        since = page["cursor"]
        if not page["has_more"]:
            assert since is not None
            return items, since


def test_the_feed_shows_each_memory_as_it_is_now_in_the_order_of_changes(person: Person) -> None:
    first, second = person.save("first"), person.save("second")
    path = f"/v1/memories/{first['id']}"
    changed = person.api.patch(path, json={"title": "T"}, headers={"If-Match": "*"}).json()

    items, cursor = read(person.api)
    assert [item["memory"] for item in items] == [second, changed]
    assert read(person.api, cursor) == ([], cursor)

    person.api.delete(path)
    ((item,), cursor) = read(person.api, cursor)
    assert (item["kind"], item["memory"]["version"]) == ("memory", 3)
    assert item["memory"]["deleted_at"] is not None
    person.api.delete(path, params={"permanent": True})
    ((item,), cursor) = read(person.api, cursor)
    assert (item["kind"], item["id"], item["memory"]) == ("tombstone", first["id"], None)
    assert [item["kind"] for item in read(person.api)[0]] == ["memory", "tombstone"]


def test_links_and_attachments_are_changes_of_their_memory(person: Person) -> None:
    one, two = person.save("one")["id"], person.save("two")["id"]
    cursor = read(person.api)[1]
    changes: list[tuple[str, str, dict[str, Any], str]] = [
        ("put", f"/v1/memories/{one}/links/{two}", {"json": {}}, one),
        ("put", f"/v1/memories/{two}/attachments/a", {"json": {"text": "abc"}}, two),
        ("delete", f"/v1/memories/{two}/attachments/a", {}, two),
        ("delete", f"/v1/memories/{one}/links/{two}", {}, one),
        ("put", f"/v1/memories/{one}/links/{two}", {"json": {}}, one),
    ]
    seen = []
    for method, path, body, changed in changes:
        assert person.api.request(method, path, **body).status_code in (200, 204)
        ((item,), cursor) = read(person.api, cursor)
        assert (item["id"], item["memory"]["version"]) == (changed, 1)
        seen.append((len(item["links"]), [entry["bytes"] for entry in item["attachments"]]))
    assert seen == [(1, []), (0, [3]), (0, []), (0, []), (1, [])]

    person.api.delete(f"/v1/memories/{two}", params={"permanent": True})
    items, _ = read(person.api, cursor)
    assert [(item["kind"], item["id"], item["links"]) for item in items] == [
        ("memory", one, []),
        ("tombstone", two, []),
    ]
    assert person.api.put(f"/v1/memories/{one}/links/{two}", json={}).status_code == 404


def test_pages_follow_each_other_and_end_early_when_they_grow_large(person: Person) -> None:
    saved = [person.save(f"note {number}")["id"] for number in range(7)]
    page = person.api.get("/v1/sync", params={"limit": 3}).json()
    assert ([item["id"] for item in page["items"]], page["has_more"]) == (saved[:3], True)
    assert [item["id"] for item in read(person.api, limit=3)[0]] == saved
    assert [item["id"] for item in read(person.api, page["cursor"], limit=2)[0]] == saved[3:]

    large = [person.save(f"{number}" * 100_000)["id"] for number in range(21, 46)]
    page = person.api.get("/v1/sync", params={"since": page["cursor"]}).json()
    assert 4 < len(page["items"]) < 4 + len(large)
    assert page["has_more"]
    assert [item["id"] for item in read(person.api)[0]] == saved + large


@pytest.mark.timeout(180)
def test_a_reader_sees_every_change_of_twenty_writers_once_and_in_order(server: MemoryServer, person: Person) -> None:
    """Each reader follows the feed while it grows; nothing committed is behind its cursor."""
    committed: dict[str, int] = {}
    lock = threading.Lock()
    done = threading.Event()
    readings: list[list[Item]] = []

    def follow(limit: int) -> None:
        seen: list[Item] = []
        readings.append(seen)
        with server.client(person.key) as api:
            cursor: str | None = None
            while True:
                is_over = done.is_set()
                items, cursor = read(api, cursor, limit=limit)
                seen += items
                if is_over:
                    return

    def write(api: Api, number: int) -> None:
        chance = random.Random(number)
        own: list[str] = []
        for turn in range(12):
            act = chance.choice(("save", "save", "change", "trash", "purge", "attach")) if own else "save"
            path = f"/v1/memories/{chance.choice(own)}" if own else ""
            if act == "save":
                answer = api.post("/v1/memories", json={"body": f"{number} {turn}"})
                own.append(answer.json()["id"])
            elif act == "change":
                answer = api.patch(path, json={"title": f"{turn}"}, headers={"If-Match": "*"})
            elif act == "attach":
                answer = api.put(f"{path}/attachments/a", json={"text": f"{turn}"})
            else:
                answer = api.delete(path, params={"permanent": act == "purge"})
            assert answer.status_code in (200, 201, 204, 404), answer.text
            with lock:
                if answer.status_code in (200, 201) and act in ("save", "change"):
                    committed[answer.json()["id"]] = max(
                        committed.get(answer.json()["id"], 0), answer.json()["version"]
                    )

    followers = [threading.Thread(target=follow, args=(limit,)) for limit in (3, 500)]
    for follower in followers:
        follower.start()
    at_once(WRITERS, server.url, person.key, write)
    done.set()
    for follower in followers:
        follower.join(60)

    whole = {item["id"]: item for item in read(person.api)[0]}
    assert committed.keys() <= whole.keys()
    for seen in readings:
        numbers = [item["change_seq"] for item in seen]
        assert numbers == sorted(set(numbers))
        assert {item["id"]: item for item in seen} == whole
        versions: dict[str, int] = {}
        for item in seen:
            if item["kind"] == "memory":
                assert item["memory"]["version"] >= versions.get(item["id"], 0)
                versions[item["id"]] = item["memory"]["version"]
    assert len(whole) > WRITERS


def test_a_change_that_is_not_committed_yet_is_never_passed_over(person: Person, superuser: psycopg.Connection) -> None:
    note = {"id": "018f0000-0000-7000-8000-000000000001", "body": "slow", "tags": [], "provenance": {},
            "pinned": False, "is_recalled": False, "content_hash": "\\x" + "ab" * 32}  # fmt: skip
    quick = threading.Thread(target=lambda: person.save("quick"))
    with superuser.transaction():
        superuser.execute("SELECT set_config('memory.user_id', %s, true)", (str(person.id),))
        superuser.execute("SELECT set_config('memory.actor', '{}', true)")
        superuser.execute("SELECT memory.add(%s, false)", (Jsonb(note),))
        quick.start()
        quick.join(1)
        assert quick.is_alive()
        items, cursor = read(person.api)
        assert items == []
    quick.join(10)
    assert [item["memory"]["body"] for item in read(person.api, cursor)[0]] == ["slow", "quick"]


def forget(superuser: psycopg.Connection, person: Person) -> None:
    """Let the user's tombstones grow old, and clean up."""
    superuser.execute(
        "UPDATE memory.tombstones SET deleted_at = deleted_at - interval '90 days' WHERE user_id = %s", (person.id,)
    )
    superuser.execute("SELECT memory.cleanup_sync()")


def test_a_cursor_from_before_forgotten_tombstones_is_gone_and_others_go_on(
    person: Person, superuser: psycopg.Connection
) -> None:
    saved = [person.save(f"note {number}")["id"] for number in range(4)]
    old = person.api.get("/v1/sync", params={"limit": 2}).json()["cursor"]
    person.api.delete(f"/v1/memories/{saved[0]}", params={"permanent": True})
    after = read(person.api)[1]
    forget(superuser, person)

    gone = person.api.get("/v1/sync", params={"since": old})
    assert (gone.status_code, gone.headers["content-type"]) == (410, "application/problem+json")
    assert gone.json()["type"].endswith("/cursor-too-old")
    assert "without since" in gone.json()["detail"]
    assert read(person.api, after) == ([], after)

    # Reading everything anew takes many pages, whose cursors lie before the tombstones that are forgotten.
    assert [item["id"] for item in read(person.api, limit=1)[0]] == saved[1:]
    begun = person.api.get("/v1/sync", params={"limit": 1}).json()["cursor"]
    person.api.delete(f"/v1/memories/{saved[1]}", params={"permanent": True})
    forget(superuser, person)
    assert person.api.get("/v1/sync", params={"since": begun}).status_code == 410


def test_a_restored_backups_cursors_are_gone(person: Person, superuser: psycopg.Connection) -> None:
    person.save("before")
    cursor = read(person.api)[1]
    superuser.execute("UPDATE memory.sync_epoch SET epoch = gen_random_uuid()")
    assert person.api.get("/v1/sync", params={"since": cursor}).status_code == 410
    assert len(read(person.api)[0]) == 1


@pytest.mark.parametrize("cursor", ["x", "AAAA", "Ä", "Ag" + "A" * 42 + "==", "-" * 44])
def test_what_is_no_cursor_is_a_bad_request(api: Api, cursor: str) -> None:
    assert api.get("/v1/sync", params={"since": cursor}).status_code == 400


def test_waiting_ends_with_the_first_change(person: Person) -> None:
    cursor = read(person.api)[1]
    saver = threading.Timer(0.3, person.save, ("while you wait",))
    saver.start()
    page = person.api.get("/v1/sync", params={"since": cursor, "wait": 20}).json()
    assert [item["memory"]["body"] for item in page["items"]] == ["while you wait"]
    saver.join()
    assert person.api.get("/v1/sync", params={"since": page["cursor"], "wait": 1}).json()["items"] == []


def test_who_waits_has_its_empty_page_when_the_service_stops(
    cluster: PrivateCluster, memory_database: str, person: Person
) -> None:
    cursor = read(person.api)[1]
    own_server = MemoryServer(cluster, memory_database)
    with own_server.client(person.key) as api, ThreadPoolExecutor(1) as threads:
        waiting = threads.submit(api.get, "/v1/sync", params={"since": cursor, "wait": 30})
        with pytest.raises(TimeoutError):
            waiting.result(1)
        began = time.monotonic()
        own_server.stop()
        assert time.monotonic() - began < 5
        answer = waiting.result(5)
    assert (answer.status_code, answer.json()["items"]) == (200, [])
    assert not any("Traceback" in line or "exceeded" in line for line in own_server.log), own_server.log


def test_the_feed_is_read_from_its_indexes(new_person: NewPerson, superuser: psycopg.Connection) -> None:
    person = new_person()
    superuser.execute(
        "INSERT INTO memory.memories (user_id, id, body, content_hash, bytes, change_seq, enrichment_status, "
        "embedding_status) SELECT %s, gen_random_uuid(), n::text, sha256(n::text::bytea), 1, n, 'none', 'none' "
        "FROM generate_series(1, 5000) n",
        (person.id,),
    )
    superuser.execute(
        "INSERT INTO memory.tombstones (user_id, memory_id, change_seq) "
        "SELECT %s, gen_random_uuid(), n FROM generate_series(5001, 9000) n",
        (person.id,),
    )
    superuser.execute("ANALYZE memory.memories, memory.tombstones")
    with superuser.transaction():
        superuser.execute("SELECT set_config('memory.user_id', %s, true)", (str(person.id),))
        superuser.execute("SET LOCAL ROLE memory_app")
        for table in ("memories", "tombstones"):
            plan = superuser.execute(
                f"EXPLAIN SELECT change_seq FROM memory.{table} m WHERE m.user_id = memory.me() "
                "AND m.change_seq > 4500 ORDER BY m.change_seq LIMIT 101".encode()
            ).fetchall()
            text = "\n".join(line for (line,) in plan)
            assert f"{table}_by_change" in text
            assert "Sort" not in text
