"""When the client asks: at once, rarely while much happens, and never for nothing."""

from __future__ import annotations

from math import inf

from pg_steadytext.client._pace import REST, SWEEP_SECONDS, Pace


def test_nothing_is_due_before_somebody_waits() -> None:
    assert Pace().due == inf


def test_a_hint_after_quiet_is_due_at_once() -> None:
    pace = Pace()
    pace.hint(10.0)
    assert pace.due == 10.0


def test_without_hints_the_sweep_is_next() -> None:
    pace = Pace()
    pace.asking(10.0)
    pace.asked(10.0, 10.001)
    assert pace.due == 10.0 + SWEEP_SECONDS


def test_hints_during_a_question_ask_one_more_after_a_rest() -> None:
    pace = Pace()
    pace.asking(10.0)
    pace.hint(10.05)
    pace.hint(10.06)
    pace.asked(10.0, 10.1)
    assert pace.due == 10.1 + REST * (10.1 - 10.0)
    pace.hint(10.15)
    assert pace.due == 10.1 + REST * (10.1 - 10.0)
