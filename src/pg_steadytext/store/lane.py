"""The worker's lane for automatic embedding: changed rows of all tables, claimed, embedded and written together."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable, Sequence
from itertools import islice

import psycopg

from pg_steadytext.daemon.wire import Lane
from pg_steadytext.errors import DaemonLost, SteadyTextError
from pg_steadytext.queue.failures import is_of_daemon
from pg_steadytext.queue.guests import Surroundings
from pg_steadytext.queue.ledger import LeaseTaken
from pg_steadytext.queue.pauses import TICK, Pauses, happens
from pg_steadytext.queue.sessions import ConnectionLost, Session
from pg_steadytext.store.indexes import SQL, build_missing
from pg_steadytext.store.work import CHANGE, Batch, Piece, Row, failed

LANE = "autoembed"
FIRST_LOOK, LAST_LOOK = 0.05, 1.0
"""Seconds between two looks while a transaction is under way that has written to the log."""
ERROR_PAUSE = 1.0
WANTED = 256
"""Rows of one claim, about."""
CONCURRENCY = 2
"""Batches at once: one is in the model while another is read or written."""
FEW = 8
"""So many changed rows are somebody's who waits for them; more are a batch."""

log = logging.getLogger(__name__)


class AutoembedLane:
    """Keeps the embeddings of declared tables up to date. See `queue.guests.Lane` for its methods."""

    def __init__(self, around: Surroundings) -> None:
        self.is_asleep = False
        self._around = around
        self._reads = Session(around.connect, "rows to embed", "prepare_claims", sql=SQL)
        self._writes = Session(around.connect, "embeddings", "prepare_claims", sql=SQL)
        self._runs: dict[asyncio.Task[None], Batch] = {}
        self._freed = asyncio.Event()
        self._wake = asyncio.Event()
        self._daemon_came = asyncio.Event()
        self._daemon_pauses = Pauses()
        self._looks = Pauses(first=FIRST_LOOK, longest=LAST_LOOK)
        self._needs_daemon = False
        self._open = asyncio.Event()
        self._open.set()
        self._clock = asyncio.get_running_loop().time
        self.awake_since = self._clock()
        self._may_lack_indexes = True
        self._building: asyncio.Task[None] | None = None
        self._looked_after = float("-inf")

    def wake(self) -> None:
        """There may be something to embed."""
        self._wake.set()

    def daemon_came(self) -> None:
        """A lane that waits for the daemon asks it at once."""
        self._daemon_came.set()

    async def run(self) -> None:
        """Claim and start work, until cancelled. Raises LeaseTaken."""
        while not (await self._writes.run("is_there"))[0][0]:  # noqa: ASYNC110 (nobody tells)
            await asyncio.sleep(TICK)
        while await self._open.wait():
            if self._needs_daemon:
                await self._until_the_daemon_answers()
            if len(self._runs) >= CONCURRENCY:
                self._freed.clear()
                await self._freed.wait()
                continue
            self._wake.clear()
            if self._clock() >= self._looked_after + TICK:
                await self._writes.run("look_after")
                self._looked_after = self._clock()
                self._build_indexes()
            pause = await self._claim()
            if pause is not None and not self._runs and self._may_lack_indexes:
                self._build_indexes()
            if pause is None:
                self._is_awake()
            else:
                await self._sleep(pause)

    async def _claim(self) -> float | None:
        """Claim and start a batch; where there is none, the seconds until the next look, infinity for none."""
        try:
            ledger = self._around.ledger
            given = {"worker": ledger.worker, "wanted": WANTED, "lease": ledger.first_lease}
            rows = await self._reads.run_once("claim", given)
        except psycopg.errors.NoDataFound as error:
            self._around.ledger.lease_was_taken()
            raise LeaseTaken from error
        except ConnectionLost as error:
            log.warning("%s; what it may have claimed comes back with the lease", error)
            raise LeaseTaken from error
        if rows[0][0] is None:
            pause = rows[0][-1]
            return float("inf") if pause is None else float(pause)
        batch = Batch([Piece.of(row) for row in rows])
        task = asyncio.create_task(self._work(batch), name=f"{LANE} {batch.works[0]}")
        self._runs[task] = batch
        task.add_done_callback(self._ended)
        return None

    def _build_indexes(self) -> None:
        """Begin to build what is missing, if that is not being done: rows are embedded meanwhile."""
        if self._building is None or self._building.done():
            self._may_lack_indexes = False
            if self._building is not None and not self._building.cancelled() and (error := self._building.exception()):
                log.error("indexes are built later", exc_info=error)
            self._building = asyncio.create_task(build_missing(self._around.connect, self._writes), name="indexes")
            self._building.add_done_callback(lambda _: self._wake.set())  # more may be missing since it began

    async def _sleep(self, pause: float) -> None:
        """Wait to be woken, or for the next look: while it only looks now and then, it is still asleep."""
        if not self.is_asleep:
            self.is_asleep = True
            self._around.fell_asleep.set()
        if await happens(self._wake, None if pause == float("inf") else max(pause, self._looks.next())):
            self._looks.reset()

    def _is_awake(self) -> None:
        self._looks.reset()
        if self.is_asleep:
            self.is_asleep = False
            self.awake_since = self._clock()

    # work

    async def _work(self, batch: Batch) -> None:
        with self._around.ledger.holding_elsewhere():
            try:
                await self._carry_out(batch)
            except (psycopg.Error, ConnectionLost):
                log.exception("%d rows are given back", len(batch.rows))
                await self._release(batch, ERROR_PAUSE)

    async def _carry_out(self, batch: Batch) -> None:
        try:
            await asyncio.gather(*(self._embed(*group) for group in batch.by_model()))
        except SteadyTextError as error:
            log.info("%d rows wait for the daemon: %s", len(batch.rows), error)
            self._needs_daemon = True
            self._wake.set()
            await self._release(batch, 0.0, lost=isinstance(error, DaemonLost))
            return
        self._daemon_pauses.reset()
        for end in batch.ends():
            try:
                await self._writes.run("finish", {"worker": self._around.ledger.worker, **end})
            except psycopg.Error:  # of this declaration: the others' rows are written
                log.exception("rows of declaration %s are given back", end["autoembed"])
                await self._give_back(end["works"], ERROR_PAUSE)

    async def _release(self, batch: Batch, pause: float, *, lost: bool = False) -> None:
        """Give work back; where the daemon was lost with it, that counts as a lost worker does."""
        await self._give_back(batch.works, pause, lost=lost)

    async def _give_back(self, works: list[int], pause: float, *, lost: bool = False) -> None:
        given = {"worker": self._around.ledger.worker, "works": works, "pause": pause, "lost": lost}
        await self._writes.run("release", given)

    async def _embed(self, model: str, is_remote: bool, priority: int, rows: Sequence[Row]) -> None:
        """Embed rows in one call. Where it fails, each is tried alone, so that one text fails for itself only.

        Raises what says that the daemon is missing or full.
        """
        lane: Lane = "interactive" if priority == CHANGE and len(rows) <= FEW else "batch"
        try:
            texts = [part for row in rows for part in row.cut()]
            found = await self._around.daemon.embed_batch(texts, model=model, unsafe_mode=is_remote, lane=lane)
        except SteadyTextError as error:
            if is_of_daemon(error):
                raise
            if len(rows) == 1:
                failed(rows, error.sqlstate, error.message)
            else:
                await asyncio.gather(*(self._embed(model, is_remote, priority, [row]) for row in rows))
            return
        vectors = iter(found.embeddings)
        for row in rows:
            row.take(list(islice(vectors, len(row.cut()))))

    def _ended(self, task: asyncio.Task[None]) -> None:
        del self._runs[task]
        self._freed.set()
        if not self._runs:
            self._may_lack_indexes = True
            self._wake.set()
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("rows to embed come back with the lease", exc_info=error)

    async def _until_the_daemon_answers(self) -> None:
        await happens(self._daemon_came, self._daemon_pauses.next())
        self._daemon_came.clear()
        try:
            await self._around.daemon.ping()
        except SteadyTextError:
            return
        self._needs_daemon = False

    # the end

    def close(self) -> None:
        """Claim nothing more."""
        self._open.clear()

    def drop(self, gone: Iterable[int]) -> None:
        """Requests of the queue are none of this lane's business."""

    def stop(self) -> None:
        """Stop every run; what it held comes back when the worker leaves."""
        for task in self._runs:
            task.cancel()
        if self._building is not None:
            self._building.cancel()

    async def finished(self) -> None:
        """Wait until no run is left."""
        while self._runs:
            await asyncio.wait(self._runs)
