"""The worker's lane that queues what is pending in the memory service's schema, where there is one."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable

import psycopg

from pg_steadytext.memory.jobs import embedding, enrichment
from pg_steadytext.queue.guests import Surroundings
from pg_steadytext.queue.pauses import TICK, happens
from pg_steadytext.queue.sessions import Session

LANE = "memory"
KINDS = (("is_there", "queue"), ("is_enrichment_there", "queue_enrichments"))
LOOKS = (0.1, 1.0)
"""Seconds after falling asleep at which it looks once more: a save under way may have been told that it is awake."""

log = logging.getLogger(__name__)


class PendingLane:
    """Queues pending memories whenever it is woken, and every half a minute. See ``queue.guests.Lane``."""

    def __init__(self, around: Surroundings, *, enriches: bool = True) -> None:
        self.is_asleep = False
        self._around = around
        self._session = Session(around.connect, "pending memories", sql={**embedding.SQL, **enrichment.SQL})
        self._kinds = KINDS if enriches else KINDS[:1]
        self._wake = asyncio.Event()
        self._open = asyncio.Event()
        self._open.set()
        self._clock = asyncio.get_running_loop().time
        self.awake_since = self._clock()

    def wake(self) -> None:
        """There may be something to queue."""
        self._wake.set()

    def daemon_came(self) -> None:
        """Queueing needs no daemon."""

    async def run(self) -> None:
        """Queue what is pending, until cancelled."""
        looks: list[float] = []
        while await self._open.wait():
            self._wake.clear()
            queued, pause = await self._look()
            if queued:
                self._is_awake()
                looks = [self._clock() + look for look in LOOKS]
            self._fall_asleep()
            looks = [look for look in looks if look > self._clock()]
            until = min([TICK, *([pause] if pause is not None else []), *(look - self._clock() for look in looks)])
            await happens(self._wake, max(0.0, until))

    async def _look(self) -> tuple[int, float | None]:
        total, pauses = 0, list[float]()
        try:
            for is_there, queue in self._kinds:
                if not (await self._session.run(is_there))[0][0]:
                    continue
                ((queued, pause),) = await self._session.run(queue, {"sleeps": True})
                total += int(queued)
                if pause is not None:
                    pauses.append(float(pause))
        except psycopg.Error as error:
            log.warning("pending memories are not queued: %s", error)
            return 0, None
        return total, min(pauses, default=None)

    def _fall_asleep(self) -> None:
        if not self.is_asleep:
            self.is_asleep = True
            self._around.fell_asleep.set()

    def _is_awake(self) -> None:
        if self.is_asleep:
            self.is_asleep = False
            self.awake_since = self._clock()

    def close(self) -> None:
        """Queue nothing more."""
        self._open.clear()

    def drop(self, gone: Iterable[int]) -> None:
        """Requests of the queue are none of this lane's business."""

    def stop(self) -> None:
        """Nothing runs for longer than a statement."""

    async def finished(self) -> None:
        """Nothing runs for longer than a statement."""
