"""The requests that somebody waits for, and the one task that asks about all of them.

It asks when a notification says that something has ended, and every few seconds in case one was lost, or several times
a second where a pooler lets none through; it is there only
while somebody waits. A lost session is opened anew and asked again, so that a wait outlives a restart of PostgreSQL.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from uuid import UUID

from pg_steadytext.client._errors import ServerUnavailable
from pg_steadytext.client._link import Link, Session
from pg_steadytext.client._outcome import Outcome
from pg_steadytext.client._pace import Pace
from pg_steadytext.errors import SteadyTextError

DONE = "steadytext_done"
"""The channel that tells that something has ended, and not what."""

FIRST_PAUSE = 0.1
LONGEST_PAUSE = 5.0

log = logging.getLogger("pg_steadytext.client")


@dataclass(slots=True)
class Awaited:
    """A request's future outcome, and by how many it is waited for."""

    outcome: asyncio.Future[Outcome]
    waiters: int = 0


class Waiting:
    """Brings outcomes to those who wait; ``channels()`` are further ones to listen on."""

    def __init__(
        self, link: Link, channels: Callable[[], set[str]], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._link = link
        self._channels = channels
        self._clock = clock
        self._pace = Pace()
        self._hinted = asyncio.Event()
        self._awaited: dict[UUID, Awaited] = {}
        self._task: asyncio.Task[None] | None = None

    @contextmanager
    def awaiting(self, request_ids: Collection[UUID]) -> Iterator[dict[UUID, asyncio.Future[Outcome]]]:
        """Ask about these requests until the block ends; each future gets its request's outcome."""
        mine = {request_id: self._join(request_id) for request_id in request_ids}
        self.hint()
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._ask_while_awaited())
            self._task.add_done_callback(self._fail_with)
        try:
            yield {request_id: awaited.outcome for request_id, awaited in mine.items()}
        finally:
            for request_id, awaited in mine.items():
                self._leave(request_id, awaited)

    def hint(self) -> None:
        """Note that something may have ended."""
        self._pace.hint(self._clock())
        self._hinted.set()

    def fail(self, error: BaseException) -> None:
        """End every wait with an error."""
        for awaited in self._awaited.values():
            if not awaited.outcome.done():
                awaited.outcome.set_exception(error)
                awaited.outcome.exception()  # whoever waits gets it; nobody need

    async def close(self, error: SteadyTextError) -> None:
        """End every wait, and the task."""
        self.fail(error)
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])

    def _fail_with(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            self.fail(error)

    def _join(self, request_id: UUID) -> Awaited:
        awaited = self._awaited.get(request_id)
        if awaited is None or awaited.outcome.done():
            awaited = self._awaited[request_id] = Awaited(asyncio.get_running_loop().create_future())
        awaited.waiters += 1
        return awaited

    def _leave(self, request_id: UUID, awaited: Awaited) -> None:
        awaited.waiters -= 1
        if not awaited.waiters and self._awaited.get(request_id) is awaited:
            del self._awaited[request_id]
            self._hinted.set()

    async def _ask_while_awaited(self) -> None:
        pause = FIRST_PAUSE
        while self._open():
            rest = self._pace.due - self._clock()
            if rest > 0:
                await self._sleep(rest)
                continue
            began = self._clock()
            self._pace.asking(began)
            try:
                outcomes = await self._link.run(self._ask)
            except ServerUnavailable as error:
                if not self._link.opened:
                    self.fail(error)
                    return
                log.warning("no connection to PostgreSQL, trying again in %.1f s: %s", pause, error.message)
                await asyncio.sleep(pause)
                pause = min(2 * pause, LONGEST_PAUSE)
                self.hint()
                continue
            except SteadyTextError as error:
                self.fail(error)
                return
            self._pace.asked(began, self._clock())
            pause = FIRST_PAUSE
            self._deliver(outcomes)

    def _open(self) -> list[UUID]:
        return [request_id for request_id, awaited in self._awaited.items() if not awaited.outcome.done()]

    async def _sleep(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._hinted.wait()
        except TimeoutError:
            pass
        self._hinted.clear()

    async def _ask(self, session: Session) -> list[Outcome]:
        self._pace.is_deaf = session.is_pooled
        await session.tune({DONE} | self._channels())
        rows = await session.rows("ended", {"ids": self._open()})
        return [Outcome(*row) for row in rows]

    def _deliver(self, outcomes: list[Outcome]) -> None:
        for outcome in outcomes:
            awaited = self._awaited.get(outcome.request_id)
            if awaited is not None and not awaited.outcome.done():
                awaited.outcome.set_result(outcome)
