"""How long to wait: growing pauses while something is missing, one common beat while nothing happens."""

from __future__ import annotations

import asyncio
import random
from dataclasses import dataclass, field

FIRST_PAUSE = 0.2
LONGEST_PAUSE = 10.0
TICK = 30.0


async def happens(event: asyncio.Event, within: float | None) -> bool:
    """Wait for an event, at most so many seconds; whether it happened."""
    if event.is_set():
        return True
    try:
        async with asyncio.timeout(within):
            await event.wait()
    except TimeoutError:
        return False
    return True


@dataclass(slots=True)
class Pauses:
    """Pauses in seconds that double up to a longest one, each a random part of its range's upper half."""

    first: float = FIRST_PAUSE
    longest: float = LONGEST_PAUSE
    dice: random.Random = field(default_factory=random.Random)
    _next: float = 0.0

    def next(self) -> float:
        """The next pause."""
        pause = self._next or self.first
        self._next = min(pause * 2, self.longest)
        return pause * self.dice.uniform(0.5, 1.0)

    def reset(self) -> None:
        """Begin anew: what was missing is there."""
        self._next = 0.0


@dataclass(frozen=True, slots=True)
class Ticks:
    """Moments that everything idle in a process waits for together, so that it wakes once and not once for each.

    `phase` differs between processes: many workers on one machine shall not wake at one moment.
    """

    phase: float = field(default_factory=lambda: random.uniform(0, TICK))  # noqa: S311
    period: float = TICK

    def until_next(self, now: float) -> float:
        """Seconds from `now`, the event loop's time, to the next tick; never less than half a period."""
        wait = self.period - (now - self.phase) % self.period
        return wait if wait >= self.period / 2 else wait + self.period
