"""Saving, reading, changing and deleting memories."""

from __future__ import annotations

import json

from tests.memory.server import Api, Person


def test_a_saved_memory_is_read_again(api: Api) -> None:
    saved = api.post("/v1/memories", json={"body": "The spare key is under the blue pot.", "tags": ["home"]})

    assert saved.status_code == 201
    found = api.get(saved.headers["Location"])
    assert found.json() == saved.json()
    assert found.headers["ETag"] == saved.headers["ETag"] == '"v1"'
    assert found.json()["body"] == "The spare key is under the blue pot."
    assert found.json()["created_at"].endswith("Z")


def test_a_list_shows_the_newest_first(person: Person) -> None:
    saved = [person.save(f"note {number}")["id"] for number in range(3)]

    page = person.api.get("/v1/memories").json()
    assert [item["id"] for item in page["items"]] == saved[::-1]
    assert page["next_cursor"] is None


def test_pages_follow_each_other_without_gap_or_repetition_while_others_save(person: Person) -> None:
    saved = [person.save(f"note {number}")["id"] for number in range(7)]
    seen: list[str] = []
    cursor: str | None = None
    while True:
        page = person.api.get("/v1/memories", params={"limit": 3, **({"cursor": cursor} if cursor else {})}).json()
        seen += [item["id"] for item in page["items"]]
        person.save(f"saved between pages {len(seen)}")
        cursor = page["next_cursor"]
        if cursor is None:
            break
    assert seen == saved[::-1]


def test_a_list_is_narrowed_by_tag_category_source_time_and_pin(person: Person) -> None:
    first = person.save("one", tags=["a", "b"], category="work", source="mail", pinned=True)
    second = person.save("two", tags=["b"], category="home")

    def found(**filters: str) -> list[str]:
        return [item["body"] for item in person.api.get("/v1/memories", params=filters).json()["items"]]

    assert found(tag="a") == found(category="work") == found(source="mail") == found(pinned="true") == ["one"]
    assert found(tag="b") == ["two", "one"]
    assert found(**{"from": second["created_at"]}) == ["two"]
    assert found(to=second["created_at"]) == ["one"]
    assert found(tag="a", category="home") == []
    assert found(**{"from": first["created_at"], "to": second["created_at"]}) == ["one"]


def test_a_change_needs_the_version_it_starts_from(person: Person) -> None:
    saved = person.save("draft", tags=["x"])
    path = f"/v1/memories/{saved['id']}"

    blind = person.api.patch(path, json={"title": "T"})
    assert (blind.status_code, blind.headers["content-type"]) == (428, "application/problem+json")

    changed = person.api.patch(path, json={"title": "T", "tags": []}, headers={"If-Match": '"v1"'})
    assert changed.status_code == 200
    assert changed.headers["ETag"] == '"v2"'
    assert (changed.json()["title"], changed.json()["tags"], changed.json()["body"]) == ("T", [], "draft")

    late = person.api.patch(path, json={"title": "mine"}, headers={"If-Match": '"v1"'})
    assert late.status_code == 412
    assert late.json()["current"] == changed.json()
    assert late.headers["ETag"] == '"v2"'

    assert person.api.patch(path, json={"title": "U"}, headers={"If-Match": 'W/"v2"'}).status_code == 412
    assert person.api.patch(path, json={"title": "U"}, headers={"If-Match": "v2"}).status_code == 400
    assert person.api.patch(path, json={"title": "U"}, headers={"If-Match": '"v1", "v2"'}).status_code == 200
    assert person.api.patch(path, json={"title": None}, headers={"If-Match": "*"}).json()["title"] is None


def test_a_change_of_nothing_makes_no_version(person: Person) -> None:
    saved = person.save("as it is", title="T")
    same = person.api.patch(f"/v1/memories/{saved['id']}", json={"title": "T"}, headers={"If-Match": "*"})
    assert same.json() == saved


def test_the_history_tells_who_changed_what(person: Person) -> None:
    saved = person.save("first words")
    path = f"/v1/memories/{saved['id']}"
    person.api.patch(path, json={"body": "other words"}, headers={"If-Match": "*"})
    person.api.delete(path)
    person.api.post(f"{path}/restore")

    history = person.api.get(f"{path}/history", params={"limit": 3}).json()
    assert [entry["action"] for entry in history["items"]] == ["restored", "trashed", "changed"]
    assert history["items"][2]["changes"] == {"body": ["first words", "other words"]}
    assert {entry["actor"]["name"] for entry in history["items"]} == {"tests"}
    rest = person.api.get(f"{path}/history", params={"before": history["next_before"]}).json()
    assert [entry["action"] for entry in rest["items"]] == ["created"]
    assert rest["next_before"] is None


