"""The messages of a session: memories that name it."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated, Any, Literal
from uuid import UUID

from fastapi import APIRouter, Query, Response

from pg_steadytext.memory.api.callers import Who
from pg_steadytext.memory.api.memfuse.common import add, find, in_order, provenance, put_away, rewrite
from pg_steadytext.memory.api.memfuse.envelope import REFUSALS, Envelope, success
from pg_steadytext.memory.api.memfuse.models import Message, MessageIds, MessagesPatch, NewMessages
from pg_steadytext.memory.api.service import Here

router = APIRouter(prefix="/sessions/{session_id}/messages", tags=["messages"], responses=REFUSALS)


@router.get("", response_model=Envelope)
async def list_messages(
    here: Here, who: Who, session_id: UUID,
    limit: Annotated[int, Query(ge=1, le=1000)] = 20,
    _: Annotated[
        Literal["timestamp", "id"], Query(alias="sort_by", description="Ids grow with time: both mean one order.")
    ] = "timestamp",
    order: Literal["asc", "desc"] = "desc",
    buffer_only: Annotated[bool | None, Query(description="What no database has yet: nothing, here.")] = None,
) -> Response:  # fmt: skip
    """List a session's messages, the newest first or the oldest."""
    statement = "memfuse_newest_messages" if order == "desc" else "memfuse_oldest_messages"
    async with here.database.unit(who, "memories:read") as unit:
        await find(unit, "Session", session_id)
        wanted = {"session": session_id, "limit": limit}
        found = [] if buffer_only else [row[0] for row in await unit.rows(statement, wanted)]
    return success({"messages": found}, "Messages retrieved successfully")


@router.post("", status_code=201, response_model=Envelope)
async def add_messages(here: Here, who: Who, session_id: UUID, new: NewMessages) -> Response:
    """Save messages, all or none of them; each counts as a save."""
    async with here.database.unit(who, "memories:write") as unit:
        session = await find(unit, "Session", session_id)
        row = await unit.row("clock")
        assert row is not None
        ids = [
            # One transaction has one time; an order among its messages is theirs to have.
            await add(
                unit, here.new_id(), row[0] + timedelta(microseconds=place), body=message.content,
                provenance=kept(session, message), session_id=session_id, agent_id=session["agent_id"],
                is_recalled=bool(message.metadata and message.metadata.get("is_recalled")),
            )
            for place, message in enumerate(new.messages)
        ]  # fmt: skip
    return success({"message_ids": ids}, "Messages added successfully", 201)


def kept(session: dict[str, Any], message: Message) -> dict[str, Any]:
    """Return a message's provenance."""
    return provenance(session["user_id"], message.role, message.metadata)


@router.post("/read", response_model=Envelope)
async def read_messages(here: Here, who: Who, session_id: UUID, which: MessageIds) -> Response:
    """Show messages, in the order they are asked for."""
    async with here.database.unit(who, "memories:read") as unit:
        await find(unit, "Session", session_id)
        rows = await unit.rows("memfuse_messages", {"session": session_id, "ids": which.message_ids})
    return success({"messages": in_order("Message", which.message_ids, rows)}, "Messages retrieved successfully")


@router.put("", response_model=Envelope)
async def change_messages(here: Here, who: Who, session_id: UUID, patch: MessagesPatch) -> Response:
    """Put other messages in the place of these, all or none."""
    async with here.database.unit(who, "memories:write") as unit:
        session = await find(unit, "Session", session_id)
        rows = await unit.rows("memfuse_messages", {"session": session_id, "ids": patch.message_ids})
        in_order("Message", patch.message_ids, rows)
        for which, message in zip(patch.message_ids, patch.new_messages, strict=True):
            await rewrite(unit, which, message.content, {"provenance": kept(session, message)})
    return success({"message_ids": [str(which) for which in patch.message_ids]}, "Messages updated successfully")


@router.delete("", response_model=Envelope)
async def delete_messages(here: Here, who: Who, session_id: UUID, which: MessageIds) -> Response:
    """Put messages into the trash, all or none."""
    async with here.database.unit(who, "memories:write") as unit:
        await find(unit, "Session", session_id)
        rows = await unit.rows("memfuse_messages", {"session": session_id, "ids": which.message_ids})
        in_order("Message", which.message_ids, rows)
        await put_away(unit, which.message_ids)
    return success({"message_ids": [str(one) for one in which.message_ids]}, "Messages deleted successfully")
