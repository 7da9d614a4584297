"""Waking the lanes: on time for what nobody is notified of, and once in a while in case a notification was missed.

The database notifies only for lanes of which a worker has said that it waits for them. A commit under way while it says
so may have been told before that nobody waits; so a lane that has just been named looks once more at once, and again
a little later.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable, Mapping

from pg_steadytext.queue.guests import Lane
from pg_steadytext.queue.ledger import Ledger
from pg_steadytext.queue.pauses import Ticks, happens

LOOKS = (0.1, 1.0)
SHORTEST = 0.05
AWAKE_SECONDS = 0.2
"""A lane that has been at work for so long is no longer notified: it looks by itself whenever it has room."""

log = logging.getLogger(__name__)


class Sweep:
    """Tells the database which lanes sleep, and wakes them when something is due."""

    def __init__(self, lanes: Mapping[str, Lane], ledger: Ledger, ticks: Ticks, fell_asleep: asyncio.Event) -> None:
        self._lanes = lanes
        self._ledger = ledger
        self._ticks = ticks
        self._fell_asleep = fell_asleep
        self._named: frozenset[str] = frozenset()
        self._looks: list[float] = []
        self._backoff = SHORTEST
        self._clock = asyncio.get_running_loop().time

    def wake(self, lanes: Iterable[str] | None = None) -> None:
        """Have these lanes, or all, look for work."""
        for name in self._lanes if lanes is None else lanes:
            self._lanes[name].wake()

    async def run(self) -> None:
        """Wake lanes on time, until cancelled. Raises LeaseTaken."""
        while True:
            self._fell_asleep.clear()
            await self._name()
            asleep = [name for name, lane in self._lanes.items() if lane.is_asleep]
            due = await self._ledger.next_due(asleep)
            wait = self._wait(due)
            slept = self._clock()
            if await happens(self._fell_asleep, wait):
                await asyncio.sleep(max(0.0, slept + SHORTEST - self._clock()))
                continue
            if due is not None and due <= wait:
                await self._ledger.recover()
            self.wake()

    def _wait(self, due: float | None) -> float:
        """Seconds until something is to be done; what is overdue was not to be had, so the pauses for it grow."""
        now = self._clock()
        wait = self._ticks.until_next(now)
        if due is not None and due > 0:
            self._backoff = SHORTEST
            wait = min(wait, due)
        elif due is not None:
            wait = min(wait, self._backoff)
            self._backoff = min(2 * self._backoff, self._ticks.period)
        else:
            self._backoff = SHORTEST
        self._looks = [look for look in self._looks if look > now]
        return max(SHORTEST, min([wait, *(look - now for look in self._looks)]))

    async def _name(self) -> None:
        """Tell the database which lanes sleep; one that has woken is taken out when it stays awake."""
        now = self._clock()
        asleep = frozenset(name for name, lane in self._lanes.items() if lane.is_asleep)
        busy = {name for name in self._named - asleep if now - self._lanes[name].awake_since > AWAKE_SECONDS}
        named = (self._named | asleep) - busy
        if named != self._named:
            fresh = named - self._named
            await self._ledger.sleep(sorted(named))
            self._named = named
            if fresh:
                self._looks = [now + look for look in LOOKS]
                self.wake(fresh)
