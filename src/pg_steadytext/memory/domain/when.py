"""Moments as people write them: ``tomorrow at 9``, ``in 2 hours``, ``friday 17:30``; in English, by 24 hours."""

from __future__ import annotations

import re
from datetime import UTC, datetime, time, timedelta, tzinfo
from typing import NoReturn

from pg_steadytext.memory.domain.problems import Problem
from pg_steadytext.memory.domain.recurrence import to_instant, to_wall

DEFAULT_TIME = time(9)
"""A day without a time of day."""

MOST_LENGTH = 100
_TIME = r"(?P<hour>\d{1,2})(?:[:.](?P<minute>\d{2}))?\s*(?P<half>am|pm)?"
_AT = re.compile(rf"(?:(?P<day>.+?)\s+)?at\s+(?:{_TIME}|(?P<word>noon|midnight))", re.IGNORECASE)
_AT_FIRST = re.compile(rf"at\s+(?:{_TIME}|(?P<word>noon|midnight))\s+(?P<day>.+)", re.IGNORECASE)
_LATER = re.compile(r"in\s.*\b(?:hour|minute|min|second|sec)s?\b.*", re.IGNORECASE)
_NUMBER = re.compile(r"\d*")
_WORDS = ["one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve", "thirteen"]
_COUNT = re.compile(rf"\d+|\b(?:{'|'.join(_WORDS)})\b", re.IGNORECASE)
_YEAR_FIRST = re.compile(r"\d{4}-")


def understand(text: str, now: datetime, zone: tzinfo) -> datetime:
    """Return the moment that a text means to somebody in the zone, now.

    Raises ``Problem`` 422 when it is not understood, has two meanings, or is past; ``understood`` says as what.
    """
    said = " ".join(text.split())
    if len(said) > MOST_LENGTH or not said:
        _refuse(text, f"must be 1 to {MOST_LENGTH} characters", None)
    wall = to_wall(now, zone).replace(microsecond=0)
    match = _AT.fullmatch(said) or _AT_FIRST.fullmatch(said)
    if match:
        found = _at(said, match, wall, zone)
    elif _LATER.fullmatch(said):
        # So many hours pass, whatever the clocks do in the meantime.
        found = _read(said, to_wall(now, UTC).replace(microsecond=0), UTC)
    else:
        found = _read(said, wall, zone)
    if found <= now:
        _refuse(said, "is in the past", found)
    return found.astimezone(UTC)


def _refuse(text: str, says: str, understood: datetime | str | None) -> NoReturn:
    shown = understood.isoformat() if isinstance(understood, datetime) else understood
    what = f"; understood: {shown}" if shown else ""
    raise Problem(422, "unclear-time", f"when: {text[:MOST_LENGTH]!r} {says}{what}", {"understood": shown})


def _at(said: str, match: re.Match[str], wall: datetime, zone: tzinfo) -> datetime:
    at = _time_of_day(said, match)
    if match["day"] is None:
        today = datetime.combine(wall, at)
        return to_instant(today if today > wall else today + timedelta(days=1), zone)
    return to_instant(datetime.combine(_day(said, match["day"], wall), at), zone)


def _time_of_day(said: str, match: re.Match[str]) -> time:
    if match["word"]:
        return time(12) if match["word"].lower() == "noon" else time(0)
    hour, minute, half = int(match["hour"]), int(match["minute"] or 0), (match["half"] or "").lower()
    if hour > (12 if half else 23) or minute > 59 or (half and hour == 0):
        _refuse(said, "names no time of day", f"the day {match['day']!r}")
    return time(hour % 12 + (12 if half == "pm" else 0) if half else hour, minute)


def _day(said: str, text: str, wall: datetime) -> datetime:
    day, period = _parse(said, text, wall)
    if period == "time":
        _refuse(said, "names two times of day", day)
    return day


def _read(said: str, wall: datetime, zone: tzinfo) -> datetime:
    found, period = _parse(said, said, wall)
    if found.tzinfo is not None:
        if period != "time":
            _refuse(said, "names a time zone and no time of day, such as 9:00", found)
        return found
    if period in ("day", "week"):
        found = datetime.combine(found, DEFAULT_TIME)
    return to_instant(found, zone)


def _parse(said: str, text: str, wall: datetime) -> tuple[datetime, str]:
    """Return what dateparser reads in the text, and how exactly that is meant."""
    orders = ("YMD",) if _YEAR_FIRST.match(text) else ("DMY", "MDY")
    readings = [] if _NUMBER.fullmatch(text) else [_data(text, wall, order) for order in orders]
    found, period = readings[0] if readings else (None, "")
    if found is None:
        _refuse(said, "is not understood", _part(text, wall))
    if any(reading != readings[0] for reading in readings):
        both = " or ".join(str(reading[0].date()) for reading in readings if reading[0])
        _refuse(said, "has two meanings; write the year first", both)
    if ignored := _ignored(text, wall, orders[0], readings[0]):
        _refuse(said, f"says {ignored}, which means nothing beside the rest", found)
    if period in ("month", "year"):
        _refuse(said, f"names no day, only a {period}", f"{found:%Y-%m}" if period == "month" else f"{found:%Y}")
    return found, period


def _ignored(text: str, wall: datetime, order: str, reading: tuple[datetime | None, str]) -> str | None:
    """Return a number that another one in its place would not make another moment: dateparser passed over it."""
    for match in _COUNT.finditer(text):
        found = match[0]
        if found.isdecimal():
            other = f"{int(found) + 1:0{len(found)}}"
        else:
            other = _WORDS[(_WORDS.index(found.lower()) + 1) % len(_WORDS)]
        if _data(text[: match.start()] + other + text[match.end() :], wall, order) == reading:
            return found
    return None


def _data(text: str, wall: datetime, order: str) -> tuple[datetime | None, str]:
    # It reads the forms of every language when it is imported: half a second that other requests need not wait for.
    from dateparser.date import DateDataParser

    parser = DateDataParser(languages=["en"], settings={**_settings(wall), "DATE_ORDER": order})
    data = parser.get_date_data(text)
    return data.date_obj, data.period or ""


def _part(text: str, wall: datetime) -> str | None:
    from dateparser.search import search_dates

    found = search_dates(text, languages=["en"], settings=_settings(wall)) or []
    return "; ".join(f"{part!r}: {moment:%Y-%m-%d %H:%M}" for part, moment, *_ in found) or None


def _settings(wall: datetime) -> dict[str, object]:
    return {"RELATIVE_BASE": wall, "PREFER_DATES_FROM": "future", "RETURN_TIME_AS_PERIOD": True}
