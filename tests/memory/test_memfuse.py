"""The SDK of memfuse, as the index has it, speaks to the service over a real socket."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from pg_steadytext.settings import Settings
from tests.memory.chat_server import ChatServer
from tests.memory.conftest import NewPerson
from tests.memory.server import MemoryServer, Person
from tests.support.memfuse import provide_memfuse_python, run_memfuse

README = """
import re
from importlib.metadata import metadata
page = metadata("memfuse").get_payload() or metadata("memfuse")["Description"]
examples = re.findall(r"^```python\\n(.*?)^```", page, re.M | re.S)
names = {}
for example in examples:
    exec(compile(example, "README", "exec"), names)
print(len(examples))
"""

CALLS = Path(__file__).with_name("memfuse_calls.py")


@pytest.fixture(scope="session")
def python() -> Path:
    """The interpreter of the SDK's environment, kept in the home."""
    return provide_memfuse_python(Settings.load().home / "memfuse-venv")


@pytest.fixture
def chat() -> Iterator[ChatServer]:
    """A chat model."""
    server = ChatServer()
    yield server
    server.shutdown()
    server.server_close()


def speak(python: Path, server: MemoryServer, key: str, script: Path | str, *words: str, **more: str) -> str:
    """Run a script with the SDK; returns what it printed."""
    return run_memfuse(python, script, *words, SERVICE_PORT=str(server.port), MEMFUSE_API_KEY=key, **more)


def test_the_sdks_own_readme_runs_unmodified(
    python: Path, server: MemoryServer, person: Person, chat: ChatServer
) -> None:
    told = speak(python, server, person.key, README, OPENAI_API_KEY="sk-none", OPENAI_BASE_URL=chat.url)
    assert told.splitlines()[-1] == "2"
    assert "Version mismatch" not in told
    assert "Follow-up: You asked: What are some challenges of living on that planet?" in told
    second = json.dumps(chat.asked[1])
    # Once as what was said before, once as what was found by the query.
    assert second.count("What is the gravity there?") >= 2
    saved = person.api.get("/v1/memories").json()["items"]
    assert [(one["source"], one["provenance"]["role"]) for one in saved] == [
        ("memfuse", "assistant"), ("memfuse", "user"), ("memfuse", "assistant"), ("memfuse", "user"),
    ]  # fmt: skip
    assert len({one["session_id"] for one in saved}) == len({one["agent_id"] for one in saved}) == 1


def test_refusals_come_in_the_envelope(
    server: MemoryServer, new_person: NewPerson, superuser: psycopg.Connection
) -> None:
    superuser.execute("INSERT INTO memory.tiers VALUES ('two messages a day', 96, 10, 1000, 2, 10, 10, false)")
    api = new_person(plan="two messages a day").api
    user = api.post("/api/v1/users", json={"name": "u"}).json()["data"]["user"]["id"]
    agent = api.post("/api/v1/agents", json={"name": "a"}).json()["data"]["agent"]["id"]
    session = api.post("/api/v1/sessions", json={"user_id": user, "agent_id": agent}).json()["data"]["session"]["id"]
    talk = f"/api/v1/sessions/{session}/messages"
    three = {"messages": [{"role": "user", "content": text} for text in "abc"]}
    reader = new_person(scopes=("memories:read",)).api
    answers = [
        api.post(talk, json=three),
        api.post(talk, content=b"{", headers={"Content-Type": "application/json"}),
        api.post(talk, content=b"x", headers={"Content-Type": "text/plain"}),
        api.post(talk, content=b"[" + b" " * 1_000_000, headers={"Content-Type": "application/json"}),
        api.put(talk, json={"message_ids": [user], "new_messages": []}),
        api.get("/api/v1/nothing"),
        reader.post("/api/v1/users", json={"name": "x"}),
        server.client().get("/api/v1/users"),
        server.client("mem_wrong").get("/api/v1/users"),
    ]
    told = [answer.json() for answer in answers]
    assert [answer.status_code for answer in answers] == [429, 400, 415, 413, 422, 404, 403, 401, 401]
    assert [one["code"] for one in told] == [answer.status_code for answer in answers]
    assert all(one["status"] == "error" and one["data"] is None and one["message"] for one in told)
    assert all(one["errors"][0].keys() == {"field", "message"} for one in told)
    assert int(answers[0].headers["Retry-After"]) > 0
    # All or nothing: of the three messages that were one too many, none is there.
    assert api.get(talk).json()["data"]["messages"] == []


@pytest.mark.parametrize("mode", ["waiting", "awaited"])
def test_every_method_of_the_sdk_does_what_it_says(
    python: Path, server: MemoryServer, person: Person, mode: str
) -> None:
    told: dict[str, Any] = json.loads(speak(python, server, person.key, CALLS, mode).splitlines()[-1])
    gone = told.pop("gone"), told.pop("session_gone"), told.pop("user_gone"), told.pop("agent_gone")
    assert [(status, kind) for status, kind, _ in gone] == [(404, "error")] * 4
    assert (told.pop("taken")[0], told.pop("agent_used")[0], told.pop("revoked")[0]) == (409, 409, 401)
    assert (told.pop("own_secret")[0], told.pop("no_text")[0]) == (422, 422)
    assert told == {
        "same": [True, False],
        "named": True,
        "added": 3,
        "listed": [["user", "My spare key is under the blue pot."], ["assistant", "Noted."], ["user", "Noted."]],
        "newest": [True],
        "buffered": [],
        "metadata": {"task": "home"},
        "read": ["Noted.", "My spare key is under the blue pot."],
        "found": [
            ["message", "My spare key is under the blue pot.", "in_session"],
            ["message", "The key to the cellar is lost.", "cross_session"],
        ],
        "helped": [
            "My spare key is under the blue pot.",
            "The blue pot stands in the garden.",
            "The key to the cellar is lost.",
        ],
        "unscoped": [None],
        "scores": True,
        "changed": [True, ["I wrote it down."]],
        "left": 2,
        "known": ["The blue pot stands in the garden.", "Alice likes tea.", "Alice likes chess."],
        "read_knowledge": ["Alice likes tea.", "Alice loves chess."],
        "known_left": ["The blue pot stands in the garden.", "Alice loves chess."],
        "users": ["alice", "bob"],
        "renamed": ["robert", "who was bob"],
        "robert": True,
        "agents": ["helper", "second"],
        "agent": True,
        "agent_renamed": "third",
        "sessions": 2,
        "session": ["renamed", True],
        "by_session": [True],
        "by_key": True,
        "keys": ["second", "tests"],
        "others": ["robert"],
    }
    # A user who was deleted leaves nothing, in the trash neither.
    left = [person.api.get("/v1/memories", params={"trash": trash}).json()["items"] for trash in (False, True)]
    assert [[one["body"] for one in page] for page in left] == [["My key is in the drawer."], []]
    assert person.api.get("/v1/usage").json()["memories"]["used"] == 1
