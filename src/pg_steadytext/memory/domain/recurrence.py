"""When a series occurs (RFC 5545, 3.3.10 and 3.8.5), on the wall clock of a time zone.

The search is bounded: a rule that finds no time for `STEPS` steps, or for a century, never occurs. dateutil's search
has no such bound, which lets a rule for the thirtieth of February keep it busy for minutes.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta, tzinfo
from functools import cached_property
from itertools import islice
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pg_steadytext.memory.domain.problems import Problem
from pg_steadytext.memory.domain.rules import Rule, read, refuse

STEPS = 1_500_000
CENTURY = 36_525
MOST_MISSED = 1000
DAY_MINUTES = 1440
# What lies in the database's folder beside zones: the server's own, and clocks that count leap seconds.
_NO_PLACE = re.compile(r"(?:right|posix)/|(?:localtime|posixrules|Factory)$")
_LAST = date(9998, 12, 31).toordinal()


def find_zone(name: str) -> ZoneInfo:
    """Return a zone of the IANA database. Raises ``Problem`` 422 for another name."""
    try:
        return ZoneInfo("" if not name.isascii() or _NO_PLACE.match(name) else name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise Problem(
            422, "unknown-time-zone", f"there is no time zone {name[:64]!r}; a name reads like Europe/Berlin"
        ) from None


def to_instant(wall: datetime, zone: tzinfo) -> datetime:
    """Return the moment at which a zone's clocks show a time: the first of two, and as much later as a gap is long."""
    return wall.replace(tzinfo=zone, fold=0).astimezone(UTC)


def to_wall(instant: datetime, zone: tzinfo) -> datetime:
    """Return what a zone's clocks show."""
    return instant.astimezone(zone).replace(tzinfo=None, fold=0)


@dataclass(frozen=True)
class Series:
    """The moments of a reminder: one, or those of a rule but for the excluded ones. `start` is on the wall clock."""

    start: datetime
    zone: ZoneInfo
    rule: Rule | None = None
    excluded: frozenset[datetime] = frozenset()

    def since(self, instant: datetime) -> Iterator[datetime]:
        """Yield the moments from that one on, in their order; raises ``Problem`` 422 for a rule that never occurs."""
        last: datetime | None = None
        for wall in self._walls(instant):
            if wall in self.excluded:
                continue
            moment = to_instant(wall, self.zone)
            # In the hour that a change leaves out, two times of the wall clock are one moment.
            if moment >= instant and (last is None or moment > last):
                last = moment
                yield moment

    def after(self, instant: datetime) -> datetime | None:
        """Return the first moment after that one."""
        return next((moment for moment in self.since(instant) if moment > instant), None)

    def passed(self, since: datetime, now: datetime) -> tuple[datetime | None, int, datetime | None]:
        """Return the last moment in ``(since, now]``, how many there are (at most `MOST_MISSED`), and the one after."""
        latest, number = None, 0
        for moment in islice(self.since(since), MOST_MISSED + 1):
            if moment > now:
                return latest, number, moment
            if moment > since:
                latest, number = moment, number + 1
        if number < MOST_MISSED:
            return latest, number, None
        return self._leap(latest, now)

    def _leap(self, latest: datetime | None, now: datetime) -> tuple[datetime | None, int, datetime | None]:
        # So many lie in between that some lie in the last days, or else in the last months.
        for back in (timedelta(days=1), timedelta(days=40), timedelta(days=4000)):
            for moment in self.since(now - back):
                if moment > now:
                    return latest, MOST_MISSED, moment
                latest = moment
        return latest, MOST_MISSED, None

    def _walls(self, since: datetime) -> Iterator[datetime]:
        if self.rule is None:
            yield self.start
            return
        counted = self.rule.count is not None
        # An hour's change of the clocks lies between; two days are more than any zone's offset too.
        begin = self.start.date() if counted else max(self.start, to_wall(since, self.zone) - timedelta(days=2)).date()
        for number, wall in enumerate(_Search(self.rule, self.start).walk(begin), 1):
            if self.rule.until is not None and wall > self.rule.until:
                return
            yield wall
            if number == self.rule.count:
                return


