"""Recurrence rules as RFC 5545 (3.3.10) writes them: read strictly, and refused by the part that is wrong."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, time, tzinfo
from typing import NoReturn

from pg_steadytext.memory.domain.problems import Problem

FREQUENCIES = ("YEARLY", "MONTHLY", "WEEKLY", "DAILY", "HOURLY", "MINUTELY")
WEEKDAYS = ("MO", "TU", "WE", "TH", "FR", "SA", "SU")
MOST_COUNT = 10_000
MOST_INTERVAL = 10_000
MOST_LENGTH = 500

# What each list may hold, and whether it counts from the end too.
_RANGES: Mapping[str, tuple[int, int, bool]] = {
    "BYSECOND": (0, 59, False), "BYMINUTE": (0, 59, False), "BYHOUR": (0, 23, False), "BYMONTHDAY": (1, 31, True),
    "BYYEARDAY": (1, 366, True), "BYWEEKNO": (1, 53, True), "BYMONTH": (1, 12, False), "BYSETPOS": (1, 366, True),
}  # fmt: skip
_DAY = re.compile(r"([+-]?[1-9][0-9]?)?(MO|TU|WE|TH|FR|SA|SU)")
_UNTIL = re.compile(r"([0-9]{8})(?:T([0-9]{6})(Z?))?")
_UNTIL_SAYS = "must be a date like 20301231 or a time like 20301231T235900Z"


@dataclass(frozen=True, slots=True)
class Rule:
    """A rule's parts; lists are sorted, weekdays count from Monday as 0, `until` is on the wall clock."""

    text: str
    freq: str
    interval: int = 1
    count: int | None = None
    until: datetime | None = None
    wkst: int = 0
    byday: tuple[tuple[int, int], ...] = ()
    bysecond: tuple[int, ...] = ()
    byminute: tuple[int, ...] = ()
    byhour: tuple[int, ...] = ()
    bymonthday: tuple[int, ...] = ()
    byyearday: tuple[int, ...] = ()
    byweekno: tuple[int, ...] = ()
    bymonth: tuple[int, ...] = ()
    bysetpos: tuple[int, ...] = ()


def refuse(part: str, says: str) -> NoReturn:
    """Refuse a rule for one of its parts."""
    raise Problem(422, "bad-rule", f"rrule: {part} {says}", {"part": part})


def read(text: str, zone: tzinfo) -> Rule:
    """Read a rule for the wall clock of a zone. Raises ``Problem`` 422 naming the part that is wrong."""
    kept = text.strip().upper().removeprefix("RRULE:")
    if len(kept) > MOST_LENGTH:
        refuse("RRULE", f"is longer than {MOST_LENGTH} characters")
    parts = _parts(kept)
    freq = parts.get("FREQ", "")
    if freq == "SECONDLY":
        refuse("FREQ", "SECONDLY is too often: at most once a minute; MINUTELY is the shortest")
    if freq not in FREQUENCIES:
        refuse("FREQ", f"must be one of {', '.join(FREQUENCIES)}")
    rule = Rule(
        text=kept,
        freq=freq,
        interval=_whole(parts, "INTERVAL", MOST_INTERVAL) or 1,
        count=_whole(parts, "COUNT", MOST_COUNT),
        until=_until(parts["UNTIL"], zone) if "UNTIL" in parts else None,
        wkst=_weekday(parts.get("WKST", "MO")),
        byday=_days(parts["BYDAY"]) if "BYDAY" in parts else (),
        **{name.lower(): _numbers(name, parts[name]) for name in _RANGES if name in parts},
    )
    _check(rule)
    return rule


def _parts(text: str) -> dict[str, str]:
    found: dict[str, str] = {}
    for pair in text.split(";"):
        name, equals, value = pair.partition("=")
        if name not in _RANGES and name not in ("FREQ", "INTERVAL", "COUNT", "UNTIL", "WKST", "BYDAY"):
            refuse(name[:40] or "RRULE", "is no part of a rule; a rule reads like FREQ=WEEKLY;BYDAY=MO")
        if not equals or not value:
            refuse(name, "has no value")
        if name in found:
            refuse(name, "is there twice")
        found[name] = value
    return found


