"""Rules, clocks and words: pure, with every moment given."""

from __future__ import annotations

from contextlib import suppress
from datetime import UTC, datetime, timedelta
from itertools import islice
from time import process_time
from zoneinfo import ZoneInfo

import pytest
from dateutil.rrule import rrulestr
from hypothesis import given, settings
from hypothesis import strategies as st

from pg_steadytext.memory.domain import reminding, when
from pg_steadytext.memory.domain.problems import Problem
from pg_steadytext.memory.domain.recurrence import Series, build, check_occurs, find_zone, to_wall
from pg_steadytext.memory.domain.rules import WEEKDAYS, read

BERLIN = ZoneInfo("Europe/Berlin")


def series(rule: str | None, start: str, *excluded: str, zone: str = "Europe/Berlin") -> Series:
    """A series that starts on the clocks of a zone."""
    return build(datetime.fromisoformat(start), zone, rule, (datetime.fromisoformat(one) for one in excluded))


def utc(text: str) -> datetime:
    """A moment."""
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def shown(found: Series, number: int, since: str = "2000-01-01") -> list[str]:
    """The first moments of a series, in UTC."""
    return [f"{moment:%m-%d %H:%M}" for moment in islice(found.since(utc(since)), number)]


def test_nine_stays_nine_when_the_clocks_change() -> None:
    spring = series("FREQ=DAILY", "2026-03-28T09:00")
    assert shown(spring, 3) == ["03-28 08:00", "03-29 07:00", "03-30 07:00"]
    autumn = series("FREQ=WEEKLY;BYDAY=SA,SU,MO", "2026-10-24T09:00")
    assert shown(autumn, 3) == ["10-24 07:00", "10-25 08:00", "10-26 08:00"]


def test_a_time_in_the_gap_moves_forward_and_the_next_day_is_right_again() -> None:
    assert shown(series("FREQ=DAILY", "2026-03-28T02:30"), 3) == ["03-28 01:30", "03-29 01:30", "03-30 00:30"]
    half_hours = series("FREQ=MINUTELY;INTERVAL=30", "2026-03-29T01:30")
    assert shown(half_hours, 5) == ["03-29 00:30", "03-29 01:00", "03-29 01:30", "03-29 02:00", "03-29 02:30"]


def test_a_time_in_the_fold_happens_once() -> None:
    assert shown(series("FREQ=DAILY", "2026-10-24T02:30"), 3) == ["10-24 00:30", "10-25 00:30", "10-26 01:30"]


@pytest.mark.parametrize(
    ("rule", "start", "days"),
    [
        ("FREQ=MONTHLY;BYMONTHDAY=-1", "2027-01-31T08:00", ["01-31", "02-28", "03-31"]),
        ("FREQ=MONTHLY", "2027-01-31T08:00", ["01-31", "03-31", "05-31"]),
        ("FREQ=MONTHLY;BYDAY=2TU", "2027-01-01T08:00", ["01-12", "02-09", "03-09"]),
        ("FREQ=MONTHLY;BYDAY=MO,TU,WE,TH,FR;BYSETPOS=-1", "2027-01-01T08:00", ["01-29", "02-26", "03-31"]),
        ("FREQ=YEARLY;BYMONTH=11;BYDAY=4TH", "2027-01-01T08:00", ["11-25", "11-23", "11-22"]),
        ("FREQ=YEARLY;BYWEEKNO=1;BYDAY=MO", "2027-01-01T08:00", ["01-04", "01-03", "01-01"]),
        ("FREQ=WEEKLY;INTERVAL=2;WKST=SU;BYDAY=TU,SU", "1997-08-05T08:00", ["08-05", "08-17", "08-19"]),
        ("RRULE:freq=daily;count=2", "2027-01-01T08:00", ["01-01", "01-02"]),
        ("FREQ=DAILY;UNTIL=20270103T070000Z", "2027-01-01T08:00", ["01-01", "01-02", "01-03"]),
        ("FREQ=DAILY;UNTIL=20270102", "2027-01-01T08:00", ["01-01", "01-02"]),
    ],
)
def test_rules_occur_as_rfc_5545_says(rule: str, start: str, days: list[str]) -> None:
    found = series(rule, start)
    moments = islice(found.since(utc("1990-01-01")), 3)
    assert [f"{to_wall(moment, BERLIN):%m-%d}" for moment in moments] == days