class _Search:
    """Walks a rule's periods, and takes their days and times that match."""

    def __init__(self, rule: Rule, start: datetime) -> None:
        self.rule = rule
        self.start = start
        self.monthdays = rule.bymonthday
        self.months = rule.bymonth
        self.byday = rule.byday
        # What the rule leaves open comes from where the series starts.
        if not (rule.byweekno or rule.byyearday or rule.bymonthday or rule.byday):
            if rule.freq in ("YEARLY", "MONTHLY"):
                self.monthdays = (start.day,)
                if rule.freq == "YEARLY" and not rule.bymonth:
                    self.months = (start.month,)
            elif rule.freq == "WEEKLY":
                self.byday = ((0, start.weekday()),)
        if rule.byweekno and not (rule.byyearday or rule.bymonthday or rule.byday):
            self.byday = ((0, start.weekday()),)
        self.weekdays = frozenset(day for nth, day in self.byday if not nth)
        self.nth = frozenset((nth, day) for nth, day in self.byday if nth)
        self.seconds = rule.bysecond or (start.second,)
        self.steps = 0

    def walk(self, begin: date) -> Iterator[datetime]:
        """Yield times of the wall clock from the series' start on; days before ``begin`` are passed over."""
        found_on = max(begin, self.start.date()).toordinal()
        for days in self._periods(begin):
            for wall in self._chosen(days):
                if wall >= self.start:
                    self.steps, found_on = 0, wall.toordinal()
                    yield wall
            if self.steps > STEPS or days[-1].toordinal() - found_on > CENTURY:
                # Whoever asks for the time after the last one within reach is told that there is none.
                return

    def _chosen(self, days: list[date]) -> Iterator[datetime]:
        self.steps += len(days)
        matching = [day for day in days if self._matches(day)]
        if not matching:
            return
        if self.rule.freq in ("HOURLY", "MINUTELY"):
            for day in matching:
                yield from self._times_within(day)
            return
        walls = [datetime.combine(day, at) for day in matching for at in self._times]
        yield from self._positions(walls)

    def _positions(self, walls: list[datetime]) -> list[datetime]:
        if not self.rule.bysetpos:
            return walls
        size = len(walls)
        places = {pos - 1 if pos > 0 else size + pos for pos in self.rule.bysetpos}
        return [walls[place] for place in sorted(places) if 0 <= place < size]

    @cached_property
    def _times(self) -> list[time]:
        hours, minutes = self.rule.byhour or (self.start.hour,), self.rule.byminute or (self.start.minute,)
        return [time(h, m, s) for h in hours for m in minutes for s in self.seconds]

    def _times_within(self, day: date) -> Iterator[datetime]:
        rule, start = self.rule, self.start
        midnight = datetime.combine(day, time())
        since_start = (day.toordinal() - start.toordinal()) * 24 - start.hour
        if rule.freq == "HOURLY":
            hours = range(-since_start % rule.interval, 24, rule.interval)
            self.steps += len(hours)
            for hour in hours:
                if not rule.byhour or hour in rule.byhour:
                    minutes = rule.byminute or (start.minute,)
                    walls = [midnight.replace(hour=hour, minute=m, second=s) for m in minutes for s in self.seconds]
                    yield from self._positions(walls)
            return
        offset = since_start * 60 - start.minute
        ticks = range(-offset % rule.interval, DAY_MINUTES, rule.interval)
        self.steps += len(ticks)
        for tick in ticks:
            hour, minute = divmod(tick, 60)
            if (not rule.byhour or hour in rule.byhour) and (not rule.byminute or minute in rule.byminute):
                yield from self._positions([midnight.replace(hour=hour, minute=minute, second=s) for s in self.seconds])

    def _periods(self, begin: date) -> Iterator[list[date]]:
        """Yield the days of each period, from the one that holds ``begin`` on."""
        rule, first = self.rule, self.start.date()
        if rule.freq == "YEARLY":
            skipped = max(0, begin.year - first.year) // rule.interval
            for year in range(first.year + skipped * rule.interval, 9999, rule.interval):
                yield _days(date(year, 1, 1), date(year + 1, 1, 1) if year < 9998 else date(9998, 12, 31))
        elif rule.freq == "MONTHLY":
            origin = first.year * 12 + first.month - 1
            skipped = max(0, begin.year * 12 + begin.month - 1 - origin) // rule.interval
            for month in range(origin + skipped * rule.interval, 9998 * 12, rule.interval):
                yield _days(_month(month), _month(month + 1))
        else:
            length = 7 if rule.freq == "WEEKLY" else 1
            step = length * (rule.interval if rule.freq in ("WEEKLY", "DAILY") else 1)
            origin = first.toordinal() - ((first.weekday() - rule.wkst) % 7 if length == 7 else 0)
            skipped = max(0, begin.toordinal() - origin) // step
            for day in range(origin + skipped * step, _LAST - 7, step):
                yield [date.fromordinal(day + n) for n in range(length)]

    def _matches(self, day: date) -> bool:
        if self.months and day.month not in self.months:
            return False
        if self.monthdays and not _is_in(self.monthdays, day.day, (_month_end(day) - day).days):
            return False
        if self.byday and day.weekday() not in self.weekdays and not self._is_nth(day):
            return False
        rule = self.rule
        if rule.byyearday:
            from_end = (date(day.year, 12, 31) - day).days
            if not _is_in(rule.byyearday, day.timetuple().tm_yday, from_end):
                return False
        return not rule.byweekno or self._is_in_week(day)

    def _is_nth(self, day: date) -> bool:
        if not self.nth:
            return False
        by_month = self.rule.freq == "MONTHLY" or self.months
        begin = day.replace(day=1) if by_month else date(day.year, 1, 1)
        end = _month_end(day) if by_month else date(day.year, 12, 31)
        weekday = day.weekday()
        return ((day - begin).days // 7 + 1, weekday) in self.nth or (-((end - day).days // 7) - 1, weekday) in self.nth

    def _is_in_week(self, day: date) -> bool:
        number, year = self._week(day)
        return _is_in(self.rule.byweekno, number, self._week(date(year, 12, 28))[0] - number)

    def _week(self, day: date) -> tuple[int, int]:
        # A week belongs to the year that holds its fourth day.
        middle = day - timedelta(days=(day.weekday() - self.rule.wkst) % 7 - 3)
        return (middle.timetuple().tm_yday - 1) // 7 + 1, middle.year


def _is_in(wanted: tuple[int, ...], number: int, left: int) -> bool:
    return number in wanted or -left - 1 in wanted


def _days(begin: date, end: date) -> list[date]:
    return [date.fromordinal(day) for day in range(begin.toordinal(), end.toordinal())]


def _month(number: int) -> date:
    return date(number // 12, number % 12 + 1, 1)


def _month_end(day: date) -> date:
    return (_month(day.year * 12 + day.month) if day.year < 9999 else date(9999, 12, 31)) - timedelta(days=1)


def build(start: datetime, zone: str, rule: str | None, excluded: Iterable[datetime]) -> Series:
    """Return the series of a reminder's kept fields. Raises ``Problem`` 422 for a zone or a rule that is not one."""
    place = find_zone(zone)
    return Series(start, place, read(rule, place) if rule else None, frozenset(excluded))


def check_occurs(series: Series) -> None:
    """Raise ``Problem`` 422 when a series has no moment at all."""
    if series.rule is None or next(iter(series._walls(to_instant(series.start, series.zone))), None) is not None:
        return
    if series.rule.until is not None and series.rule.until < series.start:
        refuse("UNTIL", "is before the series starts")
    narrow = [
        part for part in ("BYSETPOS", "BYWEEKNO", "BYYEARDAY", "BYMONTHDAY", "BYDAY", "BYMONTH", "BYHOUR", "BYMINUTE")
        if getattr(series.rule, part.lower())
    ]  # fmt: skip
    refuse(narrow[0] if narrow else "FREQ", "leaves no time at which it ever occurs")
