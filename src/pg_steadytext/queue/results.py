"""Outcomes on their way to the database: written together, each once."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from itertools import groupby

import psycopg

from pg_steadytext.queue.failures import is_permanent
from pg_steadytext.queue.jobs import Answer, Failure, Job, Outcome, Postponed
from pg_steadytext.queue.ledger import Ledger
from pg_steadytext.queue.pauses import happens

PAUSE = 0.01
ENOUGH = 256
MOST = 1000
BUFFERED = 4000

Pair = tuple[Job, Outcome]

log = logging.getLogger(__name__)


class Collector:
    """Collects outcomes and writes them at most PAUSE after they came, or as soon as there are ENOUGH of them.

    The first after a quiet time is written at once. `put` waits while BUFFERED are unwritten.
    """

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._pairs: list[Pair] = []
        self._arrived = asyncio.Event()
        self._enough = asyncio.Event()
        self._written = asyncio.Condition()
        self._writing = False

    async def put(self, jobs: Sequence[Job], outcomes: Sequence[Outcome]) -> None:
        """Take the outcomes of some jobs."""
        if len(self._pairs) >= BUFFERED:
            async with self._written:
                await self._written.wait_for(lambda: len(self._pairs) < BUFFERED)
        self._pairs.extend(zip(jobs, outcomes, strict=True))
        self._arrived.set()
        if len(self._pairs) >= ENOUGH:
            self._enough.set()

    async def drain(self) -> None:
        """Wait until everything is written."""
        async with self._written:
            await self._written.wait_for(lambda: not self._pairs and not self._writing)

    async def run(self) -> None:
        """Write what comes, until cancelled."""
        clock = asyncio.get_running_loop().time
        last = clock() - PAUSE
        while True:
            await self._arrived.wait()
            wait = last + PAUSE - clock()
            if wait > 0:
                await happens(self._enough, wait)
            batch, self._pairs = self._pairs[:MOST], self._pairs[MOST:]
            self._writing = True
            if not self._pairs:
                self._arrived.clear()
            if len(self._pairs) < ENOUGH:
                self._enough.clear()
            try:
                await self._write(batch)
            except BaseException:
                self._pairs[:0] = batch
                self._arrived.set()
                raise
            finally:
                self._writing = False
            last = clock()
            async with self._written:
                self._written.notify_all()

    async def _write(self, batch: Sequence[Pair]) -> None:
        by_kind = sorted(batch, key=_kind)
        for _, pairs in groupby(by_kind, key=_kind):
            await self._write_alike(list(pairs))

    async def _write_alike(self, pairs: Sequence[Pair]) -> None:
        """Write outcomes of one kind; a result that PostgreSQL refuses must not fail the others' statement."""
        try:
            await self._send(pairs)
        except (psycopg.Error, ValueError) as error:
            if len(pairs) > 1:
                middle = len(pairs) // 2
                await self._write_alike(pairs[:middle])
                await self._write_alike(pairs[middle:])
            else:
                await self._refused(*pairs[0], error)

    async def _send(self, pairs: Sequence[Pair]) -> None:
        jobs = [job for job, _ in pairs]
        match pairs[0][1]:
            case Answer():
                await self._ledger.finish(jobs, [outcome for _, outcome in pairs if isinstance(outcome, Answer)])
            case Failure():
                await self._ledger.fail(jobs, [outcome for _, outcome in pairs if isinstance(outcome, Failure)])
            case Postponed(pause=pause):
                await self._ledger.release(jobs, pause)

    async def _refused(self, job: Job, outcome: Outcome, error: psycopg.Error | ValueError) -> None:
        code = getattr(error, "sqlstate", None) or "22000"  # Python's own refusals of a value have no code
        log.error("the outcome of request %s cannot be written: %s", job.request_id, error)
        if isinstance(outcome, Answer):
            failure = Failure(code, f"the result cannot be written: {error}", not is_permanent(code))
            await self._write_alike([(job, failure)])
        else:
            self._ledger.abandon([job])


def _kind(pair: Pair) -> tuple[int, float]:
    match pair[1]:
        case Answer():
            return 0, 0.0
        case Failure():
            return 1, 0.0
        case Postponed(pause=pause):
            return 2, pause
