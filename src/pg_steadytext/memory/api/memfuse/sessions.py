"""Conversations between a user and an agent."""

from __future__ import annotations

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Query, Response

from pg_steadytext.memory.api.callers import Who
from pg_steadytext.memory.api.memfuse.common import absent, find, made_or_found, naming
from pg_steadytext.memory.api.memfuse.envelope import REFUSALS, Envelope, success
from pg_steadytext.memory.api.memfuse.models import NewSession, SessionPatch
from pg_steadytext.memory.api.service import Here

router = APIRouter(prefix="/sessions", tags=["sessions"], responses=REFUSALS)

MOST_NAME = 200


@router.get("", response_model=Envelope)
async def list_sessions(
    here: Here, who: Who, user_id: UUID | None = None, agent_id: UUID | None = None,
    name: Annotated[str | None, Query(max_length=MOST_NAME, pattern=r"^[^\x00]*$")] = None,
) -> Response:  # fmt: skip
    """List sessions, of a user, with an agent, or of a name."""
    wanted = {"id": None, "name": name or None, "memfuse_user": user_id, "agent": agent_id}
    async with here.database.unit(who, "memories:read") as unit:
        found = [row[0] for row in await unit.rows("memfuse_sessions", wanted)]
    if name and not found:
        raise absent("Session", name)
    return success({"sessions": found}, "Sessions retrieved successfully")


@router.post("", status_code=201, response_model=Envelope, responses={200: {"model": Envelope}})
async def add_session(here: Here, who: Who, new: NewSession) -> Response:
    """Begin a session; the user's session of that name, if there is one, is answered."""
    entry = here.new_id()
    async with here.database.unit(who, "memories:write") as unit:
        user = await find(unit, "User", new.user_id)
        agent = await find(unit, "Agent", new.agent_id)
        end = f"-{entry.hex[-12:]}"
        name = new.name or f"{user['name']}-{agent['name']}"[: MOST_NAME - len(end)] + end
        keys = {"memfuse_user": new.user_id, "agent": new.agent_id, "name": name}
        made = await unit.row("memfuse_add_session", {"id": entry, **keys})
        row = await unit.row("memfuse_sessions", {**keys, "id": None, "agent": None})
    return made_or_found("Session", row, is_new=made is not None)


@router.get("/{session_id}", response_model=Envelope)
async def read_session(here: Here, who: Who, session_id: UUID) -> Response:
    """Show a session."""
    async with here.database.unit(who, "memories:read") as unit:
        return success({"session": await find(unit, "Session", session_id)}, "Session retrieved successfully")


@router.put("/{session_id}", response_model=Envelope)
async def change_session(here: Here, who: Who, session_id: UUID, patch: SessionPatch) -> Response:
    """Name a session anew."""
    async with naming(here, who, "the user has another session of this name") as unit:
        await unit.rows("memfuse_change_session", {"id": session_id, "name": patch.name})
        return success({"session": await find(unit, "Session", session_id)}, "Session updated successfully")


@router.delete("/{session_id}", response_model=Envelope)
async def delete_session(here: Here, who: Who, session_id: UUID) -> Response:
    """Delete a session with its messages, for good."""
    async with here.database.unit(who, "memories:write") as unit:
        await find(unit, "Session", session_id)
        await unit.rows("memfuse_forget", {"session": session_id, "memfuse_user": None})
        await unit.rows("memfuse_delete_session", {"id": session_id})
    return success({"session_id": str(session_id)}, "Session deleted successfully")
