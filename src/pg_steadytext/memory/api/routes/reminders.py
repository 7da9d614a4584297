"""Reminders: make, read, list, change, delete; snooze, done, dismiss; the inbox."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Literal
from uuid import UUID
from zoneinfo import ZoneInfo

import orjson
from fastapi import APIRouter, Header, Query, Request, Response
from psycopg.types.json import Jsonb
from pydantic import AwareDatetime

from pg_steadytext.memory.api.callers import Who
from pg_steadytext.memory.api.models_reminders import (
    Answers,
    Inbox,
    NewReminder,
    Reminder,
    ReminderPatch,
    Reminders,
    Snooze,
    Which,
)
from pg_steadytext.memory.api.once import KeyHeader, once
from pg_steadytext.memory.api.replies import OWN, WRITE, Reply, etag, page, refusals
from pg_steadytext.memory.api.routes.memories import MOST_PER_PAGE, PER_PAGE, IfMatch, dump_json
from pg_steadytext.memory.api.service import Here
from pg_steadytext.memory.domain import cursors, reminding, when
from pg_steadytext.memory.domain.conditions import known_versions, names_version
from pg_steadytext.memory.domain.problems import Problem
from pg_steadytext.memory.domain.recurrence import Series, build, check_occurs, find_zone, to_instant, to_wall
from pg_steadytext.memory.storage.database import Row, Unit

router = APIRouter(prefix="/reminders", tags=["reminders"])

SCHEDULE = frozenset(("due_at", "when", "time_zone", "rrule", "exdates"))

Cursor = Annotated[str | None, Query(max_length=500, description="`next_cursor` of the page before.")]
Limit = Annotated[int, Query(ge=1, le=MOST_PER_PAGE)]


def shown(row: Row | None, status: int = 200) -> Reply:
    """Return a version and its JSON as an answer."""
    if row is None:
        raise Problem(404, "not-found", "there is no such reminder")
    return Reply(row[1], status, etag(row[0]))


def kept(fields: dict[str, Any]) -> Jsonb:
    """Return fields for PostgreSQL."""
    return Jsonb(fields, dumps=dump_json)


async def understood(text: str, now: datetime, zone: ZoneInfo) -> datetime:
    """Read a moment in words, beside the requests that run."""
    found = await asyncio.to_thread(when.understand, text, now, zone)
    if found.year >= 2200:
        raise Problem(422, "unclear-time", f"when: {text!r} is too far away", {"understood": found.isoformat()})
    return found


async def clock(unit: Unit) -> tuple[datetime, str]:
    """Return the database's time and the user's zone."""
    row = await unit.row("clock")
    assert row is not None
    return row[0], row[1]


def series_fields(series: Series) -> dict[str, Any]:
    """Return what is kept of a series."""
    return {
        "starts_at": series.start,
        "rrule": series.rule.text if series.rule else None,
        "exdates": "{" + ",".join(wall.isoformat() for wall in sorted(series.excluded)) + "}",
    }


@router.post("", status_code=201, response_model=Reminder, responses=refusals(*WRITE, 402))
async def make(request: Request, here: Here, who: Who, new: NewReminder, key: KeyHeader = None) -> Response:
    """Make a reminder, of a memory or of its own, once or as a series."""
    async with here.database.unit(who, "memories:write") as unit:

        async def effect() -> Reply:
            now, own_zone = await clock(unit)
            name = new.time_zone or own_zone
            zone = find_zone(name)
            due = new.due_at or await understood(new.when or "", now, zone)
            series = build(to_wall(due, zone), name, new.rrule, (to_wall(one, zone) for one in new.exdates))
            check_occurs(series)
            standing = first_standing(series, due, now)
            fields = {"id": here.new_id(), "title": new.title, "note": new.note, "memory_id": new.memory_id,
                      "time_zone": name, **series_fields(series), **standing.fields()}  # fmt: skip
            row = await unit.row("add_reminder", {"reminder": kept(fields)})
            assert row is not None
            reply = shown(row, 201)
            return Reply(reply.body, 201, {**reply.headers, "Location": f"/v1/reminders/{row[2]}"})

        return await once(unit, request, key, effect)


def first_standing(series: Series, due: datetime, now: datetime) -> reminding.Standing:
    """Return where a new series stands; a single moment is kept as it was given, though clocks show it twice."""
    return reminding.begin(series, now) if series.rule else reminding.Standing(due)


@router.get("", response_model=Reminders, responses=refusals(*OWN))
async def list_all(
    here: Here, who: Who, cursor: Cursor = None, limit: Limit = PER_PAGE,
    state: Annotated[Literal["active", "done", "dismissed"] | None, Query()] = None,
    memory_id: UUID | None = None,
) -> Response:  # fmt: skip
    """List reminders, the newest first."""
    after, after_id = cursors.decode(cursor) if cursor else (None, None)
    wanted = {"after": after, "after_id": after_id, "limit": limit + 1, "state": state, "memory": memory_id}
    async with here.database.unit(who, "memories:read") as unit:
        rows = await unit.rows("list_reminders", wanted)
    more = cursors.encode(rows[limit - 1][0], rows[limit - 1][1]) if len(rows) > limit else None
    return page((text for _, _, text in rows[:limit]), next_cursor=more)


@router.get("/inbox", response_model=Inbox, responses=refusals(*OWN))
async def inbox(
    here: Here, who: Who, cursor: Cursor = None, limit: Limit = PER_PAGE,
    section: Annotated[Literal["overdue", "today", "upcoming"] | None, Query(description="One section only.")] = None,
) -> Response:  # fmt: skip
    """List what is overdue, due later today and due after today, as days go in the user's time zone."""
    after, after_id = cursors.decode(cursor) if cursor else (None, None)
    async with here.database.unit(who, "memories:read") as unit:
        now, name = await clock(unit)
        zone = find_zone(name)
        midnight = to_instant(
            datetime.combine(to_wall(now, zone).date() + timedelta(days=1), datetime.min.time()), zone
        )
        wanted = {"after": after, "after_id": after_id, "limit": limit + 1, "section": section, "midnight": midnight}
        rows = await unit.rows("list_inbox", wanted)
        counts = await unit.row("count_inbox", {"midnight": midnight})
    assert counts is not None
    more = cursors.encode(rows[limit - 1][0], rows[limit - 1][1]) if len(rows) > limit else None
    numbers = dict(zip(("overdue", "today", "upcoming"), counts, strict=True))
    texts = (text for _, _, text in rows[:limit])
    return page(texts, next_cursor=more, counts=numbers, now=now.astimezone(UTC), time_zone=name)


