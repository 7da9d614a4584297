"""When a series occurs (RFC 5545, 3.3.10 and 3.8.5), on the wall clock of a time zone.

The search is bounded: a rule that finds no time for `STEPS` steps, or for a century, never occurs. A step is a day or a
time of day that is looked at; of a set that BYSETPOS chooses from only the chosen are made, however many there are.
dateutil's search has no such bound, which lets a rule for the thirtieth of February keep it busy for minutes.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta, tzinfo
from functools import cached_property
from itertools import islice
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pg_steadytext.memory.domain.problems import Problem
from pg_steadytext.memory.domain.rules import Rule, read, refuse

STEPS = 400_000
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
        # So many lie in between that some lie in the last days, or else in the last months or years.
        following: datetime | None = None
        for days in (1, 40, 400, 4000):
            last, following = None, None
            for moment in self.since(now - timedelta(days=days)):
                if moment > now:
                    following = moment
                    break
                last = moment
            if last is not None:
                return last, MOST_MISSED, following
        return latest, MOST_MISSED, following

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
        (self.second,) = rule.bysecond or (start.second,)
        self.steps = 0

    def walk(self, begin: date) -> Iterator[datetime]:
        """Yield times of the wall clock from the series' start on; days before ``begin`` are passed over."""
        if not self._has_places():
            return
        found_on = max(begin, self.start.date()).toordinal()
        for days in self._periods(begin):
            for wall in self._chosen(days, begin):
                if wall >= self.start:
                    self.steps, found_on = 0, wall.toordinal()
                    yield wall
            if self.steps > STEPS or days[-1].toordinal() - found_on > CENTURY:
                # Whoever asks for the time after the last one within reach is told that there is none.
                return

    def _chosen(self, days: list[date], begin: date) -> Iterator[datetime]:
        self.steps += len(days)
        if not self.rule.bysetpos:
            days = [day for day in days if day >= begin]
        matching = [day for day in days if self._matches(day)]
        if self.rule.freq in ("HOURLY", "MINUTELY"):
            for day in matching:
                yield from (datetime.combine(day, at) for at in self._times_within(day))
            return
        number = len(self._times)
        for place in self._places(len(matching) * number):
            yield datetime.combine(matching[place // number], self._times[place % number])

    def _places(self, size: int) -> Sequence[int]:
        """Return which of a set's times occur, without making the others."""
        if not self.rule.bysetpos:
            return range(size)
        places = {pos - 1 if pos > 0 else size + pos for pos in self.rule.bysetpos}
        return sorted(place for place in places if 0 <= place < size)

    def _has_places(self) -> bool:
        """Tell whether BYSETPOS finds anything in sets that all are of one size."""
        sizes = {"MINUTELY": 1, "HOURLY": len(self._minutes), "DAILY": len(self._times)}
        return self.rule.freq not in sizes or len(self._places(sizes[self.rule.freq])) > 0

    @cached_property
    def _hours(self) -> Sequence[int]:
        return self.rule.byhour or (range(24) if self.rule.freq in ("HOURLY", "MINUTELY") else (self.start.hour,))

    @cached_property
    def _minutes(self) -> Sequence[int]:
        return self.rule.byminute or (range(60) if self.rule.freq == "MINUTELY" else (self.start.minute,))

    @cached_property
    def _times(self) -> list[time]:
        return [time(hour, minute, self.second) for hour in self._hours for minute in self._minutes]

    @cached_property
    def _by_minute(self) -> dict[int, time]:
        return {at.hour * 60 + at.minute: at for at in self._times}

    def _times_within(self, day: date) -> Iterator[time]:
        since_start = (day.toordinal() - self.start.toordinal()) * 24 - self.start.hour
        interval = self.rule.interval
        if self.rule.freq == "HOURLY":
            per_hour = len(self._minutes)
            places = self._places(per_hour)
            self.steps += len(self._hours)
            for number, hour in enumerate(self._hours):
                if (since_start + hour) % interval == 0:
                    yield from (self._times[number * per_hour + place] for place in places)
            return
        # Whichever are fewer: the minutes that the interval leaves, or those that the rule names.
        begin, wanted = (since_start * 60 - self.start.minute) % interval, self._by_minute
        ticks = range(-begin % interval, DAY_MINUTES, interval)
        if len(ticks) > len(wanted):
            self.steps += len(wanted)
            yield from (at for minute, at in wanted.items() if (begin + minute) % interval == 0)
        else:
            self.steps += len(ticks)
            yield from (wanted[tick] for tick in ticks if tick in wanted)

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
