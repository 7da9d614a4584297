"""What happens to a reminder: it becomes due, is snoozed, answered, or overtaken by its next occurrence."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from pg_steadytext.memory.domain.problems import Problem
from pg_steadytext.memory.domain.recurrence import Series


@dataclass(frozen=True, slots=True)
class Standing:
    """Where a reminder stands in its series.

    `occurrence_at` is the moment that is open or comes next, `missed` how many before it passed without an answer,
    `next_at` the moment after it. Snoozing moves when the occurrence is due, and never the series.
    """

    occurrence_at: datetime
    next_at: datetime | None = None
    missed: int = 0
    snoozed_until: datetime | None = None
    announced: bool = False
    state: str = "active"

    @property
    def due_at(self) -> datetime:
        """When it is due."""
        return self.snoozed_until or self.occurrence_at

    @property
    def fire_at(self) -> datetime | None:
        """When the scheduler has something to do with it."""
        if self.state != "active":
            return None
        moments = [*([] if self.announced else [self.due_at]), *([self.next_at] if self.next_at else [])]
        return min(moments, default=None)

    def fields(self) -> dict[str, Any]:
        """Return what is kept of it, for JSON."""
        return {
            "occurrence_at": self.occurrence_at,
            "next_at": self.next_at,
            "missed": self.missed,
            "snoozed_until": self.snoozed_until,
            "announced": self.announced,
            "state": self.state,
            "fire_at": self.fire_at,
        }


def begin(series: Series, now: datetime) -> Standing:
    """Return where a new series stands: at its first moment from now on. A single moment may have passed.

    Raises ``Problem`` 422 when a series has ended.
    """
    first = next(series.since(now), None)
    if first is None and series.rule is None:
        first = next(series.since(datetime.min.replace(tzinfo=now.tzinfo)))
    if first is None:
        raise Problem(422, "series-ended", "rrule: the series has no occurrence from now on", {"part": "UNTIL"})
    return Standing(first, series.after(first))


def resume(series: Series, former: Standing, now: datetime) -> Standing:
    """Return where a changed series stands: an open occurrence stays open if it is still one."""
    first = next(series.since(min(former.occurrence_at, now)), None)
    if first is None or (first < now and first != former.occurrence_at):
        return begin(series, now)
    if first != former.occurrence_at:
        return Standing(first, series.after(first))
    return replace(former, next_at=series.after(first))


def fire(series: Series, standing: Standing, now: datetime) -> Standing | None:
    """Return where the reminder stands once its passing moments are told of, None when there is nothing to tell.

    Moments that passed while nobody looked collapse into the last of them, and are counted.
    """
    if standing.next_at is not None and standing.next_at <= now:
        latest, number, following = series.passed(standing.occurrence_at, now)
        if latest is not None:
            return Standing(latest, following, standing.missed + number, announced=True)
    if not standing.announced and standing.due_at <= now:
        return replace(standing, announced=True)
    return None


def answer(series: Series, standing: Standing, answered: str, now: datetime) -> Standing:
    """Return where the reminder stands after its occurrence was answered (``done`` or ``dismissed``)."""
    if series.rule is None:
        return replace(standing, state=answered, next_at=None, snoozed_until=None)
    latest, number, following = series.passed(standing.occurrence_at, max(now, standing.occurrence_at))
    if latest is not None:
        return Standing(latest, following, number - 1)
    if following is None:
        return replace(standing, state=answered, next_at=None, snoozed_until=None)
    return Standing(following, series.after(following))


def snooze(standing: Standing, until: datetime, now: datetime) -> Standing:
    """Return where the reminder stands when its occurrence waits. Raises ``Problem`` 422 for a past moment."""
    if until <= now:
        raise Problem(422, "not-in-future", f"until must be after now; {until.isoformat()} has passed")
    return replace(standing, snoozed_until=until, announced=False)
