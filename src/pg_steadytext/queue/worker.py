"""The worker process: drains the queue's lanes and looks after the database.

It is a handful of loops around one ledger: a runner for each lane, a collector that writes outcomes, the lease's pulse,
a listener, a sweep that wakes lanes on time, and the leader's duties. No connection is in a transaction while a model
runs, and nothing wakes more often than every half a minute while there is nothing to do.
"""

from __future__ import annotations

import asyncio
import logging
import signal
from collections.abc import Awaitable, Callable

import psycopg

from pg_steadytext.daemon.aio import AsyncDaemonClient
from pg_steadytext.heartbeat import heartbeat
from pg_steadytext.queue.duties import SQL as MAINTENANCE
from pg_steadytext.queue.duties import Duties
from pg_steadytext.queue.guests import Lane, Surroundings
from pg_steadytext.queue.jobs import Context
from pg_steadytext.queue.lane import LaneRunner
from pg_steadytext.queue.ledger import LeaseTaken, Ledger
from pg_steadytext.queue.listener import Listener
from pg_steadytext.queue.options import WorkerOptions, connector
from pg_steadytext.queue.pauses import TICK, Pauses, Ticks
from pg_steadytext.queue.pulse import IDLE_LEASE, Pulse
from pg_steadytext.queue.quarantine import Quarantine
from pg_steadytext.queue.results import Collector
from pg_steadytext.queue.sessions import Connect, ConnectionLost, Session
from pg_steadytext.queue.sweep import Sweep
from pg_steadytext.settings import Settings

LEAVE_SECONDS = 5.0
WAIT_SECONDS = 5.0
"""Longest pause between two looks whether there is something to work for."""

log = logging.getLogger(__name__)


