"""Calls every method of memfuse's SDK, waiting or awaited, and prints what came of it; run with the SDK's Python."""

from __future__ import annotations

import asyncio
import inspect
import json
import sys
from collections.abc import Callable
from typing import Any

from memfuse import AsyncMemFuse, MemFuse
from memfuse.utils import MemFuseHTTPError

AWAITED = sys.argv[1:] == ["awaited"]

told: dict[str, Any] = {}


async def settle(value: Any) -> Any:
    """What a call of either form gives: its data."""
    found = await value if inspect.isawaitable(value) else value
    return found["data"] if isinstance(found, dict) else found


async def refusal(call: Callable[[], Any]) -> Any:
    """How a call is refused."""
    try:
        await settle(call())
    except MemFuseHTTPError as error:
        data = error.response_data
        return [error.status_code, data["status"], data["errors"][0]["message"]]
    return None


class Speaker:
    """A client of either form."""

    def __init__(self) -> None:
        self.client = AsyncMemFuse() if AWAITED else MemFuse()

    async def __call__(self, api: str, name: str, /, *arguments: Any, **more: Any) -> Any:
        return await settle(self.raw(api, name)(*arguments, **more))

    def raw(self, api: str, name: str, /) -> Callable[..., Any]:
        """A method of the client."""
        found: Callable[..., Any] = getattr(getattr(self.client, api), name if AWAITED else f"{name}_sync")
        return found


def contents(found: list[dict[str, Any]]) -> list[str]:
    """The texts of messages, knowledge or results."""
    return [one["content"] for one in found]


async def messages(memory: Any, unnamed: Any) -> list[str]:
    """Add, list, read, change, delete."""
    first = {"role": "user", "content": "My spare key is under the blue pot.", "metadata": {"task": "home"}}
    noted = [{"role": "assistant", "content": "Noted."}, {"role": "user", "content": "Noted."}]
    ids: list[str] = (await settle(memory.add([first, *noted])))["message_ids"]
    told["added"] = len(set(ids))
    await settle(unnamed.add([{"role": "user", "content": "The key to the cellar is lost."}]))
    listed = (await settle(memory.list_messages(order="asc")))["messages"]
    told["listed"] = [[one["role"], one["content"]] for one in listed]
    told["metadata"] = listed[0]["metadata"]
    told["newest"] = [one["id"] == ids[2] for one in (await settle(memory.list_messages(limit=1)))["messages"]]
    told["buffered"] = (await settle(memory.list_messages(buffer_only=True)))["messages"]
    told["read"] = contents((await settle(memory.read([ids[1], ids[0]])))["messages"])
    return ids


async def change_messages(memory: Any, ids: list[str]) -> None:
    """Change one, delete one."""
    changed = await settle(memory.update([ids[1]], [{"role": "assistant", "content": "I wrote it down."}]))
    told["changed"] = [changed["message_ids"] == [ids[1]], contents((await settle(memory.read([ids[1]])))["messages"])]
    await settle(memory.delete([ids[2]]))
    told["left"] = len((await settle(memory.list_messages()))["messages"])
    told["gone"] = await refusal(lambda: memory.read([ids[2]]))
    told["no_text"] = await refusal(lambda: memory.add([{"role": "user", "content": " "}]))


async def query(memory: Any) -> None:
    """Search a user's sessions and knowledge."""
    found = (await settle(memory.query_session("key", top_k=5)))["results"]
    told["found"] = sorted([one["type"], one["content"], one["metadata"]["scope"]] for one in found)
    scores = [one["score"] for one in found]
    told["scores"] = scores == sorted(scores, reverse=True)
    helped = (await settle(memory.query("key pot", agent_id=memory.agent_id)))["results"]
    told["helped"] = sorted(contents(helped))
    told["unscoped"] = [one["metadata"]["scope"] for one in (await settle(memory.query("pot", top_k=1)))["results"]]


async def knowledge(memory: Any, speak: Speaker) -> None:
    """Add, list, read, change, delete."""
    kept = (await settle(memory.add_knowledge(["alice likes TEA.", "Alice likes chess."])))["knowledge_ids"]
    told["known"] = contents((await speak("knowledge", "list", memory.user_id))["knowledge"])
    await settle(memory.update_knowledge([kept[1]], ["Alice loves chess."]))
    told["read_knowledge"] = contents((await settle(memory.read_knowledge(kept)))["knowledge"])
    await settle(memory.delete_knowledge([kept[0]]))
    told["known_left"] = contents((await speak("knowledge", "list", memory.user_id))["knowledge"])


