"""When to ask the database which of the awaited requests have ended."""

from __future__ import annotations

from dataclasses import dataclass
from math import inf

SWEEP_SECONDS = 5.0
"""Longest time between two questions: what a lost notification can cost."""

DEAF_SECONDS = 0.25
"""The same where nobody is notified."""

REST = 2.0
"""A question that took t is followed by a rest of at least this many t, so that many notifications cost little."""


@dataclass(slots=True)
class Pace:
    """Moments, in seconds of one clock; nothing is due until ``hint`` or ``asked`` was called."""

    due: float = inf
    is_deaf: bool = False
    _rested: float = -inf

    def hint(self, now: float) -> None:
        """Note that something may have ended: ask now, or as soon as the last question is rested from."""
        self.due = min(self.due, max(now, self._rested))

    def asking(self, now: float) -> None:
        """Note that the question is being asked: hints from now on ask for another one."""
        self.due = now + SWEEP_SECONDS

    def asked(self, began: float, now: float) -> None:
        """Note that a question begun at ``began`` is answered."""
        self._rested = now + REST * (now - began)
        if self.is_deaf:
            self.due = min(self.due, now + DEAF_SECONDS)
        self.due = max(self.due, self._rested)