def test_exceptions_are_left_out_and_still_counted() -> None:
    found = series("FREQ=DAILY;COUNT=3", "2027-01-01T08:00", "2027-01-02T08:00")
    assert shown(found, 9) == ["01-01 07:00", "01-03 07:00"]


def numbers(low: int, high: int) -> st.SearchStrategy[str]:
    """A list of a few numbers, as a rule writes it."""
    return st.lists(st.integers(low, high).filter(bool), min_size=1, max_size=3).map(lambda n: ",".join(map(str, n)))


DAYS = st.lists(st.sampled_from(WEEKDAYS), min_size=1, max_size=4, unique=True).map(",".join)
NTH = st.tuples(st.sampled_from([1, 2, 4, -1]), st.sampled_from(WEEKDAYS)).map(lambda pair: f"{pair[0]}{pair[1]}")
RULES = st.one_of(
    st.fixed_dictionaries(
        {"FREQ": st.just("YEARLY"), "INTERVAL": st.integers(1, 4)},
        optional={
            "BYMONTH": numbers(1, 12),
            "BYMONTHDAY": numbers(-31, 31),
            "BYDAY": NTH | DAYS,
            "BYHOUR": numbers(1, 23),
        },
    ),
    st.fixed_dictionaries(
        {"FREQ": st.just("MONTHLY"), "INTERVAL": st.integers(1, 14)},
        optional={"BYMONTHDAY": numbers(-31, 31), "BYDAY": NTH | DAYS, "BYMONTH": numbers(1, 12)},
    ),
    st.fixed_dictionaries(
        {"FREQ": st.just("MONTHLY"), "BYDAY": DAYS, "BYSETPOS": numbers(-3, 3), "BYHOUR": numbers(1, 23)}
    ),
    st.fixed_dictionaries(
        {"FREQ": st.just("WEEKLY"), "INTERVAL": st.integers(1, 5), "WKST": st.sampled_from(WEEKDAYS)},
        optional={"BYDAY": DAYS, "BYMONTH": numbers(1, 12), "BYMINUTE": numbers(1, 59)},
    ),
    st.fixed_dictionaries(
        {"FREQ": st.just("DAILY"), "INTERVAL": st.integers(1, 40)},
        optional={"BYDAY": DAYS, "BYMONTH": numbers(1, 12), "BYMONTHDAY": numbers(-28, 28), "BYHOUR": numbers(1, 23)},
    ),
    st.fixed_dictionaries(
        {"FREQ": st.sampled_from(["HOURLY", "MINUTELY"]), "INTERVAL": st.integers(1, 100)},
        optional={"BYDAY": DAYS, "BYMONTHDAY": numbers(-28, 28)},
    ),
)


STARTS = st.datetimes(datetime.fromisoformat("2020-01-01"), datetime.fromisoformat("2030-01-01"))


@settings(max_examples=300, deadline=None, derandomize=True, database=None)
@given(parts=RULES, start=STARTS, skip=st.integers(0, 900))
def test_rules_occur_as_dateutil_says_from_wherever_one_looks(
    parts: dict[str, object], start: datetime, skip: int
) -> None:
    start = start.replace(microsecond=0)
    text = ";".join(f"{name}={value}" for name, value in parts.items())
    found = Series(start, ZoneInfo("UTC"), read(text, UTC))
    since = start + timedelta(days=skip)
    until = min(since + timedelta(days=3000), datetime.fromisoformat("2036-01-01"))
    expected = list(islice(rrulestr(text + f";UNTIL={until:%Y%m%dT%H%M%S}", dtstart=start).xafter(since, inc=True), 40))
    mine = [moment.replace(tzinfo=None) for moment in islice(found.since(since.replace(tzinfo=UTC)), 40)]
    assert [wall for wall in mine if wall <= until] == expected