async def people(memory: Any, bob: Any, speak: Speaker) -> None:
    """Users and agents."""
    told["users"] = sorted(one["name"] for one in (await speak("users", "list"))["users"])
    renamed = (await speak("users", "update", bob.user_id, name="robert", description="who was bob"))["user"]
    told["renamed"] = [renamed["name"], renamed["description"]]
    told["taken"] = await refusal(lambda: speak.raw("users", "update")(bob.user_id, name="alice"))
    told["robert"] = (await speak("users", "get", bob.user_id))["user"] == renamed
    agent = (await speak("agents", "create", "second", description="d"))["agent"]
    told["agents"] = sorted(one["name"] for one in (await speak("agents", "list"))["agents"])
    told["agent"] = (await speak("agents", "get", agent["id"]))["agent"] == agent
    told["agent_renamed"] = (await speak("agents", "update", agent["id"], name="third"))["agent"]["name"]
    told["agent_used"] = await refusal(lambda: speak.raw("agents", "delete")(memory.agent_id))
    await speak("agents", "delete", agent["id"])
    told["agent_gone"] = await refusal(lambda: speak.raw("agents", "get_by_name")("third"))


async def sessions(memory: Any, unnamed: Any, message: str, speak: Speaker) -> None:
    """Sessions, and their own methods for messages."""
    told["sessions"] = len((await speak("sessions", "list", user_id=memory.user_id))["sessions"])
    renamed = (await speak("sessions", "update", memory.session_id, name="renamed"))["session"]
    told["session"] = [renamed["name"], (await speak("sessions", "get", memory.session_id))["session"] == renamed]
    read = (await speak("sessions", "read_messages", memory.session_id, [message]))["messages"]
    told["by_session"] = [one["id"] == message for one in read]
    await speak("sessions", "delete", unnamed.session_id)
    told["session_gone"] = await refusal(lambda: unnamed.add([{"role": "user", "content": "x"}]))


async def keys(memory: Any, speak: Speaker) -> None:
    """Keys."""
    key = (await speak("api_keys", "create", memory.user_id, name="second"))["api_key"]
    other = MemFuse(api_key=key["key"])
    told["by_key"] = other.users.get_by_name_sync("alice")["data"]["users"][0]["id"] == memory.user_id
    told["keys"] = sorted(one["name"] for one in (await speak("api_keys", "list", memory.user_id))["api_keys"])
    await speak("api_keys", "delete", memory.user_id, key["id"])
    told["revoked"] = await refusal(lambda: other.users.list_sync())
    told["own_secret"] = await refusal(lambda: speak.raw("api_keys", "create")(memory.user_id, key="mine"))


async def main() -> None:
    """Call everything."""
    speak = Speaker()
    memory = await settle(speak.client.init(user="alice", agent="helper", session="first"))
    again = await settle(speak.client.init(user="alice", agent="helper", session="first"))
    unnamed = await settle(speak.client.init(user="alice", agent="helper"))
    bob = await settle(speak.client.init(user="bob", agent="helper"))
    told["same"] = [memory.session_id == again.session_id, unnamed.session_id == memory.session_id]
    told["named"] = unnamed.session.startswith("alice-helper-")
    ids = await messages(memory, unnamed)
    await settle(memory.add_knowledge(["The blue pot stands in the garden.", "Alice likes tea."]))
    await settle(bob.add([{"role": "user", "content": "My key is in the drawer."}]))
    await query(memory)
    await change_messages(memory, ids)
    await knowledge(memory, speak)
    await people(memory, bob, speak)
    await sessions(memory, unnamed, ids[0], speak)
    await keys(memory, speak)
    await speak("users", "delete", memory.user_id)
    told["user_gone"] = await refusal(lambda: memory.query("key"))
    told["others"] = [one["name"] for one in (await speak("users", "list"))["users"]]
    if AWAITED:
        await speak.client.close()


if __name__ == "__main__":
    asyncio.run(main())
    print(json.dumps(told))
