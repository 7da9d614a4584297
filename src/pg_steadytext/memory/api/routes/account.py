"""The user's own account: what it is, what it uses, everything in it, and its end."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response

from pg_steadytext.memory.api.callers import Who
from pg_steadytext.memory.api.exports import NDJSON, exported
from pg_steadytext.memory.api.models import Me, MePatch, Plan, Usage
from pg_steadytext.memory.api.once import KeyHeader, once
from pg_steadytext.memory.api.replies import OWN, WRITE, Reply, refusals
from pg_steadytext.memory.api.service import Here
from pg_steadytext.memory.domain.problems import Problem
from pg_steadytext.memory.domain.recurrence import find_zone

router = APIRouter(tags=["account"])

NDJSON_ANSWER: dict[int | str, dict[str, Any]] = {
    200: {"description": "JSON Lines.", "content": {NDJSON: {"schema": {"type": "string"}}}}
}


@router.get("/me", response_model=Me, responses=refusals(*OWN))
async def me(here: Here, who: Who) -> Response:
    """Tell who the caller is."""
    async with here.database.unit(who, "memories:read") as unit:
        row = await unit.row("get_me")
    assert row is not None
    return Reply(row[0]).response()


@router.patch("/me", response_model=Me, responses=refusals(*WRITE))
async def change_me(request: Request, here: Here, who: Who, patch: MePatch, key: KeyHeader = None) -> Response:
    """Change the user's name or time zone; reminders keep the zone that they were made in."""
    if patch.time_zone is not None:
        find_zone(patch.time_zone)
    async with here.database.unit(who, "memories:write") as unit:

        async def effect() -> Reply:
            await unit.rows("change_me", {"name": patch.name, "time_zone": patch.time_zone})
            row = await unit.row("get_me")
            assert row is not None
            return Reply(row[0])

        return await once(unit, request, key, effect)


@router.get("/me/export", response_class=Response, responses={**NDJSON_ANSWER, **refusals(*OWN)})
async def export_all(here: Here, who: Who) -> Response:
    """Export everything there is of the user, as JSON Lines of ``{"kind": …, "content": …}``; secrets stay out."""
    return await exported(here, who, "export_account", NDJSON)


@router.delete("/me", status_code=204, response_model=None, responses=refusals(*OWN))
async def erase(
    here: Here, who: Who, confirm: Annotated[str, Query(max_length=254, description="The account's e-mail address.")]
) -> Response:
    """Erase the user with everything, at once and for good."""
    async with here.database.unit(who, "memories:write") as unit:
        # First what every write of the user's waits for: the other way round, the two would wait for each other.
        await unit.rows("lock_mine")
        row = await unit.row("get_me")
        if row is None or row[1] != confirm.lower():
            raise Problem(422, "not-confirmed", "confirm must be the account's e-mail address")
        await unit.rows("erase")
    return Response(status_code=204)


@router.get("/usage", response_model=Usage, responses=refusals(*OWN))
async def usage(here: Here, who: Who) -> Response:
    """Tell what the plan allows and what of it is used."""
    async with here.database.unit(who, "memories:read") as unit:
        row = await unit.row("usage")
    assert row is not None
    return Reply(row[0]).response()


@router.post("/plan", response_model=Usage, responses=refusals(*WRITE))
async def choose_plan(request: Request, here: Here, who: Who, plan: Plan, key: KeyHeader = None) -> Response:
    """Move to another plan that users may choose themselves.

    What is there stays when the new plan holds less; it only takes no more.
    """
    async with here.database.unit(who, "memories:write") as unit:

        async def effect() -> Reply:
            await unit.rows("choose_plan", {"plan": plan.plan})
            row = await unit.row("usage")
            assert row is not None
            return Reply(row[0])

        return await once(unit, request, key, effect)