def test_a_deleted_memory_waits_in_the_trash(person: Person) -> None:
    saved = person.save("throw me away")
    path = f"/v1/memories/{saved['id']}"

    assert person.api.delete(path, headers={"If-Match": '"v7"'}).status_code == 412
    assert person.api.delete(path).status_code == 204
    assert person.api.get(path).status_code == person.api.delete(path).status_code == 404
    assert person.api.patch(path, json={"title": "T"}, headers={"If-Match": "*"}).status_code == 404
    assert person.api.get("/v1/memories").json()["items"] == []
    assert [item["id"] for item in person.api.get("/v1/memories?trash=true").json()["items"]] == [saved["id"]]

    assert person.api.post(f"{path}/restore").json()["deleted_at"] is None
    assert person.api.post(f"{path}/restore").status_code == 409
    assert person.api.get(path).status_code == 200


def test_deleting_for_good_gives_back_what_it_took(person: Person) -> None:
    before = person.api.get("/v1/usage").json()
    saved = person.save("soon forgotten", title="é")
    person.api.put(f"/v1/memories/{saved['id']}/attachments/a.txt", json={"text": "0123456789"})
    assert person.api.get("/v1/usage").json()["bytes"]["used"] == 14 + 2 + 2 + 10

    assert person.api.delete(f"/v1/memories/{saved['id']}?permanent=true").status_code == 204
    after = person.api.get("/v1/usage").json()
    assert (after["memories"], after["bytes"]) == (before["memories"], before["bytes"])
    assert after["saves"]["used"] == 1
    assert person.api.get(f"/v1/memories/{saved['id']}/history").status_code == 404


def test_the_same_text_is_not_saved_twice(person: Person) -> None:
    saved = person.save("Buy  MILK\nand bread")
    again = person.api.post("/v1/memories", json={"body": " buy milk and ＢＲＥＡＤ ", "tags": ["ignored"]})

    assert again.status_code == 200
    assert again.json() == {**saved, "duplicate_of": saved["id"]}
    assert again.headers["Content-Location"] == f"/v1/memories/{saved['id']}"
    assert person.api.get("/v1/usage").json()["saves"]["used"] == 1

    forced = person.api.post("/v1/memories?force=true", json={"body": "buy milk and bread"})
    assert forced.status_code == 201
    assert forced.json()["duplicate_of"] == saved["id"]


def test_the_oldest_copy_takes_the_place_of_an_original_that_goes(person: Person) -> None:
    original = person.save("once more")
    copies = [person.api.post("/v1/memories?force=true", json={"body": "once more"}).json()["id"] for _ in range(2)]
    person.api.delete(f"/v1/memories/{original['id']}")

    def original_of(memory: str) -> str | None:
        found: str | None = person.api.get(f"/v1/memories/{memory}").json()["duplicate_of"]
        return found

    assert [original_of(copy) for copy in copies] == [None, copies[0]]
    assert person.api.post("/v1/memories", json={"body": "once more"}).json()["duplicate_of"] == copies[0]
    restored = person.api.post(f"/v1/memories/{original['id']}/restore").json()
    assert restored["duplicate_of"] == copies[0]


def test_a_changed_text_lets_the_old_one_be_saved_and_knows_its_own_copies(person: Person) -> None:
    first, second = person.save("alpha"), person.save("beta")
    changed = person.api.patch(f"/v1/memories/{first['id']}", json={"body": "Beta"}, headers={"If-Match": "*"}).json()
    assert changed["duplicate_of"] == second["id"]
    person.save("alpha")
    only_case = person.api.patch(f"/v1/memories/{second['id']}", json={"body": "BETA"}, headers={"If-Match": "*"})
    assert only_case.json()["duplicate_of"] is None
    assert person.api.get(f"/v1/memories/{first['id']}").json()["duplicate_of"] == second["id"]


def test_recalled_text_is_never_extracted_again(person: Person) -> None:
    recalled = person.save("as you told me in May, the pot is blue", is_recalled=True)
    assert recalled["enrichment_status"] == "none"
    path = f"/v1/memories/{recalled['id']}"
    changed = person.api.patch(path, json={"body": "the pot was blue"}, headers={"If-Match": "*"}).json()
    assert (changed["enrichment_status"], changed["embedding_status"]) == ("none", "pending")


