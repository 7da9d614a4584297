"""Saving, reading, changing and deleting memories."""

from __future__ import annotations

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
