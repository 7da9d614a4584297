"""What administrators see and do; none of it shows a memory."""

from __future__ import annotations

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Query, Response

from pg_steadytext.memory.api.callers import Who
from pg_steadytext.memory.api.models import Plan, Users
from pg_steadytext.memory.api.replies import OWN, WRITE, page, refusals
from pg_steadytext.memory.api.service import Here
from pg_steadytext.memory.domain import cursors

router = APIRouter(prefix="/admin", tags=["administration"])


@router.get("/users", response_model=Users, responses=refusals(*OWN))
async def list_users(
    here: Here, who: Who,
    cursor: Annotated[str | None, Query(max_length=500)] = None,
    limit: Annotated[int, Query(ge=1, le=200)] = 50,
) -> Response:  # fmt: skip
    """List the users with their plans and what they use, the newest first."""
    after, after_id = cursors.decode(cursor) if cursor else (None, None)
    async with here.database.unit(who, "admin") as unit:
        rows = await unit.rows("list_users", {"after": after, "after_id": after_id, "limit": limit + 1})
    kept = rows[:limit]
    more = cursors.encode(kept[-1][0], kept[-1][1]) if len(rows) > limit else None
    return page((text for _, _, text in kept), next_cursor=more)


@router.post("/users/{user_id}/plan", status_code=204, response_model=None, responses=refusals(*WRITE, 404))
async def give_plan(here: Here, who: Who, user_id: UUID, plan: Plan) -> Response:
    """Give a user a plan."""
    async with here.database.unit(who, "admin") as unit:
        await unit.rows("give_plan", {"whose": user_id, "plan": plan.plan})
    return Response(status_code=204)