def test_an_expired_memory_is_gone_and_makes_room_for_its_text(person: Person) -> None:
    gone = person.save("only for today", expires_at="2020-01-01T00:00:00Z")
    assert person.api.get(f"/v1/memories/{gone['id']}").status_code == 404
    assert person.api.get("/v1/memories").json()["items"] == []
    assert person.save("only for today")["id"] != gone["id"]


def test_links_lead_to_memories_of_the_same_user(person: Person) -> None:
    one, two = person.save("one")["id"], person.save("two")["id"]
    path = f"/v1/memories/{one}/links"
    assert person.api.put(f"{path}/{two}", json={"kind": "because of"}).json()["kind"] == "because of"
    assert person.api.put(f"{path}/{two}", json={"kind": "after"}).status_code == 200
    assert [(link["target_id"], link["kind"]) for link in person.api.get(path).json()["items"]] == [(two, "after")]
    assert person.api.put(f"{path}/{one}", json={}).status_code == 422
    assert person.api.delete(f"{path}/{two}").status_code == 204
    assert person.api.delete(f"{path}/{two}").status_code == 404


def test_an_attachment_is_kept_under_its_name(person: Person) -> None:
    path = f"/v1/memories/{person.save('with a file')['id']}/attachments"
    person.api.put(f"{path}/scan.txt", json={"text": "old"})
    kept = person.api.put(f"{path}/scan.txt", json={"text": "new text", "media_type": "text/markdown"}).json()
    assert person.api.get(path).json()["items"] == [kept]
    assert (kept["text"], kept["media_type"], kept["bytes"]) == ("new text", "text/markdown", 8)
    assert person.api.delete(f"{path}/scan.txt").status_code == 204
    assert person.api.get(path).json()["items"] == []


def test_an_unchanged_memory_is_not_sent_again(person: Person) -> None:
    path = f"/v1/memories/{person.save('known')['id']}"
    answer = person.api.get(path, headers={"If-None-Match": '"v1"'})
    assert (answer.status_code, answer.content) == (304, b"")


def test_what_cannot_be_kept_is_refused_by_name(api: Api) -> None:
    def refused(body: object, path: str = "/v1/memories", **headers: str) -> int:
        answer = api.post(path, json=body, headers=headers)
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.json()["status"] == answer.status_code
        return answer.status_code

    assert refused({"body": " \n "}) == refused({"body": "a\x00b"}) == refused({"body": "x", "no_such": 1}) == 422
    assert refused({"body": "x", "provenance": {"a": ["b\x00"]}}) == 422
    assert refused({"body": "x", "provenance": {"a": 2**70}}) == 422
    assert refused({"body": "x", "agent_id": "00000000-0000-0000-0000-000000000000"}) == 422
    assert refused({"body": "x" * 200_001}) == 422
    assert refused({"body": "x" * 1_000_001}) == 413
    assert refused({"body": "x"}, **{"Content-Type": "text/csv"}) == 415
    assert api.post("/v1/memories", content="{", headers={"Content-Type": "application/json"}).status_code == 400
    assert api.get("/v1/memories", params={"cursor": "no cursor"}).status_code == 400
    assert api.get("/v1/nothing").status_code == 404
    assert api.put("/v1/memories").status_code == 405


def test_a_moment_beyond_what_can_be_shown_is_refused(api: Api) -> None:
    for moment in ("9999-12-31T23:59:59-14:00", "9999-12-31T23:00:00Z", "0001-01-01T00:00:00+14:00"):
        assert api.post("/v1/memories", json={"body": "x", "expires_at": moment}).status_code == 422
        line = json.dumps({"body": "y", "created_at": moment})
        kind = {"Content-Type": "application/jsonl"}
        assert api.post("/v1/memories/import", content=line, headers=kind).status_code == 422
        assert api.post("/v1/keys", json={"name": "k", "expires_at": moment}).status_code == 422
    assert api.get("/v1/memories").json()["items"] == []


def test_a_number_that_json_cannot_hold_is_refused_and_not_kept_as_null(api: Api) -> None:
    for number in ("1e400", "-1e400", "NaN", "Infinity"):
        body = '{"body": "x", "provenance": {"a": [{"b": NUMBER}]}}'.replace("NUMBER", number)
        answer = api.post("/v1/memories", content=body, headers={"Content-Type": "application/json"})
        assert answer.status_code in (400, 422), answer.text
    assert api.post("/v1/memories", json={"body": "x", "provenance": {"a": None, "b": 1e308}}).status_code == 201
