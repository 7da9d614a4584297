"""The breaker's rules, by themselves."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pg_steadytext.memory.domain.breaker import (
    Breaker,
    Outcome,
    Refused,
    Rules,
    State,
    Totals,
    admit,
    close,
    end_probe,
    hold_open,
    open_for,
    why_open,
)

NOW = datetime(2026, 1, 31, 12, tzinfo=UTC)
RULES = Rules(window_seconds=60, least_calls=10, failure_rate=0.5, slow_rate=0.8, slow_ms=1000, cost_micros=5000,
              open_seconds=30, probe_seconds=90)  # fmt: skip
LATER = NOW + timedelta(seconds=30)


@pytest.mark.parametrize(
    ("totals", "reason"),
    [
        (Totals(9, 9), None),
        (Totals(10, 4), None),
        (Totals(10, 5), "5 of 10 calls failed in 60 s"),
        (Totals(10, 0, 7), None),
        (Totals(10, 0, 8), "8 of 10 calls took 1000 ms or more in 60 s"),
        (Totals(1, 0, 0, 4999), None),
        (Totals(1, 0, 0, 5000), "5000 micros were spent in 60 s"),
        (Totals(), None),
    ],
)
def test_a_breaker_opens_on_failures_slow_calls_and_cost(totals: Totals, reason: str | None) -> None:
    assert why_open(totals, RULES) == reason


def test_an_open_breaker_refuses_until_it_is_time_and_then_lets_one_through() -> None:
    opened = open_for(Breaker(), RULES, NOW, "because")
    refused = admit(opened, RULES, NOW, uuid4())
    assert refused == Refused("breaker open: because", LATER)
    first, second = uuid4(), uuid4()
    half = admit(opened, RULES, LATER, first)
    assert isinstance(half, Breaker)
    assert (half.state, half.probe) == (State.HALF_OPEN, first)
    assert isinstance(admit(half, RULES, LATER, second), Refused)
    lost = LATER + timedelta(seconds=90)
    again = admit(half, RULES, lost, second)
    assert isinstance(again, Breaker)
    assert again.probe == second
    assert end_probe(again, RULES, lost, first, Outcome.OK, slow=False) == again, "a lost probe is not heard"


def half_open() -> tuple[Breaker, Breaker]:
    opened = open_for(Breaker(), RULES, NOW, "because")
    half = admit(opened, RULES, LATER, uuid4())
    assert isinstance(half, Breaker)
    return opened, half


@pytest.mark.parametrize(
    ("outcome", "slow", "state", "seconds"),
    [
        (Outcome.OK, False, State.CLOSED, None),
        (Outcome.OK, True, State.OPEN, 30),
        (Outcome.FAILED, False, State.OPEN, 30),
        (Outcome.CANCELLED, False, State.OPEN, 0),
    ],
)
def test_the_probe_decides(outcome: Outcome, slow: bool, state: State, seconds: int | None) -> None:
    _, half = half_open()
    assert half.probe is not None
    after = end_probe(half, RULES, LATER, half.probe, outcome, slow=slow)
    assert after.state is state
    assert after.retry_at == (None if seconds is None else LATER + timedelta(seconds=seconds))
    assert after.reason == (None if state is State.CLOSED else "because")


def test_what_is_held_open_by_hand_stays_open_until_it_is_closed_by_hand() -> None:
    held = hold_open(Breaker(), "maintenance")
    assert isinstance(admit(held, RULES, NOW + timedelta(days=365), uuid4()), Refused)
    assert close(held).state is State.CLOSED
    assert close(Breaker()) == Breaker()


@given(st.lists(st.sampled_from(["trip", "admit", "ok", "fail", "cancel", "wait", "hold", "close"]), max_size=40))
def test_however_it_goes_one_probe_at_a_time_and_each_change_is_a_revision(steps: list[str]) -> None:
    breaker, now = Breaker(), NOW
    probe_until: datetime | None = None
    for step in steps:
        before = breaker
        if step == "trip":
            breaker = open_for(breaker, RULES, now, "because")
        elif step == "admit":
            admitted = admit(breaker, RULES, now, uuid4())
            if isinstance(admitted, Breaker) and admitted.state is State.HALF_OPEN:
                assert probe_until is None or now >= probe_until or before.state is not State.HALF_OPEN
                probe_until = admitted.probe_ends
            breaker = admitted if isinstance(admitted, Breaker) else breaker
        elif step in ("ok", "fail", "cancel"):
            outcome = {"ok": Outcome.OK, "fail": Outcome.FAILED, "cancel": Outcome.CANCELLED}[step]
            breaker = end_probe(breaker, RULES, now, breaker.probe or uuid4(), outcome, slow=False)
        elif step == "wait":
            now += timedelta(seconds=31)
        else:
            breaker = hold_open(breaker, "by hand") if step == "hold" else close(breaker)
        assert breaker.revision == before.revision + (breaker != before)
        assert (breaker.probe is None) == (breaker.state is not State.HALF_OPEN)
        assert breaker == before or replace(breaker, revision=before.revision) != before