@pytest.mark.parametrize(
    ("rule", "part"),
    [
        ("FREQ=SECONDLY", "FREQ"), ("FREQ=SOMETIMES", "FREQ"), ("BYDAY=MO", "FREQ"), ("FREQ=DAILY;FREQ=DAILY", "FREQ"),
        ("FREQ=DAILY;BYSECOND=0,30", "BYSECOND"), ("FREQ=DAILY;INTERVAL=0", "INTERVAL"),
        ("FREQ=DAILY;COUNT=-1", "COUNT"),
        ("FREQ=DAILY;COUNT=2;UNTIL=20300101", "UNTIL"), ("FREQ=DAILY;UNTIL=20301332", "UNTIL"), ("FREQ=DAILY;X=1", "X"),
        ("FREQ=WEEKLY;BYDAY=1MO", "BYDAY"), ("FREQ=WEEKLY;BYDAY=MONDAY", "BYDAY"),
        ("FREQ=WEEKLY;BYMONTHDAY=1", "BYMONTHDAY"),
        ("FREQ=DAILY;BYWEEKNO=1", "BYWEEKNO"), ("FREQ=MONTHLY;BYYEARDAY=1", "BYYEARDAY"),
        ("FREQ=DAILY;BYHOUR=24", "BYHOUR"),
        ("FREQ=DAILY;BYSETPOS=1", "BYSETPOS"), ("FREQ=DAILY;BYMONTH=", "BYMONTH"), ("FREQ=DAILY;WKST=XX", "WKST"),
        ("", "RRULE"), ("FREQ=DAILY;BYMONTHDAY=0", "BYMONTHDAY"),
    ],
)  # fmt: skip
def test_a_wrong_rule_is_refused_by_its_part(rule: str, part: str) -> None:
    with pytest.raises(Problem) as refused:
        read(rule, BERLIN)
    assert (refused.value.status, refused.value.members["part"]) == (422, part)


@pytest.mark.parametrize(
    ("rule", "part"),
    [
        ("FREQ=YEARLY;BYMONTH=2;BYMONTHDAY=30", "BYMONTHDAY"),
        ("FREQ=MINUTELY;BYHOUR=9;BYMONTH=2;BYMONTHDAY=30", "BYMONTHDAY"),
        ("FREQ=MINUTELY;INTERVAL=2;BYMINUTE=1", "BYMINUTE"), ("FREQ=HOURLY;INTERVAL=2;BYHOUR=1", "BYHOUR"),
        ("FREQ=DAILY;INTERVAL=7;BYDAY=TU", "BYDAY"), ("FREQ=MONTHLY;BYDAY=MO;BYSETPOS=9", "BYSETPOS"),
        ("FREQ=DAILY;UNTIL=20200101", "UNTIL"),
    ],
)  # fmt: skip
def test_a_rule_that_never_occurs_is_refused_soon(rule: str, part: str) -> None:
    with pytest.raises(Problem) as refused:
        check_occurs(series(rule, "2026-11-22T08:00"))
    assert refused.value.members["part"] == part


MINUTES = ",".join(map(str, range(60)))
HOURS = ",".join(map(str, range(24)))
EACH_DAY = "BYDAY=MO,TU,WE,TH,FR,SA,SU"