@router.get(
    "/{reminder_id}", response_model=Reminder,
    responses={304: {"description": "It is the version that If-None-Match names."}, **refusals(*OWN, 404)},
)  # fmt: skip
async def read(
    here: Here, who: Who, reminder_id: UUID, if_none_match: Annotated[str | None, Header(alias="If-None-Match")] = None
) -> Response:
    """Read a reminder."""
    async with here.database.unit(who, "memories:read") as unit:
        row = await unit.row("get_reminder", {"id": reminder_id})
    reply = shown(row)
    if row and names_version(if_none_match, row[0]):
        return Response(status_code=304, headers=dict(reply.headers))
    return reply.response()


class Taken:
    """A reminder behind the lock of its user's writes."""

    def __init__(self, row: Row) -> None:
        self.now, self.start, self.zone, self.rrule, self.exdates = row[:5]
        self.standing = reminding.Standing(*row[5:11])
        self.shown: Row = row[11:13]

    @property
    def series(self) -> Series:
        """Its series as it is kept."""
        return build(self.start, self.zone, self.rrule, self.exdates)


async def take(unit: Unit, reminder_id: UUID, versions: list[int] | None = None) -> Taken:
    """Lock a reminder and return it. Raises ``psycopg.Error`` for 404 and 412."""
    row = await unit.row("take_reminder", {"id": reminder_id, "versions": versions})
    assert row is not None
    return Taken(row)


@router.patch("/{reminder_id}", response_model=Reminder, responses=refusals(*WRITE, 404, 412, 428))
async def change(
    request: Request, here: Here, who: Who, reminder_id: UUID, patch: ReminderPatch, if_match: IfMatch = None,
    key: KeyHeader = None,
) -> Response:  # fmt: skip
    """Change fields of a reminder, of the version that If-Match names; an answered one opens with a new time."""
    versions = known_versions(if_match, required=True)
    async with here.database.unit(who, "memories:write") as unit:

        async def effect() -> Reply:
            taken = await take(unit, reminder_id, versions)
            fields = patch.model_dump(include=patch.model_fields_set - SCHEDULE)
            if patch.model_fields_set & SCHEDULE:
                fields |= await rescheduled(taken, patch)
            if not fields:
                return shown(taken.shown)
            return shown(
                await unit.row("put_reminder", {"id": reminder_id, "changes": kept(fields), "kind": "changed"})
            )

        return await once(unit, request, key, effect)


async def rescheduled(taken: Taken, patch: ReminderPatch) -> dict[str, Any]:
    """Return the fields of a reminder whose time, zone, rule or exceptions are others now."""
    given = patch.model_fields_set
    name = patch.time_zone if "time_zone" in given else taken.zone
    zone = find_zone(name)
    due: datetime | None = patch.due_at if "due_at" in given else None
    if "when" in given:
        due = await understood(patch.when, taken.now, zone)
    rrule = patch.rrule if "rrule" in given else taken.rrule
    excluded = [to_wall(one, zone) for one in patch.exdates] if "exdates" in given else taken.exdates
    # A series keeps its time of day in another zone, a single moment stays where it is.
    start = taken.start if taken.rrule and rrule else to_wall(taken.standing.occurrence_at, zone)
    series = build(to_wall(due, zone) if due else start, name, rrule, excluded)
    check_occurs(series)
    was = taken.standing
    if due:
        standing = first_standing(series, due, taken.now)
    elif was.state != "active":
        raise Problem(422, "answered", "the reminder was answered; say due_at or when to open it again")
    elif series.rule is None:
        standing = reminding.Standing(was.due_at) if taken.rrule else was
    else:
        standing = reminding.resume(series, was, taken.now)
    return {"time_zone": name, **series_fields(series), **standing.fields()}


