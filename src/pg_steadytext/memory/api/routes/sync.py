"""Offline clients: what has changed since they last asked, and what they did in the meantime."""

from __future__ import annotations

import asyncio
from typing import Annotated

import orjson
from fastapi import APIRouter, Query, Response

from pg_steadytext.memory.api.callers import Who
from pg_steadytext.memory.api.models_sync import Changes, Push, Results
from pg_steadytext.memory.api.operations import carry_out
from pg_steadytext.memory.api.replies import OWN, WRITE, page, refusals
from pg_steadytext.memory.api.service import Here
from pg_steadytext.memory.domain import feed

router = APIRouter(prefix="/sync", tags=["sync"])

PER_PAGE = 100
MOST_PER_PAGE = 500
MOST_BYTES = 4_000_000
MOST_SECONDS = 30
LOOK_EVERY = 0.5


@router.get("", response_model=Changes, responses=refusals(*OWN, 410))
async def pull(
    here: Here, who: Who,
    since: Annotated[str | None, Query(max_length=100, description="`cursor` of the answer before.")] = None,
    limit: Annotated[int, Query(ge=1, le=MOST_PER_PAGE)] = PER_PAGE,
    wait: Annotated[
        int, Query(ge=0, le=MOST_SECONDS, description="Seconds to wait for a change when there is none.")
    ] = 0,
) -> Response:  # fmt: skip
    """Read the changes since a cursor in their order, or without one everything that is there.

    Each memory comes once, as it is now; one that was deleted for good comes as its tombstone.
    """
    known = feed.decode(since) if since else None
    params = {
        "epoch": known.epoch if known else None, "after": known.after if known else 0,
        "base": known.base if known else None, "limit": limit, "bytes": MOST_BYTES,
    }  # fmt: skip
    until = asyncio.get_running_loop().time() + wait
    while True:
        async with here.database.unit(who, "memories:read") as unit:
            row = await unit.row("feed", params)
        assert row is not None
        epoch, reached, base, has_more, items = row
        # The server waits for answers before it stops.
        if items != "[]" or here.notices.stopped or asyncio.get_running_loop().time() >= until:
            break
        # A NOTIFY in every write would have all users' writes queue for its one lock; a look costs an index probe.
        await asyncio.sleep(LOOK_EVERY)
    cursor = feed.encode(feed.Position(epoch, reached, base))
    return page([items[1:-1]] if items != "[]" else [], cursor=cursor, has_more=has_more)


@router.post("", response_model=Results, responses=refusals(*WRITE))
async def push(here: Here, who: Who, batch: Push) -> Response:
    """Carry out what a client did while it was away, in its order.

    Each operation takes effect once, under its own id, and alone: one that is refused takes none with it, but later
    ones about the same memory wait (424). A batch that was not answered may simply be sent again.
    """
    results = await carry_out(here.database, who, batch.operations)
    return Response(orjson.dumps({"results": results}), media_type="application/json")
