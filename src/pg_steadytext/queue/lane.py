"""One lane's runner: claims as capacity frees, works, hands the outcomes on, sleeps when there is nothing."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable, Sequence

from pg_steadytext.errors import SteadyTextError
from pg_steadytext.queue.failures import judged
from pg_steadytext.queue.front import FROM_THE_FRONT, Front
from pg_steadytext.queue.jobs import Answer, Context, Handler, Job, Outcome, Postponed
from pg_steadytext.queue.ledger import Ledger
from pg_steadytext.queue.pauses import Pauses, happens
from pg_steadytext.queue.quarantine import Quarantine
from pg_steadytext.queue.results import Collector

MOST = 1000
"""Rows of one claim."""

log = logging.getLogger(__name__)


class LaneRunner:
    """Runs one handler. It is asleep while it waits to be woken because there was nothing more to claim.

    `fell_asleep` is set whenever that begins; `awake_since` is the moment at which it last ended.
    """

    def __init__(
        self,
        handler: Handler,
        ledger: Ledger,
        collector: Collector,
        context: Context,
        quarantine: Quarantine,
        fell_asleep: asyncio.Event,
    ) -> None:
        self.lane = handler.lane
        self.is_asleep = False
        self._fell_asleep = fell_asleep
        self._handler = handler
        self._ledger = ledger
        self._collector = collector
        self._context = context
        self._quarantine = quarantine
        self._front = Front()
        self._runs: dict[asyncio.Task[None], Sequence[Job]] = {}
        self._freed = asyncio.Event()
        self._wake = asyncio.Event()
        self._daemon_pauses = Pauses()
        self._needs_daemon = False
        self._rewinds = False
        self._daemon_came = asyncio.Event()
        self._open = asyncio.Event()
        self._open.set()
        self._clock = asyncio.get_running_loop().time
        self.awake_since = self._clock()

    def wake(self) -> None:
        """There may be something to claim."""
        self._wake.set()

    def daemon_came(self) -> None:
        """A connection to the daemon has been made: a lane that waits for it asks at once."""
        self._daemon_came.set()

    async def run(self) -> None:
        """Claim and start work, until cancelled; what was started goes on. Raises LeaseTaken."""
        while await self._open.wait():
            if self._needs_daemon:
                await self._until_the_daemon_answers()
            wanted = min((self._handler.concurrency - len(self._runs)) * self._handler.batch, MOST)
            if wanted <= 0:
                self._freed.clear()
                await self._freed.wait()
                continue
            self._wake.clear()
            jobs, patience = await self._take(wanted)
            await self._start(jobs)
            if patience > 0 and not self._needs_daemon:
                await self._sleep(patience)

    async def _take(self, wanted: int) -> tuple[list[Job], float]:
        """Claim up to `wanted`; also the seconds after which to look again, infinity where there is nothing more.

        A claim from the floors that comes back short is followed by one from the front; its jobs do not wait for that.
        """
        front, began = self._front, self._clock()
        from_front = self._rewinds or not front.is_raised or front.is_overdue(began)
        floors = FROM_THE_FRONT if from_front else front.floors
        jobs = await self._ledger.claim(self.lane, wanted, front.aged_of(wanted), floors)
        ended = self._clock()
        front.advance(jobs)
        if from_front:
            front.rewound(began, ended)
        is_short = len(jobs) < wanted
        patience = front.pause_before_rewind(ended)
        self._rewinds = is_short and not from_front and not patience
        if not is_short or self._rewinds:
            return jobs, 0.0
        return jobs, (float("inf") if from_front else patience)

    async def _sleep(self, patience: float) -> None:
        self.is_asleep = patience == float("inf")
        if self.is_asleep:
            self._fell_asleep.set()
        await happens(self._wake, None if self.is_asleep else patience)
        self.is_asleep = False
        self.awake_since = self._clock()

    # work

    async def _start(self, jobs: list[Job]) -> None:
        known = await self._known(jobs)
        if not self._open.is_set():
            return
        if known:
            hits = [job for job in jobs if job.id in known]
            await self._collector.put(hits, [known[job.id] for job in hits])
        fresh = [job for job in jobs if job.id not in known and job.id in self._ledger.held]
        for part in self._quarantine.parts(fresh, self._handler.batch):
            task = asyncio.create_task(self._work(part), name=f"{self.lane} {part[0].id}")
            self._runs[task] = part
            task.add_done_callback(self._ended)

    async def _known(self, jobs: Sequence[Job]) -> dict[int, Answer]:
        kept = [job for job in jobs if job.is_cached]
        return await self._ledger.cached(kept) if kept else {}

    async def _work(self, jobs: Sequence[Job]) -> None:
        async with self._quarantine.admitted(jobs):
            outcomes = await self._outcomes(jobs)
            ends = self._quarantine.judge(jobs, outcomes)
        if any(isinstance(outcome, Postponed) and outcome.for_daemon for outcome in outcomes):
            self._needs_daemon = True
            self._wake.set()
        else:
            self._daemon_pauses.reset()
        await self._collector.put(jobs, ends)

    async def _outcomes(self, jobs: Sequence[Job]) -> Sequence[Outcome]:
        outcomes: Sequence[Outcome]
        try:
            outcomes = await self._handler.run(jobs, self._context)
            if len(outcomes) != len(jobs):
                raise ValueError(f"{len(jobs)} jobs, but {len(outcomes)} outcomes")  # noqa: TRY301
        except SteadyTextError as error:
            outcomes = [judged(error)] * len(jobs)
        except Exception as error:  # the outermost place of a request: its failure must not end the worker
            log.exception("lane %s failed", self.lane)
            outcomes = [judged(error)] * len(jobs)
        return outcomes

    def _ended(self, task: asyncio.Task[None]) -> None:
        del self._runs[task]
        self._freed.set()
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("lane %s lost a run", self.lane, exc_info=error)

    async def _until_the_daemon_answers(self) -> None:
        """Claim nothing meanwhile: it could only be given back."""
        while True:
            pause = self._daemon_pauses.next()
            log.warning("lane %s waits for the daemon, asking it again in %.1f s", self.lane, pause)
            self._daemon_came.clear()
            await happens(self._daemon_came, pause)
            try:
                await self._context.daemon.ping()
            except SteadyTextError:
                continue
            self._needs_daemon = False
            return

    # the end

    def close(self) -> None:
        """Claim nothing more."""
        self._open.clear()

    def drop(self, gone: Iterable[int]) -> None:
        """Stop the runs of which nothing but these requests is left to do."""
        lost = set(gone)
        for task, jobs in self._runs.items():
            if all(job.id in lost or job.id not in self._ledger.held for job in jobs):
                task.cancel()

    def stop(self) -> None:
        """Stop every run."""
        for task in self._runs:
            task.cancel()

    async def finished(self) -> None:
        """Wait until no run is left."""
        while self._runs:
            await asyncio.wait(self._runs)
