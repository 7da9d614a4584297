"""Users and agents. A user here is a name within the account whose key it is, and no account of its own."""

from __future__ import annotations

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Query, Response
from psycopg.types.json import Jsonb

from pg_steadytext.memory.api.callers import Who
from pg_steadytext.memory.api.memfuse.common import absent, find, made_or_found, naming
from pg_steadytext.memory.api.memfuse.envelope import REFUSALS, Envelope, success
from pg_steadytext.memory.api.memfuse.models import Named, NamedPatch
from pg_steadytext.memory.api.service import Here
from pg_steadytext.memory.domain.problems import Problem

users = APIRouter(prefix="/users", tags=["users"], responses=REFUSALS)
agents = APIRouter(prefix="/agents", tags=["agents"], responses=REFUSALS)

ByName = Annotated[str | None, Query(max_length=200, pattern=r"^[^\x00]*$")]
TAKEN = "there is another of this name"


@users.get("", response_model=Envelope)
async def list_users(here: Here, who: Who, name: ByName = None) -> Response:
    """List the account's users, or find the one of a name."""
    async with here.database.unit(who, "memories:read") as unit:
        found = [row[0] for row in await unit.rows("memfuse_users", {"id": None, "name": name or None})]
    if name and not found:
        raise absent("User", name)
    return success({"users": found}, "Users retrieved successfully")


@users.post("", status_code=201, response_model=Envelope, responses={200: {"model": Envelope}})
async def add_user(here: Here, who: Who, new: Named) -> Response:
    """Name a user; one of the name that is there already is answered."""
    async with here.database.unit(who, "memories:write") as unit:
        made = await unit.row("memfuse_add_user", {"id": here.new_id(), **new.model_dump()})
        row = await unit.row("memfuse_users", {"id": None, "name": new.name})
    return made_or_found("User", row, is_new=made is not None)


@users.get("/{user_id}", response_model=Envelope)
async def read_user(here: Here, who: Who, user_id: UUID) -> Response:
    """Show a user."""
    async with here.database.unit(who, "memories:read") as unit:
        return success({"user": await find(unit, "User", user_id)}, "User retrieved successfully")


@users.put("/{user_id}", response_model=Envelope)
async def change_user(here: Here, who: Who, user_id: UUID, patch: NamedPatch) -> Response:
    """Name or describe a user anew."""
    async with naming(here, who, TAKEN) as unit:
        await unit.rows("memfuse_change_user", {"id": user_id, **patch.model_dump()})
        return success({"user": await find(unit, "User", user_id)}, "User updated successfully")


@users.delete("/{user_id}", response_model=Envelope)
async def delete_user(here: Here, who: Who, user_id: UUID) -> Response:
    """Delete a user with all sessions, messages and knowledge, for good."""
    async with here.database.unit(who, "memories:write") as unit:
        await find(unit, "User", user_id)
        nothing = {"name": None, "agent": None, "id": None}
        for (session,) in await unit.rows("memfuse_sessions", {**nothing, "memfuse_user": user_id}):
            await unit.rows("memfuse_forget", {"session": UUID(session["id"]), "memfuse_user": None})
        await unit.rows("memfuse_forget", {"session": None, "memfuse_user": user_id})
        await unit.rows("memfuse_delete_sessions", {"id": user_id})
        await unit.rows("memfuse_delete_user", {"id": user_id})
    return success({"user_id": str(user_id)}, "User deleted successfully")


@agents.get("", response_model=Envelope)
async def list_agents(here: Here, who: Who, name: ByName = None) -> Response:
    """List the account's agents, or find the one of a name."""
    async with here.database.unit(who, "memories:read") as unit:
        found = [row[0] for row in await unit.rows("memfuse_agents", {"id": None, "name": name or None})]
    if name and not found:
        raise absent("Agent", name)
    return success({"agents": found}, "Agents retrieved successfully")


@agents.post("", status_code=201, response_model=Envelope, responses={200: {"model": Envelope}})
async def add_agent(here: Here, who: Who, new: Named) -> Response:
    """Name an agent; one of the name that is there already is answered."""
    metadata = {"description": new.description} if new.description is not None else {}
    async with here.database.unit(who, "memories:write") as unit:
        made = await unit.row("add_agent", {"id": here.new_id(), "name": new.name, "metadata": Jsonb(metadata)})
        row = await unit.row("memfuse_agents", {"id": None, "name": new.name})
    return made_or_found("Agent", row, is_new=made is not None)


@agents.get("/{agent_id}", response_model=Envelope)
async def read_agent(here: Here, who: Who, agent_id: UUID) -> Response:
    """Show an agent."""
    async with here.database.unit(who, "memories:read") as unit:
        return success({"agent": await find(unit, "Agent", agent_id)}, "Agent retrieved successfully")


@agents.put("/{agent_id}", response_model=Envelope)
async def change_agent(here: Here, who: Who, agent_id: UUID, patch: NamedPatch) -> Response:
    """Name or describe an agent anew."""
    async with naming(here, who, TAKEN) as unit:
        await unit.rows("memfuse_change_agent", {"id": agent_id, **patch.model_dump()})
        return success({"agent": await find(unit, "Agent", agent_id)}, "Agent updated successfully")


@agents.delete("/{agent_id}", response_model=Envelope)
async def delete_agent(here: Here, who: Who, agent_id: UUID) -> Response:
    """Delete an agent that no session and no memory names."""
    async with here.database.unit(who, "memories:write") as unit:
        await find(unit, "Agent", agent_id)
        if await unit.row("memfuse_agent_is_used", {"id": agent_id}):
            raise Problem(409, "in-use", "sessions or memories name this agent; delete those first")
        await unit.rows("memfuse_delete_agent", {"id": agent_id})
    return success({"agent_id": str(agent_id)}, "Agent deleted successfully")
