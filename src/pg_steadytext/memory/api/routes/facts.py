"""What models make of memories: facts, and asking for it again."""

from __future__ import annotations

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Depends, Query, Request, Response
from pydantic import AwareDatetime

from pg_steadytext.memory.api.callers import Who
from pg_steadytext.memory.api.models import Memory, Word
from pg_steadytext.memory.api.models_facts import Facts, MemoryFacts
from pg_steadytext.memory.api.once import KeyHeader, once, received
from pg_steadytext.memory.api.replies import OWN, Reply, page, refusals
from pg_steadytext.memory.api.routes.memories import MOST_PER_PAGE, PER_PAGE, shown
from pg_steadytext.memory.api.service import Here
from pg_steadytext.memory.domain import cursors
from pg_steadytext.memory.domain.problems import Problem

router = APIRouter(tags=["facts"])


@router.get("/memories/{memory_id}/facts", response_model=MemoryFacts, responses=refusals(*OWN, 404))
async def list_of_memory(here: Here, who: Who, memory_id: UUID) -> Response:
    """List what a memory states, as a model read it."""
    async with here.database.unit(who, "memories:read") as unit:
        if await unit.row("get_memory", {"id": memory_id, "trash": False}) is None:
            raise Problem(404, "not-found", "there is no such memory")
        rows = await unit.rows("list_memory_facts", {"id": memory_id})
    return page(text for (text,) in rows)


@router.get("/facts", response_model=Facts, responses=refusals(*OWN))
async def list_all(
    here: Here, who: Who,
    cursor: Annotated[str | None, Query(max_length=500, description="`next_cursor` of the page before.")] = None,
    limit: Annotated[int, Query(ge=1, le=MOST_PER_PAGE)] = PER_PAGE,
    category: Word | None = None,
    min_confidence: Annotated[float | None, Query(ge=0, le=1)] = None,
    since: Annotated[AwareDatetime | None, Query(alias="from", description="Found at or after this moment.")] = None,
    until: Annotated[AwareDatetime | None, Query(alias="to", description="Found before this moment.")] = None,
) -> Response:  # fmt: skip
    """List the facts of all memories that are not in the trash, the newest first."""
    after, after_id = cursors.decode(cursor) if cursor else (None, None)
    async with here.database.unit(who, "memories:read") as unit:
        rows = await unit.rows("list_facts", {
            "after": after, "after_id": after_id, "limit": limit + 1, "category": category, "least": min_confidence,
            "from": since, "to": until,
        })  # fmt: skip
    kept = rows[:limit]
    more = cursors.encode(kept[-1][0], kept[-1][1]) if len(rows) > limit else None
    return page((text for _, _, text in kept), next_cursor=more)


@router.post(
    "/memories/{memory_id}/enrich", status_code=202, response_model=Memory, dependencies=[Depends(received)],
    responses=refusals(*OWN, 404, 409),
)  # fmt: skip
async def enrich(request: Request, here: Here, who: Who, memory_id: UUID, key: KeyHeader = None) -> Response:
    """Have a model describe the memory again; one that waits for it already goes on waiting."""
    async with here.database.unit(who, "memories:write") as unit:

        async def effect() -> Reply:
            return shown(await unit.row("ask_enrichment", {"id": memory_id}), 202)

        return await once(unit, request, key, effect)