def _whole(parts: Mapping[str, str], name: str, most: int) -> int | None:
    if name not in parts:
        return None
    value = parts[name]
    if not (value.isascii() and value.isdigit() and len(value) < 9 and 1 <= int(value) <= most):
        refuse(name, f"must be a whole number from 1 to {most}")
    return int(value)


def _numbers(name: str, value: str) -> tuple[int, ...]:
    low, high, is_signed = _RANGES[name]
    found: set[int] = set()
    for word in value.split(","):
        if not re.fullmatch(r"[+-]?[0-9]{1,3}" if is_signed else r"[0-9]{1,2}", word, re.ASCII):
            refuse(name, f"must be numbers with commas between, not {word[:20]!r}")
        if not low <= abs(int(word)) <= high:
            refuse(name, f"must be from {low} to {high}{', or as much from the end' if is_signed else ''}")
        found.add(int(word))
    return tuple(sorted(found))


def _days(value: str) -> tuple[tuple[int, int], ...]:
    found: set[tuple[int, int]] = set()
    for word in value.split(","):
        match = _DAY.fullmatch(word)
        if match is None or abs(int(match[1] or 0)) > 53:
            refuse("BYDAY", f"must be days like MO or -1FR, not {word[:20]!r}")
        found.add((int(match[1] or 0), WEEKDAYS.index(match[2])))
    return tuple(sorted(found))


def _weekday(value: str) -> int:
    if value not in WEEKDAYS:
        refuse("WKST", f"must be one of {', '.join(WEEKDAYS)}")
    return WEEKDAYS.index(value)


def _until(value: str, zone: tzinfo) -> datetime:
    match = _UNTIL.fullmatch(value)
    if match is None:
        refuse("UNTIL", _UNTIL_SAYS)
    try:
        day = datetime.strptime(match[1], "%Y%m%d")  # noqa: DTZ007 (a wall clock has no zone)
        if match[2] is None:
            return datetime.combine(day, time(23, 59, 59))
        moment = datetime.strptime(match[1] + match[2], "%Y%m%d%H%M%S")  # noqa: DTZ007
        return moment.replace(tzinfo=UTC).astimezone(zone).replace(tzinfo=None) if match[3] else moment
    except (ValueError, OverflowError):
        refuse("UNTIL", _UNTIL_SAYS)


def _check(rule: Rule) -> None:
    """Refuse what RFC 5545 forbids together, and what occurs more than once a minute."""
    if rule.count and rule.until:
        refuse("UNTIL", "and COUNT exclude each other")
    if len(rule.bysecond) > 1:
        refuse("BYSECOND", "with several seconds is too often: at most once a minute")
    if rule.byweekno and rule.freq != "YEARLY":
        refuse("BYWEEKNO", "goes with FREQ=YEARLY alone")
    if rule.byyearday and rule.freq in ("DAILY", "WEEKLY", "MONTHLY"):
        refuse("BYYEARDAY", f"does not go with FREQ={rule.freq}")
    if rule.bymonthday and rule.freq == "WEEKLY":
        refuse("BYMONTHDAY", "does not go with FREQ=WEEKLY")
    if any(nth for nth, _ in rule.byday) and (rule.freq not in ("MONTHLY", "YEARLY") or rule.byweekno):
        refuse("BYDAY", "may count days, as in 2MO, with FREQ=MONTHLY or YEARLY alone, and without BYWEEKNO")
    if rule.bysetpos and not any(
        (
            rule.byday,
            rule.byminute,
            rule.byhour,
            rule.bysecond,
            rule.bymonthday,
            rule.byyearday,
            rule.byweekno,
            rule.bymonth,
        )
    ):
        refuse("BYSETPOS", "needs another part that begins with BY")
