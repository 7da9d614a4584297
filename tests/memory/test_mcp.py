"""The Model Context Protocol's own client calls every tool of ``pg-steadytext memory mcp``, against the service."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from mcp import ClientSession, MCPError, StdioServerParameters, stdio_client

from pg_steadytext.memory.domain.recalling import Recalled
from tests.memory.server import SOURCES, MemoryServer, Person

PROGRAM = ["-c", MemoryServer.program, "memory", "mcp"]


class Caller:
    """A client of the server."""

    def __init__(self, session: ClientSession) -> None:
        self.session = session

    async def __call__(self, tool: str, /, **arguments: Any) -> Any:
        """What a tool answers."""
        result: Any = await self.session.call_tool(tool, arguments)
        assert not result.is_error, result.content
        assert json.loads(result.content[0].text) == result.structured_content
        return result.structured_content

    async def refused(self, tool: str, /, **arguments: Any) -> str:
        """How a tool says that it cannot."""
        result: Any = await self.session.call_tool(tool, arguments)
        assert result.is_error, result.content
        said: str = result.content[0].text
        return said


def speak(server: MemoryServer, key: str, act: Callable[[Caller], Awaitable[None]]) -> None:
    """Start the server as a host does, and let a client act."""
    environment = {
        "PYTHONPATH": str(SOURCES), "STEADYTEXT_MEMORY_URL": server.url, "STEADYTEXT_MEMORY_KEY": key,
    }  # fmt: skip
    parameters = StdioServerParameters(command=sys.executable, args=PROGRAM, env=environment)

    async def run() -> None:
        async with stdio_client(parameters) as streams, ClientSession(*streams) as session:
            await session.initialize()
            await act(Caller(session))

    asyncio.run(asyncio.wait_for(run(), 60))


def test_every_tool_does_what_it_says(server: MemoryServer, person: Person) -> None:
    async def act(call: Caller) -> None:
        names = {tool.name for tool in (await call.session.list_tools()).tools}
        assert names == {
            "save_memory", "search_memories", "list_memories", "get_memory", "delete_memory", "remind",
            "list_reminders", "finish_reminder",
        }  # fmt: skip
        saved = await call("save_memory", text="The spare key is under the pot.", tags=["home"], title="Key")
        assert (saved["was_there_already"], saved["marked_as_recalled"]) == (False, False)
        again = await call("save_memory", text="the spare key is under the POT.")
        assert (again["was_there_already"], again["id"]) == (True, saved["id"])
        await call("save_memory", text="Alice likes tea.")

        found = await call("search_memories", query="spare key", tags=["home"], limit=5)
        assert [one["id"] for one in found["memories"]] == [saved["id"]]
        assert (found["mode"], found["degraded_because"] is None) == ("keyword", False)
        listed = (await call("list_memories", limit=1))["memories"]
        assert [one["body"] for one in listed] == ["Alice likes tea."]
        assert (await call("get_memory", id=saved["id"]))["title"] == "Key"
        read: Any = await call.session.read_resource(saved["uri"])
        assert json.loads(read.contents[0].text)["body"] == "The spare key is under the pot."
        assert [one.uri_template for one in (await call.session.list_resource_templates()).resource_templates] == [
            "memory://{id}"
        ]

        made = await call("remind", what="water", when="in 2 hours", memory_id=saved["id"], note="all of them")
        series = await call("remind", what="report", when="2100-01-01 09:00", repeat="FREQ=DAILY")
        inbox = await call("list_reminders")
        assert [one["id"] for one in inbox["reminders"]] == [made["id"], series["id"]]
        assert [one["id"] for one in (await call("list_reminders", section="upcoming"))["reminders"]][-1] == series[
            "id"
        ]
        assert (await call("finish_reminder", id=made["id"]))["state"] == "done"
        assert (await call("finish_reminder", id=series["id"], how="dismissed"))["due_local"] == "2100-01-02T09:00:00"

        assert (await call("delete_memory", id=saved["id"]))["deleted"]

    speak(server, person.key, act)
    bodies = [one["body"] for one in person.api.get("/v1/memories").json()["items"]]
    assert bodies == ["Alice likes tea."]
    assert person.api.get("/v1/memories", params={"trash": True}).json()["items"][0]["source"] == "mcp"


def test_what_was_recalled_is_not_saved_as_new(server: MemoryServer, person: Person) -> None:
    person.save("The spare key is under the blue pot, which stands beside the door.")

    async def act(call: Caller) -> None:
        await call("search_memories", query="key")
        passage = await call("save_memory", text="the spare key is under the  BLUE pot")
        assert passage["marked_as_recalled"]
        told = await call("save_memory", text="I remember something.", is_recalled=True)
        assert told["marked_as_recalled"]
        assert not (await call("save_memory", text="The door is red."))["marked_as_recalled"]

    speak(server, person.key, act)
    kept = {one["body"]: one["enrichment_status"] for one in person.api.get("/v1/memories").json()["items"]}
    assert kept["the spare key is under the  BLUE pot"] == kept["I remember something."] == "none"
    assert kept["The door is red."] == "pending"


def test_a_refusal_is_told_to_the_model(server: MemoryServer, person: Person) -> None:
    async def act(call: Caller) -> None:
        nobody = "00000000-0000-7000-8000-000000000000"
        absent = await call.refused("get_memory", id=nobody)
        assert absent.endswith(": there is no such memory (404 not-found)")
        assert "badly formed" in await call.refused("delete_memory", id="first")
        unclear = await call.refused("remind", what="taxes", when="03/04/2100")
        assert '"understood":"2100-04-03 or 2100-03-04"' in unclear
        assert "422 invalid-value" in await call.refused("save_memory", text=" ")
        assert "limit" in await call.refused("list_memories", limit=0)
        with pytest.raises(MCPError, match="no such memory"):
            await call.session.read_resource(f"memory://{nobody}")

    speak(server, person.key, act)

    async def unknown(call: Caller) -> None:
        assert "401" in await call.refused("list_memories")

    speak(server, "mem_wrong", unknown)


def test_a_server_without_a_key_says_so_and_ends() -> None:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("STEADYTEXT_MEMORY")}
    environment |= {"PYTHONPATH": str(SOURCES), "STEADYTEXT_MEMORY_URL": "http://127.0.0.1:1"}
    done = subprocess.run(
        [sys.executable, *PROGRAM],
        env=environment,
        capture_output=True,
        text=True,
        timeout=30,
        stdin=subprocess.DEVNULL,
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert "set STEADYTEXT_MEMORY_KEY" in done.stderr


def test_a_text_repeats_one_that_was_told_or_a_passage_of_it() -> None:
    recalled = Recalled(most=2)
    recalled.note("Tea at five.")
    assert recalled.holds("TEA  at five.")
    assert not recalled.holds("Tea")
    recalled.note("The spare key is under the blue pot.")
    assert recalled.holds("spare key is under the blue")
    recalled.note("another")
    assert not recalled.holds("Tea at five.")
