"""Calendar feeds: an address with a secret token, which calendars ask for the user's reminders."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any
from uuid import UUID

import orjson
from fastapi import APIRouter, Query, Response

from pg_steadytext.memory.api.callers import Who
from pg_steadytext.memory.api.models_reminders import FeedOnce, Feeds, NewFeed
from pg_steadytext.memory.api.replies import OWN, WRITE, page, refusals
from pg_steadytext.memory.api.service import Here
from pg_steadytext.memory.domain.calendars import Entry, write
from pg_steadytext.memory.domain.problems import Problem
from pg_steadytext.memory.domain.recurrence import build
from pg_steadytext.memory.domain.tokens import token_hash
from pg_steadytext.memory.storage.database import Caller

router = APIRouter(prefix="/reminders", tags=["reminders"])

CALENDAR = "text/calendar"
TOKEN_PREFIX = "cal_"  # noqa: S105
MOST_FEEDS = 20
ANSWER: dict[int | str, dict[str, Any]] = {
    200: {"description": "iCalendar (RFC 5545).", "content": {CALENDAR: {"schema": {"type": "string"}}}}
}


@router.get("/feed.ics", response_class=Response, responses={**ANSWER, **refusals(401, 422)})
async def feed(
    here: Here,
    token: Annotated[str, Query(min_length=1, max_length=200, description="The feed's secret token.")],
    todo: Annotated[bool, Query(description="Tasks (VTODO) instead of events.")] = False,
) -> Response:
    """Give a calendar the user's open reminders; nothing but the token is asked for."""
    caller = Caller("feed", token_hash(token.encode("utf-8", "replace").decode()))
    async with here.database.unit(caller, "") as unit:
        rows = await unit.rows("feed_reminders")
    entries = [
        Entry(entry, title, note, build(start, zone, rule, excluded), occurrence, snoozed, created, updated, version)
        for entry, title, note, zone, start, rule, excluded, occurrence, snoozed, created, updated, version in rows
    ]
    # Thousands of them take seconds, which other requests need not wait for.
    calendar = await asyncio.to_thread(write, entries, todo=todo)
    headers = {"Cache-Control": "private, max-age=60", "Referrer-Policy": "no-referrer"}
    return Response(calendar, headers=headers, media_type=CALENDAR)


@router.get("/feeds", response_model=Feeds, responses=refusals(*OWN))
async def list_feeds(here: Here, who: Who) -> Response:
    """List the user's calendar feeds without their tokens, revoked ones too."""
    async with here.database.unit(who, "memories:read") as unit:
        rows = await unit.rows("list_feeds")
    return page(text for (text,) in rows)


@router.post("/feeds", status_code=201, response_model=FeedOnce, responses=refusals(*WRITE))
async def add_feed(here: Here, who: Who, new: NewFeed) -> Response:
    """Make a calendar feed; its token is in this answer and nowhere else, so the answer is not kept under a key."""
    token = here.new_token(TOKEN_PREFIX)
    params = {"id": here.new_id(), "name": new.name, "hash": token_hash(token), "most": MOST_FEEDS}
    async with here.database.unit(who, "memories:write") as unit:
        await unit.rows("lock_mine")
        row = await unit.row("add_feed", params)
    if row is None:
        raise Problem(409, "too-many-feeds", f"there are {MOST_FEEDS} feeds of yours; revoke one")
    shown = {**row[0], "path": f"/v1/reminders/feed.ics?token={token}", "token": token}
    return Response(orjson.dumps(shown), 201, media_type="application/json")


@router.delete("/feeds/{feed_id}", status_code=204, response_model=None, responses=refusals(*OWN, 404))
async def revoke_feed(here: Here, who: Who, feed_id: UUID) -> Response:
    """Revoke a calendar feed: from the next request on its token opens nothing."""
    async with here.database.unit(who, "memories:write") as unit:
        if await unit.row("revoke_feed", {"id": feed_id}) is None:
            raise Problem(404, "not-found", "there is no such feed")
    return Response(status_code=204)
