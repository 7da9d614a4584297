"""What is known of a user beside conversations: memories that name the user and no session."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from fastapi import APIRouter, Response

from pg_steadytext.memory.api.callers import Who
from pg_steadytext.memory.api.memfuse.common import add, find, in_order, provenance, put_away, rewrite
from pg_steadytext.memory.api.memfuse.envelope import REFUSALS, Envelope, success
from pg_steadytext.memory.api.memfuse.models import KnowledgeIds, KnowledgePatch, NewKnowledge
from pg_steadytext.memory.api.service import Here
from pg_steadytext.memory.domain.text import content_hash
from pg_steadytext.memory.storage.database import Row, Unit

router = APIRouter(prefix="/users/{user_id}/knowledge", tags=["knowledge"], responses=REFUSALS)


async def known(
    unit: Unit, user_id: UUID, ids: Sequence[UUID] | None = None, digest: bytes | None = None
) -> list[Row]:  # fmt: skip
    """Return a user's knowledge, the oldest first."""
    wanted: dict[str, Any] = {"memfuse_user": str(user_id), "ids": ids, "hash": digest}
    return await unit.rows("memfuse_knowledge", wanted)


@router.get("", response_model=Envelope)
async def list_knowledge(here: Here, who: Who, user_id: UUID) -> Response:
    """List all that is known of a user."""
    async with here.database.unit(who, "memories:read") as unit:
        await find(unit, "User", user_id)
        found = [row[0] for row in await known(unit, user_id)]
    return success({"knowledge": found}, "Knowledge items retrieved successfully")


@router.post("", status_code=201, response_model=Envelope)
async def add_knowledge(here: Here, who: Who, user_id: UUID, new: NewKnowledge) -> Response:
    """Save texts, all or none; what is known of the user already keeps its id."""
    ids: list[str] = []
    async with here.database.unit(who, "memories:write") as unit:
        await find(unit, "User", user_id)
        for text in new.knowledge:
            same = await known(unit, user_id, digest=content_hash(text))
            kept = provenance(str(user_id), None, None)
            ids.append(same[0][0]["id"] if same else await add(unit, here.new_id(), body=text, provenance=kept))
    return success({"knowledge_ids": ids}, "Knowledge items added successfully", 201)


@router.post("/read", response_model=Envelope)
async def read_knowledge(here: Here, who: Who, user_id: UUID, which: KnowledgeIds) -> Response:
    """Show knowledge, in the order it is asked for."""
    async with here.database.unit(who, "memories:read") as unit:
        await find(unit, "User", user_id)
        found = in_order("Knowledge", which.knowledge_ids, await known(unit, user_id, which.knowledge_ids))
    return success({"knowledge": found}, "Knowledge items retrieved successfully")


@router.put("", response_model=Envelope)
async def change_knowledge(here: Here, who: Who, user_id: UUID, patch: KnowledgePatch) -> Response:
    """Put other texts in the place of these, all or none."""
    async with here.database.unit(who, "memories:write") as unit:
        await find(unit, "User", user_id)
        in_order("Knowledge", patch.knowledge_ids, await known(unit, user_id, patch.knowledge_ids))
        for which, text in zip(patch.knowledge_ids, patch.new_knowledge, strict=True):
            await rewrite(unit, which, text)
    return success({"knowledge_ids": [str(one) for one in patch.knowledge_ids]}, "Knowledge items updated successfully")


@router.delete("", response_model=Envelope)
async def delete_knowledge(here: Here, who: Who, user_id: UUID, which: KnowledgeIds) -> Response:
    """Put knowledge into the trash, all or none."""
    async with here.database.unit(who, "memories:write") as unit:
        await find(unit, "User", user_id)
        in_order("Knowledge", which.knowledge_ids, await known(unit, user_id, which.knowledge_ids))
        await put_away(unit, which.knowledge_ids)
    return success({"knowledge_ids": [str(one) for one in which.knowledge_ids]}, "Knowledge items deleted successfully")
