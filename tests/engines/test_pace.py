"""The choice between all threads and few."""

from __future__ import annotations

import pytest

from pg_steadytext.engines.pace import Pace


class Clock:
    """A clock that a test sets."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def pace(clock: Clock) -> Pace:
    return Pace(clock)


def record(pace: Pace, rate: float, *, wide: bool, tokens: int = 100) -> None:
    pace.record(wide=wide, tokens=tokens, tokens_per_second=rate)


def test_all_threads_are_used_while_they_are_as_fast_as_ever(pace: Pace) -> None:
    assert pace.wide_pays()
    record(pace, 100, wide=True)
    record(pace, 90, wide=True)
    assert pace.wide_pays()


def test_few_threads_are_tried_when_all_have_become_slow(pace: Pace) -> None:
    record(pace, 100, wide=True)
    record(pace, 10, wide=True)
    assert not pace.wide_pays()
    record(pace, 40, wide=False)
    assert not pace.wide_pays()


def test_all_threads_stay_when_few_are_slower_still(pace: Pace) -> None:
    record(pace, 100, wide=True)
    record(pace, 60, wide=True)
    record(pace, 30, wide=False)
    assert pace.wide_pays()


def test_all_threads_are_tried_again_after_a_while_and_later_each_time(pace: Pace, clock: Clock) -> None:
    record(pace, 100, wide=True)
    record(pace, 10, wide=True)
    record(pace, 40, wide=False)
    clock.now = 6
    assert pace.wide_pays()
    record(pace, 10, wide=True)
    record(pace, 40, wide=False)
    clock.now = 12
    assert not pace.wide_pays()
    clock.now = 17
    assert pace.wide_pays()
    record(pace, 95, wide=True)
    assert pace.wide_pays()


def test_a_very_short_text_tells_nothing(pace: Pace) -> None:
    record(pace, 100, wide=True)
    record(pace, 1, wide=True, tokens=2)
    assert pace.wide_pays()