@router.delete("/{reminder_id}", status_code=204, response_model=None, responses=refusals(*OWN, 404, 412))
async def delete(here: Here, who: Who, reminder_id: UUID, if_match: IfMatch = None) -> Response:
    """Delete a reminder for good, with its series."""
    params = {"id": reminder_id, "versions": known_versions(if_match, required=False)}
    async with here.database.unit(who, "memories:write") as unit:
        await unit.rows("delete_reminder", params)
    return Response(status_code=204)


def other_occurrence(taken: Taken) -> Problem:
    """Return the refusal of an occurrence that is not at hand."""
    says = "occurrence_at is not the occurrence at hand; current shows which is"
    return Problem(409, "other-occurrence", says, {"current": orjson.loads(taken.shown[1])})


async def answered(unit: Unit, reminder_id: UUID, which: Which | None, answer: str) -> Reply:
    """Answer an occurrence, once: who comes later is told how the reminder stands."""
    taken = await take(unit, reminder_id)
    wanted = which.occurrence_at if which else None
    at_hand = taken.standing.occurrence_at
    if wanted is not None and wanted != at_hand:
        row = await unit.row("has_answer", {"id": reminder_id, "occurrence": wanted})
        if row and row[0]:
            return shown(taken.shown)
        raise other_occurrence(taken)
    is_open = wanted is not None or taken.rrule is None or at_hand <= taken.now
    if taken.standing.state != "active" or not is_open:
        return shown(taken.shown)
    standing = reminding.answer(taken.series, taken.standing, answer, taken.now)
    params = {"id": reminder_id, "answer": answer, "changes": kept(standing.fields())}
    return shown(await unit.row("answer_reminder", params))


@router.post("/{reminder_id}/done", response_model=Reminder, responses=refusals(*WRITE, 404))
async def done(
    request: Request, here: Here, who: Who, reminder_id: UUID, which: Which | None = None, key: KeyHeader = None
) -> Response:
    """Say that an occurrence is done; a series goes on to its next. Repeated, it changes nothing."""
    async with here.database.unit(who, "memories:write") as unit:
        return await once(unit, request, key, lambda: answered(unit, reminder_id, which, "done"))


@router.post("/{reminder_id}/dismiss", response_model=Reminder, responses=refusals(*WRITE, 404))
async def dismiss(
    request: Request, here: Here, who: Who, reminder_id: UUID, which: Which | None = None, key: KeyHeader = None
) -> Response:
    """Let an occurrence go undone; a series goes on to its next. Repeated, it changes nothing."""
    async with here.database.unit(who, "memories:write") as unit:
        return await once(unit, request, key, lambda: answered(unit, reminder_id, which, "dismissed"))


@router.post("/{reminder_id}/snooze", response_model=Reminder, responses=refusals(*WRITE, 404))
async def snooze(
    request: Request, here: Here, who: Who, reminder_id: UUID, wish: Snooze, key: KeyHeader = None
) -> Response:
    """Let this occurrence wait; the series keeps its rhythm, and its next occurrence takes a waiting one's place."""
    async with here.database.unit(who, "memories:write") as unit:

        async def effect() -> Reply:
            taken = await take(unit, reminder_id)
            if taken.standing.state != "active":
                raise Problem(409, "answered", "the reminder was answered; there is nothing to wait for")
            if wish.occurrence_at is not None and wish.occurrence_at != taken.standing.occurrence_at:
                raise other_occurrence(taken)
            until = wish.until or taken.now + timedelta(minutes=wish.minutes or 0)
            if wish.when is not None:
                until = await understood(wish.when, taken.now, find_zone(taken.zone))
            standing = reminding.snooze(taken.standing, until, taken.now)
            changes = {"id": reminder_id, "changes": kept(standing.fields()), "kind": "snoozed"}
            return shown(await unit.row("put_reminder", changes))

        return await once(unit, request, key, effect)


@router.get("/{reminder_id}/answers", response_model=Answers, responses=refusals(*OWN, 404))
async def answers(
    here: Here, who: Who, reminder_id: UUID, before: AwareDatetime | None = None, limit: Limit = PER_PAGE
) -> Response:
    """Tell which occurrences were done or dismissed, and by whom."""
    async with here.database.unit(who, "memories:read") as unit:
        if await unit.row("get_reminder", {"id": reminder_id}) is None:
            raise Problem(404, "not-found", "there is no such reminder")
        rows = await unit.rows("list_answers", {"id": reminder_id, "before": before, "limit": limit + 1})
    more = rows[limit - 1][0].astimezone(UTC) if len(rows) > limit else None
    return page((text for _, text in rows[:limit]), next_before=more)
