"""Import and export."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.memory.conftest import NewPerson
from tests.memory.server import Api, Person

KEPT = (
    "body",
    "title",
    "category",
    "tags",
    "source",
    "provenance",
    "pinned",
    "is_recalled",
    "expires_at",
    "created_at",
)


def send(api: Api, text: str, kind: str = "application/x-ndjson", **headers: str) -> Any:
    """Import a text."""
    return api.post("/v1/memories/import", content=text, headers={"Content-Type": kind, **headers})


def memories(api: Api) -> list[dict[str, Any]]:
    """What an import must bring back of each memory, the oldest first."""
    items = api.get("/v1/memories").json()["items"]
    return [{name: item[name] for name in KEPT} for item in items[::-1]]


@pytest.mark.parametrize(("form", "kind"), [("jsonl", "application/x-ndjson"), ("markdown", "text/markdown")])
def test_an_export_is_read_back_as_it_was(new_person: NewPerson, form: str, kind: str) -> None:
    one, other = new_person(), new_person()
    one.save("plain")
    one.save("# looks like a heading\n\ntwo lines\n", title="T -->", tags=["a", "ä"], category="c", source="s")
    one.save('<!-- memory {"title": "not a mark"} -->\n\\<!-- memory', provenance={"from": ["x", 1]}, pinned=True)
    one.save("recalled", is_recalled=True, expires_at="2999-01-01T00:00:00Z")

    exported = one.api.get("/v1/memories/export", params={"format": form})
    assert exported.headers["content-type"].startswith(kind)
    done = send(other.api, exported.text, kind)
    assert (done.status_code, done.json()["created"]) == (200, 4)
    assert memories(other.api) == memories(one.api)
    again = send(other.api, exported.text, kind).json()
    assert (again["created"], again["duplicates"], again["ids"]) == (0, 4, done.json()["ids"])


@pytest.mark.parametrize(("form", "kind"), [("jsonl", "application/x-ndjson"), ("markdown", "text/markdown")])
def test_agents_and_conversations_are_left_out(new_person: NewPerson, form: str, kind: str) -> None:
    one, other = new_person(), new_person()
    agent = one.api.post("/v1/agents", json={"name": "reader"}).json()["id"]
    session = one.api.post("/v1/sessions", json={"name": "talk", "agent_id": agent}).json()["id"]
    one.save("said there", agent_id=agent, session_id=session)
    exported = one.api.get("/v1/memories/export", params={"format": form}).text
    done = send(other.api, exported, kind)
    assert (done.status_code, done.json().get("created")) == (200, 1), done.text
    (brought,) = other.api.get("/v1/memories").json()["items"]
    assert (brought["body"], brought["agent_id"], brought["session_id"]) == ("said there", None, None)


def test_a_persons_markdown_is_a_memory_a_heading(api: Api) -> None:
    text = "Before.\n\n# First\n\nAbout one.\n## Part\nmore\n\n# Second\n"
    assert send(api, text, "text/markdown").json()["created"] == 3
    assert [(item["title"], item["body"]) for item in memories(api)] == [
        (None, "Before."), ("First", "About one.\n## Part\nmore"), ("Second", "Second"),
    ]  # fmt: skip


def test_a_comment_in_code_is_no_heading_and_a_headings_own_marks_stay(api: Api) -> None:
    text = "# Shell\n```bash\n# not a heading\n```\n~~~\n```\n# nor this\n~~~\n# Notes on C# ##\nsharp\n"
    assert send(api, text, "text/markdown").json()["created"] == 2
    assert [(item["title"], item["body"]) for item in memories(api)] == [
        ("Shell", "```bash\n# not a heading\n```\n~~~\n```\n# nor this\n~~~"), ("Notes on C#", "sharp"),
    ]  # fmt: skip


def test_an_export_that_an_editor_gave_other_line_ends_is_read(person: Person, new_person: NewPerson) -> None:
    person.save("one\ntwo", title="T")
    person.save("three")
    exported = person.api.get("/v1/memories/export", params={"format": "markdown"}).text
    other = new_person()
    assert send(other.api, exported.replace("\n", "\r\n"), "text/markdown").json()["created"] == 2
    assert memories(other.api) == memories(person.api)


@pytest.mark.parametrize(
    "text",
    [
        "# " + "#" * 400_000 + "x",
        "#" + " " * 400_000 + "x",
        '<!-- memory {"a":' + "[" * 50_000 + "]" * 50_000 + "} -->",
    ],
    ids=["marks", "blanks", "depth"],
)
def test_an_import_that_is_made_to_be_hard_is_answered_soon(api: Api, text: str) -> None:
    answer = api.post("/v1/memories/import", content=text, headers={"Content-Type": "text/markdown"}, timeout=5)
    assert answer.status_code in (200, 422), answer.text[:200]


def test_an_import_is_all_or_nothing(person: Person, new_person: NewPerson) -> None:
    wrong = send(person.api, '{"body": "fine"}\n\n{"body": ""}\n{"body": "x", "tags": 3}\n')
    assert wrong.status_code == 422
    assert [error["entry"] for error in wrong.json()["errors"]] == [3, 4]
    assert send(person.api, '{"body": "fine"}\n{').status_code == 400
    assert send(person.api, "x", "text/csv").status_code == 415
    assert memories(person.api) == []

    limited = new_person(plan="free")
    lines = "\n".join(json.dumps({"body": f"line {number}"}) for number in range(501))
    assert send(limited.api, lines).status_code == 429
    assert memories(limited.api) == []
    assert limited.api.get("/v1/usage").json()["saves"]["used"] == 0


def test_an_import_under_a_key_happens_once(person: Person) -> None:
    key = {"Idempotency-Key": '"import-1"'}
    text = '{"body": "a"}\n{"body": "b"}'
    first, again = send(person.api, text, **key), send(person.api, text, **key)
    assert first.content == again.content
    assert again.headers["Idempotent-Replayed"] == "true"
    assert len(memories(person.api)) == 2
