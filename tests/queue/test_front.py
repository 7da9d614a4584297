"""Where claims begin to read, and what is reserved for those who waited too long; no database, no clock."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from pg_steadytext.queue.front import Front
from pg_steadytext.queue.jobs import Job

NOON = datetime(2030, 1, 1, 12, tzinfo=UTC)


def job(priority: int, seconds: float) -> Job:
    """A job that was due so many seconds after noon."""
    due = NOON + timedelta(seconds=seconds)
    return Job(1, "", "generate", 1, priority, due, "", None, "{}", False)


def test_floors_rise_with_what_was_claimed_and_never_fall() -> None:
    front = Front()
    assert list(front.floors) == ["-infinity"] * 10
    assert not front.is_raised
    front.advance([job(5, 2), job(5, 1), job(1, 3)])
    front.advance([job(5, 0.5)])
    assert front.floors[4] == "2030-01-01T12:00:02+00:00"
    assert front.floors[0] == "2030-01-01T12:00:03+00:00"
    assert front.floors[9] == "-infinity"


def test_reading_from_the_front_takes_a_tenth_of_the_time_at_most() -> None:
    front = Front()
    front.rewound(10.0, 10.5)
    assert front.pause_before_rewind(10.5) == 5.0
    assert front.pause_before_rewind(15.5) == 0.0


def test_under_a_flood_the_front_is_read_once_a_second() -> None:
    front = Front()
    assert not front.is_overdue(0.0)  # nothing was claimed: every claim begins at the front
    front.advance([job(5, 0)])
    assert front.is_overdue(0.0)
    front.rewound(0.0, 0.01)
    assert not front.is_overdue(0.9)
    assert front.is_overdue(1.1)


def test_a_quarter_is_reserved_for_the_overdue_over_small_claims_too() -> None:
    front = Front()
    assert [front.aged_of(1) for _ in range(8)] == [0, 0, 0, 1, 0, 0, 0, 1]
    assert front.aged_of(1000) == 250