@pytest.mark.parametrize(
    "rule",
    [
        f"FREQ=HOURLY;BYMINUTE={MINUTES};BYSETPOS=61", f"FREQ=HOURLY;BYMINUTE={MINUTES};BYSETPOS=-1",
        f"FREQ=MINUTELY;BYHOUR={HOURS};BYMINUTE={MINUTES};BYSETPOS=2", "FREQ=MINUTELY;BYSECOND=5;BYSETPOS=2",
        f"FREQ=DAILY;BYHOUR={HOURS};BYMINUTE=1,2,3,4,5,6,7,8,9,10,11,12,13,14,15;BYSETPOS=361",
        f"FREQ=YEARLY;BYHOUR={HOURS};BYMINUTE={MINUTES};{EACH_DAY}",
        f"FREQ=YEARLY;BYHOUR={HOURS};BYMINUTE={MINUTES};{EACH_DAY};BYSETPOS=-366",
        f"FREQ=MINUTELY;INTERVAL=9997;BYHOUR={HOURS};BYMINUTE={MINUTES};COUNT=10000",
        "FREQ=MINUTELY;BYHOUR=0;BYMINUTE=0;COUNT=10000", "FREQ=HOURLY;INTERVAL=9999;BYHOUR=5",
        "FREQ=MONTHLY;BYDAY=53MO", "FREQ=YEARLY;BYYEARDAY=366;INTERVAL=9999", "FREQ=MINUTELY;BYYEARDAY=366",
    ],
)  # fmt: skip
@pytest.mark.parametrize("start", ["1971-01-01T00:00", "2026-12-31T23:59", "2199-12-31T23:59"])
def test_a_rule_that_is_made_to_be_hard_is_settled_soon(rule: str, start: str) -> None:
    found = series(rule, start)
    for ask in (
        lambda: check_occurs(found),
        lambda: found.after(utc("2026-12-01")),
        lambda: found.passed(utc("1971-01-02"), utc("2026-12-01")),
    ):
        begun = process_time()
        with suppress(Problem):
            ask()
        assert process_time() - begun < 0.75


@pytest.mark.parametrize(
    ("rule", "moments"),
    [
        ("FREQ=HOURLY;BYMINUTE=0,20,40;BYSETPOS=-1,1", ["01-01 08:00", "01-01 08:40", "01-01 09:00"]),
        ("FREQ=MINUTELY;BYMINUTE=10,11;BYSETPOS=1", ["01-01 08:10", "01-01 08:11", "01-01 09:10"]),
        ("FREQ=DAILY;BYHOUR=9,11;BYMINUTE=0,30;BYSETPOS=2,-1", ["01-01 08:30", "01-01 10:30", "01-02 08:30"]),
        ("FREQ=WEEKLY;BYDAY=MO,WE;BYHOUR=9,11;BYSETPOS=2,3", ["01-04 10:00", "01-06 08:00", "01-11 10:00"]),
    ],
)
def test_a_place_in_a_set_is_one_of_all_its_times(rule: str, moments: list[str]) -> None:
    assert shown(series(rule, "2027-01-01T09:00"), 3) == moments


def test_what_passed_in_one_month_of_the_year_collapses_into_its_last() -> None:
    january = series("FREQ=MINUTELY;BYMONTH=1", "2020-01-01T00:00", zone="UTC")
    assert january.passed(utc("2020-01-01"), utc("2026-11-22")) == (
        utc("2026-01-31T23:59"), 1000, utc("2027-01-01T00:00"),
    )  # fmt: skip


def test_what_passed_collapses_into_the_last_with_a_count() -> None:
    daily = series("FREQ=DAILY", "2026-01-01T09:00")
    standing = reminding.begin(daily, utc("2026-01-01"))
    now = utc("2026-01-05T12:00")
    due = reminding.fire(daily, standing, now)
    assert due is not None
    assert (due.occurrence_at, due.missed, due.next_at) == (utc("2026-01-05T08:00"), 4, utc("2026-01-06T08:00"))
    assert reminding.fire(daily, due, now) is None
    done = reminding.answer(daily, due, "done", now)
    assert (done.occurrence_at, done.missed, done.fire_at) == (utc("2026-01-06T08:00"), 0, utc("2026-01-06T08:00"))


def test_years_of_minutes_collapse_without_counting_them_all() -> None:
    minutely = series("FREQ=MINUTELY", "2020-01-01T00:00")
    now = utc("2026-01-05T12:00:30")
    latest, number, following = minutely.passed(utc("2020-01-01"), now)
    assert (latest, number, following) == (utc("2026-01-05T12:00"), 1000, utc("2026-01-05T12:01"))
    ended = series("FREQ=MINUTELY;COUNT=5000", "2020-01-01T00:00")
    assert ended.passed(utc("2020-01-01"), now) == (utc("2020-01-04T10:19"), 1000, None)


