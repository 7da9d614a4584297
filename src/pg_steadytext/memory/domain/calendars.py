"""Reminders as iCalendar (RFC 5545), with the time zones that they name."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from uuid import UUID
from zoneinfo import ZoneInfo

from icalendar import Alarm, Calendar, Event, Todo, vRecur

from pg_steadytext.memory.domain.recurrence import Series, to_instant, to_wall

PRODUCT = "-//pg_steadytext//Memory Connector//EN"
LENGTH = timedelta(minutes=15)
# RFC 5545 has none of them in a text but tabs and line breaks: one would make a calendar refuse all the others.
_CONTROLS = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")


@dataclass(frozen=True, slots=True)
class Entry:
    """An open reminder."""

    id: UUID
    title: str
    note: str | None
    series: Series
    occurrence_at: datetime
    snoozed_until: datetime | None
    created_at: datetime
    updated_at: datetime
    version: int


def write(entries: Iterable[Entry], *, todo: bool) -> bytes:
    """Return a calendar of the reminders: events with an alarm, or tasks."""
    calendar = Calendar()
    calendar.add("prodid", PRODUCT)
    calendar.add("version", "2.0")
    calendar.add("method", "PUBLISH")
    calendar.add("name", "Reminders")
    calendar.add("x-wr-calname", "Reminders")
    for entry in entries:
        _add(calendar, entry, todo=todo)
    calendar.add_missing_timezones()
    return bytes(calendar.to_ical())


def _add(calendar: Calendar, entry: Entry, *, todo: bool) -> None:
    series, zone = entry.series, entry.series.zone
    if series.rule is None:
        calendar.add_component(_component(entry, to_wall(entry.snoozed_until or entry.occurrence_at, zone), todo=todo))
        return
    # The set begins where the rule first matches: RFC 5545 counts the start as an occurrence.
    first = next(series.since(to_instant(series.start, zone)), entry.occurrence_at)
    whole = _component(entry, to_wall(first, zone), todo=todo)
    whole.add("rrule", vRecur.from_ical(_rule(series)))
    if series.excluded:
        whole.add("exdate", [_in_zone(wall, zone) for wall in sorted(series.excluded)])
    calendar.add_component(whole)
    if entry.snoozed_until is not None:
        moved = _component(entry, to_wall(entry.snoozed_until, zone), todo=todo)
        moved.add("recurrence-id", _in_zone(to_wall(entry.occurrence_at, zone), zone))
        calendar.add_component(moved)


def _component(entry: Entry, start: datetime, *, todo: bool) -> Event | Todo:
    part: Event | Todo = Todo() if todo else Event()
    part.add("uid", f"{entry.id}@pg-steadytext")
    part.add("summary", _text(entry.title))
    if entry.note:
        part.add("description", _text(entry.note))
    begin = _in_zone(start, entry.series.zone)
    part.add("dtstart", begin)
    if todo:
        part.add("status", "NEEDS-ACTION")
    part.add("duration", LENGTH)
    part.add("dtstamp", entry.updated_at.astimezone(UTC))
    part.add("created", entry.created_at.astimezone(UTC))
    part.add("last-modified", entry.updated_at.astimezone(UTC))
    part.add("sequence", entry.version)
    alarm = Alarm()
    alarm.add("action", "DISPLAY")
    alarm.add("description", _text(entry.title))
    alarm.add("trigger", timedelta(0))
    part.add_component(alarm)
    return part


def _text(text: str) -> str:
    return _CONTROLS.sub(" ", text)


def _in_zone(wall: datetime, zone: ZoneInfo) -> datetime:
    return wall.replace(tzinfo=UTC) if zone.key == "UTC" else wall.replace(tzinfo=zone)


def _rule(series: Series) -> str:
    """Return the rule's text with its end in UTC, as it must be where the start names a zone."""
    assert series.rule is not None
    if series.rule.until is None:
        return series.rule.text
    end = f"{to_instant(series.rule.until, series.zone):%Y%m%dT%H%M%SZ}"
    parts = (f"UNTIL={end}" if part.startswith("UNTIL=") else part for part in series.rule.text.split(";"))
    return ";".join(parts)
