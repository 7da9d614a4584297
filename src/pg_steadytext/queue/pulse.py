"""The worker's lease: short and often renewed while anything is held, long and seldom renewed while nothing is.

The claim that takes the first shortens the lease itself; from then on it is renewed here.
"""

from __future__ import annotations

import asyncio
import logging

from pg_steadytext.queue.ledger import Ledger
from pg_steadytext.queue.pauses import Ticks, happens

BEATS = 3
"""Renewals in the time of a lease, so that one may be late."""
IDLE_LEASE = 90.0

log = logging.getLogger(__name__)


class Pulse:
    """Renews the lease on a connection of its own, so that it never waits behind a long statement."""

    def __init__(self, ledger: Ledger, ticks: Ticks, lease: float) -> None:
        self._ledger = ledger
        self._ticks = ticks
        self._lease = lease
        self._clock = asyncio.get_running_loop().time
        ledger.first_lease = lease

    async def run(self) -> None:
        """Keep the lease, until cancelled. Raises LeaseTaken."""
        while True:
            busy = self._ledger.is_busy
            if not busy:
                self._ledger.holding.clear()
            self._ledger.first_lease = None if busy else self._lease
            await self._ledger.renew(self._lease if busy else IDLE_LEASE)
            if self._ledger.has_strays:
                await self._ledger.keep()
            if busy:
                await asyncio.sleep(self._lease / BEATS)
            else:
                await happens(self._ledger.holding, self._ticks.until_next(self._clock()))