def test_a_snoozed_occurrence_is_overtaken_by_the_next() -> None:
    daily = series("FREQ=DAILY", "2026-01-01T09:00")
    standing = reminding.begin(daily, utc("2026-01-01"))
    waiting = reminding.snooze(standing, utc("2026-01-01T20:00"), utc("2026-01-01T08:30"))
    assert reminding.fire(daily, waiting, utc("2026-01-01T19:59")) is None
    rings = reminding.fire(daily, waiting, utc("2026-01-01T20:00"))
    assert rings is not None
    assert rings.occurrence_at == standing.occurrence_at
    longer = reminding.snooze(rings, utc("2026-01-03T20:00"), utc("2026-01-01T20:01"))
    overtaken = reminding.fire(daily, longer, utc("2026-01-02T08:00"))
    assert overtaken is not None
    assert (overtaken.occurrence_at, overtaken.missed) == (utc("2026-01-02T08:00"), 1)
    assert overtaken.snoozed_until is None


@pytest.mark.parametrize(
    ("text", "wall"),
    [
        ("tomorrow at 9", "11-23 09:00"), ("tomorrow", "11-23 09:00"), ("in 2 hours", "11-22 16:30"),
        ("friday at 5pm", "11-27 17:00"), ("next friday at 10:15", "11-27 10:15"), ("at 9", "11-23 09:00"),
        ("today at 22", "11-22 22:00"), ("tomorrow at noon", "11-23 12:00"), ("25 december", "12-25 09:00"),
        ("december 25 at 8am", "12-25 08:00"), ("2026-12-03 10:00", "12-03 10:00"), ("13/12/2026", "12-13 09:00"),
        ("in 3 days", "11-25 09:00"), ("2026-12-03T10:00:00Z", "12-03 11:00"), ("8:30", "11-23 08:30"),
        ("at 10 tomorrow", "11-23 10:00"), ("tomorrow 9:00 EST", "11-23 15:00"), ("in one week", "11-29 09:00"),
    ],
)  # fmt: skip
def test_words_are_understood_from_now_on_the_clocks_of_the_zone(text: str, wall: str) -> None:
    found = when.understand(text, utc("2026-11-22T13:30"), BERLIN)
    assert f"{to_wall(found, BERLIN):%m-%d %H:%M}" == wall


def test_hours_pass_though_the_clocks_change() -> None:
    assert when.understand("in 3 hours", utc("2026-10-24T23:30"), BERLIN) == utc("2026-10-25T02:30")
    assert when.understand("tomorrow at 02:30", utc("2026-03-28T12:00"), BERLIN) == utc("2026-03-29T01:30")


@pytest.mark.parametrize(
    ("text", "understood"),
    [
        ("03/04/2027", "2027-04-03 or 2027-03-04"), ("buy milk tomorrow", "'tomorrow': 2026-11-23 14:30"), ("9", None),
        ("yesterday", "2026-11-21T08:00:00+00:00"), ("december", "2026-12"),
        ("every monday", "'monday': 2026-11-23 00:00"),
        ("tomorrow at 25", "the day 'tomorrow'"), ("gibberish", None), ("\x00", None), ("a" * 101, None), ("  ", None),
        # What would be left out: the time of day is another than the one that was said.
        ("tomorrow 10", "2026-11-23T14:30:00"), ("tomorrow at ten", "2026-11-23T14:30:00"),
        ("tomorrow at 9 EST", "2026-11-23T14:30:00-05:00"), ("tomorrow EST", "2026-11-23T14:30:00-05:00"),
        ("tomorrow 25:00", "2026-11-23T14:30:00"),
    ],
)  # fmt: skip
def test_what_is_not_understood_says_what_was(text: str, understood: str | None) -> None:
    with pytest.raises(Problem) as refused:
        when.understand(text, utc("2026-11-22T13:30"), BERLIN)
    assert (refused.value.status, refused.value.members["understood"]) == (422, understood)


@pytest.mark.parametrize(
    "name",
    [
        "Europe/Atlantis",
        "",
        "../passwd",
        "/etc/localtime",
        "Evrópa/Berlin",
        "Europe",
        "localtime",
        "right/UTC",
        "Factory",
    ],
)
def test_an_unknown_zone_is_refused(name: str) -> None:
    with pytest.raises(Problem, match="there is no time zone"):
        find_zone(name)