class Worker:
    """One worker on one database. Build it inside the event loop, then await serve()."""

    def __init__(
        self, connect: Connect, daemon: AsyncDaemonClient, options: WorkerOptions, ticks: Ticks | None = None
    ) -> None:
        self.options = options
        self._daemon = daemon
        self._ticks = ticks or Ticks()
        self._claims = Session(connect, "claims", "prepare_claims")
        self._results = Session(connect, "results")
        self._pulse = Session(connect, "the lease")
        self._look = Session(connect, "maintenance", sql=MAINTENANCE)
        self.ledger = Ledger(self._claims, self._results, self._pulse, options.name, daemon.address)
        self.collector = Collector(self.ledger)
        context = Context(daemon, self.ledger.announce)
        quarantine = Quarantine()
        self._fell_asleep = asyncio.Event()
        self.lanes: dict[str, Lane] = {
            lane: LaneRunner(handler, self.ledger, self.collector, context, quarantine, self._fell_asleep)
            for lane, handler in options.handlers.items()
        }
        surroundings = Surroundings(connect, daemon, self.ledger, self._fell_asleep, quarantine)
        self.lanes |= {name: make(surroundings) for name, make in options.guests.items()}
        self._cancelled = asyncio.Event()
        self._listener = Listener(connect, self._wake, self._cancelled.set, self._ticks)
        self._duties = Duties(connect, daemon, daemon.address, self._ticks, worker=lambda: self.ledger.number)
        self._registered = asyncio.Event()
        self._stopping = asyncio.Event()
        self._hurried = asyncio.Event()

    def stop(self) -> None:
        """Claim nothing more, finish what runs, give back the rest; a second call does not wait for what runs."""
        if self._stopping.is_set():
            self._hurried.set()
        self._stopping.set()

    def daemon_changed(self, connected: bool) -> None:
        """The connection to the daemon was made or lost."""
        if connected:
            for lane in self.lanes.values():
                lane.daemon_came()
        self._duties.daemon_changed.set()

    async def serve(self) -> None:
        """Work until stopped."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.stop)
        self._daemon.open()
        steady = [
            asyncio.create_task(self._for_ever(name, service), name=name)
            for name, service in (
                ("results", self.collector.run), ("cancel", self._watch_cancels),
                ("listen", self._listen), ("duties", self._look_after),
            )
        ]  # fmt: skip
        working = asyncio.create_task(self._for_ever("work", self._work), name="work")
        await self._stopping.wait()
        await self._end(working)
        for task in steady:
            task.cancel()
        await asyncio.wait(steady)
        await self._leave()
        log.info("stopped")

    # the loops

    async def _for_ever(self, name: str, service: Callable[[], Awaitable[None]]) -> None:
        """The outermost loop of a part: what it did not foresee is logged, and it begins anew."""
        pauses = Pauses(longest=TICK)
        clock = asyncio.get_running_loop().time
        while True:
            began = clock()
            try:
                await service()
            except LeaseTaken:
                log.warning("the lease was taken away: what was in work is dropped")
            except Exception:
                log.exception("%s failed", name)
            if clock() - began > TICK:
                pauses.reset()
            await asyncio.sleep(pauses.next())

    async def _work(self) -> None:
        """Be a worker until the lease is taken or the process stops."""
        await self._until_it_can_work()
        await self.ledger.leave()
        worker = await self.ledger.register(IDLE_LEASE)
        self._registered.set()
        log.info("worker %d, %s, takes from %s", worker, self.options.name, ", ".join(self.lanes))
        sweep = Sweep(self.lanes, self.ledger, self._ticks, self._fell_asleep)
        parts = [lane.run() for lane in self.lanes.values()]
        parts += [Pulse(self.ledger, self._ticks, self.options.lease_seconds).run(), sweep.run()]
        await self.ledger.recover()
        tasks = [asyncio.create_task(part) for part in parts]
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for lane in self.lanes.values():
                lane.stop()
            for task in done:
                task.result()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)

    async def _until_it_can_work(self) -> None:
        pauses = Pauses(longest=WAIT_SECONDS)
        told = ""
        while (lacks := await self._what_lacks()) is not None:
            if told != lacks:
                log.warning(lacks)
                told = lacks
            await asyncio.sleep(pauses.next())
        await self._look.close()

    async def _what_lacks(self) -> str | None:
        if not (await self._look.run("queue_is_there"))[0][0]:
            return "the database has no extension pg_steadytext: waiting until it is created"
        if (await self._look.run("is_standby"))[0][0]:
            return "the server is a standby: waiting until it is promoted"
        return None

    async def _listen(self) -> None:
        await self._registered.wait()
        await self._listener.run()

    async def _look_after(self) -> None:
        await self._registered.wait()
        await self._duties.run()

    async def _watch_cancels(self) -> None:
        while True:
            await self._cancelled.wait()
            self._cancelled.clear()
            try:
                gone = await self.ledger.lost()
            except LeaseTaken:
                continue
            if gone:
                for lane in self.lanes.values():
                    lane.drop(gone)

    def _wake(self) -> None:
        for lane in self.lanes.values():
            lane.wake()

    # the end

    async def _end(self, working: asyncio.Task[None]) -> None:
        """Give what runs the time it may have."""
        finishing = asyncio.create_task(self._finish())
        hurried = asyncio.create_task(self._hurried.wait())
        for lane in self.lanes.values():
            lane.close()
        log.info("stopping: %d requests are held", len(self.ledger.held))
        await asyncio.wait(
            (finishing, hurried), timeout=self.options.grace_seconds, return_when=asyncio.FIRST_COMPLETED
        )
        for lane in self.lanes.values():
            lane.stop()
        for task in (finishing, hurried, working):
            task.cancel()
        await asyncio.wait((finishing, hurried, working))

    async def _finish(self) -> None:
        for lane in self.lanes.values():
            await lane.finished()
        await self.collector.drain()

    async def _leave(self) -> None:
        try:
            async with asyncio.timeout(LEAVE_SECONDS):
                await self.ledger.leave()
                for session in (self._claims, self._results, self._pulse):
                    await session.close()
                await self._duties.close()
        except (TimeoutError, ConnectionLost, psycopg.Error) as error:
            log.warning("what is held goes back when the lease expires: %s", error or "PostgreSQL does not answer")
        self._daemon.close()


async def serve(settings: Settings, options: WorkerOptions) -> None:
    """Run a worker for these settings until SIGTERM or SIGINT."""
    daemon = AsyncDaemonClient(settings.daemon_endpoint, timeout_ms=settings.daemon_timeout_ms)
    worker = Worker(connector(settings), daemon, options)
    daemon.on_change = worker.daemon_changed
    async with heartbeat():
        await worker.serve()
