"""The circuit breaker's rules: when it opens, whom it lets through, what closes it.

Nothing here knows the time or keeps state: a breaker is a value, and each rule returns the next one. Whoever keeps it
applies a rule under a lock, so that of many callers one gets the probe.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum
from uuid import UUID


class State(StrEnum):
    """Closed lets every call through, open none, half-open one."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"


class Outcome(StrEnum):
    """How a call ended; a cancelled one says nothing about the model."""

    OK = "ok"
    FAILED = "failed"
    CANCELLED = "cancelled"


@dataclass(frozen=True, slots=True)
class Rules:
    """When a breaker opens, looking at the calls of the last `window_seconds`, and for how long.

    The rates count from `least_calls` calls on; money counts from the first. `probe_seconds` is when a probe of which
    nothing was heard counts as lost, and another caller gets one.
    """

    window_seconds: int = 60
    least_calls: int = 10
    failure_rate: float = 0.5
    slow_rate: float = 0.8
    slow_ms: int = 10_000
    cost_micros: int = 1_000_000
    open_seconds: int = 30
    probe_seconds: int = 180

    def is_slow(self, milliseconds: float) -> bool:
        """Tell whether a call took too long."""
        return milliseconds >= self.slow_ms


@dataclass(frozen=True, slots=True)
class Totals:
    """What the window holds."""

    calls: int = 0
    failures: int = 0
    slow: int = 0
    cost_micros: int = 0


@dataclass(frozen=True, slots=True)
class Breaker:
    """A breaker's state; each change of it has the next revision. Open without `retry_at` is held open by hand."""

    state: State = State.CLOSED
    reason: str | None = None
    retry_at: datetime | None = None
    probe: UUID | None = None
    probe_ends: datetime | None = None
    revision: int = 0


@dataclass(frozen=True, slots=True)
class Refused:
    """The breaker lets nobody through before `retry_at`."""

    reason: str
    retry_at: datetime


def why_open(totals: Totals, rules: Rules) -> str | None:
    """Return why a closed breaker must open, None when it need not."""
    if totals.cost_micros >= rules.cost_micros:
        return f"{totals.cost_micros} micros were spent in {rules.window_seconds} s"
    if totals.calls < rules.least_calls:
        return None
    if totals.failures >= rules.failure_rate * totals.calls:
        return f"{totals.failures} of {totals.calls} calls failed in {rules.window_seconds} s"
    if totals.slow >= rules.slow_rate * totals.calls:
        return f"{totals.slow} of {totals.calls} calls took {rules.slow_ms} ms or more in {rules.window_seconds} s"
    return None


def refuses(breaker: Breaker, rules: Rules, now: datetime) -> Refused | None:
    """Return the refusal of a breaker that lets nobody through now, None when asking for the probe is worth it."""
    if breaker.state is State.OPEN and breaker.retry_at is None:
        return Refused(f"breaker open: {breaker.reason}", now + timedelta(seconds=rules.open_seconds))
    if breaker.state is State.OPEN and breaker.retry_at is not None and now < breaker.retry_at:
        return Refused(f"breaker open: {breaker.reason}", breaker.retry_at)
    if breaker.state is State.HALF_OPEN and breaker.probe_ends is not None and now < breaker.probe_ends:
        # The probe mostly ends long before it would count as lost.
        soon = min(breaker.probe_ends, now + timedelta(seconds=rules.open_seconds))
        return Refused(f"breaker half-open: {breaker.reason}", soon)
    return None


def admit(breaker: Breaker, rules: Rules, now: datetime, call: UUID) -> Breaker | Refused:
    """Let a call through: as it is when closed, as the one probe when it is time for one, or not at all."""
    if breaker.state is State.CLOSED:
        return breaker
    ends = now + timedelta(seconds=rules.probe_seconds)
    return refuses(breaker, rules, now) or replace(
        breaker, state=State.HALF_OPEN, retry_at=None, probe=call, probe_ends=ends, revision=breaker.revision + 1
    )


def open_for(breaker: Breaker, rules: Rules, now: datetime, reason: str) -> Breaker:
    """Open a closed breaker; one that is open already stays as it is."""
    if breaker.state is not State.CLOSED:
        return breaker
    return _opened(breaker, reason, now + timedelta(seconds=rules.open_seconds))


def end_probe(breaker: Breaker, rules: Rules, now: datetime, call: UUID, outcome: Outcome, *, slow: bool) -> Breaker:
    """Close after a good probe, open again after a bad one; a probe that was given back is the next caller's.

    What a probe says that counted as lost is not heard: another has its place.
    """
    if breaker.state is not State.HALF_OPEN or breaker.probe != call:
        return breaker
    if outcome is Outcome.CANCELLED:
        return _opened(breaker, breaker.reason or "", now)
    if outcome is Outcome.OK and not slow:
        return close(breaker)
    return _opened(breaker, breaker.reason or "", now + timedelta(seconds=rules.open_seconds))


def close(breaker: Breaker) -> Breaker:
    """Close a breaker, be it by hand."""
    return breaker if breaker.state is State.CLOSED else Breaker(revision=breaker.revision + 1)


def hold_open(breaker: Breaker, reason: str) -> Breaker:
    """Open a breaker by hand, until it is closed by hand."""
    is_held = breaker.state is State.OPEN and breaker.retry_at is None and breaker.reason == reason
    return breaker if is_held else _opened(breaker, reason, None)


def _opened(breaker: Breaker, reason: str, retry_at: datetime | None) -> Breaker:
    return Breaker(State.OPEN, reason, retry_at, revision=breaker.revision + 1)
