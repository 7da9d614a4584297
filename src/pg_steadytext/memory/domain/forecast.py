"""What a month will have cost at its end."""

from __future__ import annotations

from datetime import datetime, timedelta

DAY = timedelta(days=1)
WEEK = timedelta(days=7)


def month_end(month_micros: int, week_micros: int, first_at: datetime | None, at: datetime, ends_at: datetime) -> int:
    """Return what is spent plus what the rest costs if it goes on as in the last seven days.

    ``first_at`` is the first call of those days: an installation that is younger is measured by its own age, but by a
    day at least, so that the first call of all forecasts no fortune.
    """
    if first_at is None:
        return month_micros
    measured = min(WEEK, max(DAY, at - first_at))
    return month_micros + round(week_micros * ((ends_at - at) / measured))
