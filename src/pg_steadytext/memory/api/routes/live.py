"""Live updates: what happens to a user's reminders, as server-sent events."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Annotated, Any

import orjson
import psycopg
from fastapi import APIRouter, Header, Response
from fastapi.responses import StreamingResponse
from psycopg_pool import PoolTimeout
from starlette.types import Receive, Scope, Send

from pg_steadytext.memory.api.callers import Who
from pg_steadytext.memory.api.failures import from_database
from pg_steadytext.memory.api.replies import OWN, refusals
from pg_steadytext.memory.api.service import Here, Service
from pg_steadytext.memory.domain.problems import Problem
from pg_steadytext.memory.storage.database import Caller, Row

router = APIRouter(prefix="/reminders", tags=["reminders"])

EVENT_STREAM = "text/event-stream"
PER_READ = 100
EVENTS: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "Events `due`, `created`, `changed`, `snoozed`, `done`, `dismissed` and `deleted`, each with "
        "the reminder as it is then; `reset` when events since Last-Event-ID are no longer kept; `end` when the "
        "credentials ended.",
        "content": {EVENT_STREAM: {"schema": {"type": "string"}}},
    }
}


class Stream(StreamingResponse):
    """A stream that gives its place back, however it ends."""

    media_type = EVENT_STREAM

    def __init__(self, content: AsyncIterator[str], leave: Callable[[], None]) -> None:
        super().__init__(content, headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"})
        self.leave = leave

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send it."""
        try:
            await super().__call__(scope, receive, send)
        finally:
            self.leave()


@router.get("/events", response_class=Response, responses={**EVENTS, **refusals(*OWN, 429)})
async def events(
    here: Here, who: Who,
    last_event_id: Annotated[
        str | None, Header(alias="Last-Event-ID", pattern=r"^[0-9]{1,18}$", description="Where a former stream ended.")
    ] = None,
) -> Response:  # fmt: skip
    """Stream what happens to the user's reminders, from now on or since a former stream ended."""
    if here.notices.stopped:
        raise Problem(503, "stopping", "the service is stopping")
    async with here.database.unit(who, "memories:read") as unit:
        bounds = await unit.row("events_bounds")
        assert bounds is not None
        woken, leave = here.notices.join(unit.user_id)
    cleared, end = bounds
    start = end if last_event_id is None else min(int(last_event_id), end)
    is_reset = last_event_id is not None and start < cleared
    return Stream(stream(here, who, woken, end if is_reset else start, is_reset=is_reset), leave)


async def stream(
    here: Service, who: Caller, woken: asyncio.Event, position: int, *, is_reset: bool
) -> AsyncIterator[str]:
    """Yield events as they are written, and signs of life."""
    yield f"retry: 2000\nid: {position}\n" + ("event: reset\ndata: {}\n\n" if is_reset else "\n")
    while not here.notices.stopped:
        woken.clear()
        try:
            rows = await read(here, who, position)
        except psycopg.Error as error:
            problem = from_database(error)
            if problem and problem.status in (401, 403):
                yield f"event: end\ndata: {orjson.dumps(problem.document()).decode()}\n\n"
            return
        except PoolTimeout:
            return
        for seq, kind, text in rows:
            position = seq
            yield f"id: {seq}\nevent: {kind}\ndata: {text}\n\n"
        if len(rows) < PER_READ:
            try:
                await asyncio.wait_for(woken.wait(), here.settings.heartbeat_seconds)
            except TimeoutError:
                yield ": still here\n\n"


async def read(here: Service, who: Caller, position: int) -> list[Row]:
    """Return what comes after a position, as long as the credentials last."""
    async with here.database.unit(who, "memories:read") as unit:
        return await unit.rows("list_events", {"after": position, "limit": PER_READ})
