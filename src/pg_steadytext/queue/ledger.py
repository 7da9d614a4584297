"""What this worker holds: claims and their ends, kept in step between the database and this process."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import psycopg

from pg_steadytext.queue.jobs import Answer, Failure, Job
from pg_steadytext.queue.sessions import ConnectionLost, Rows, Session

log = logging.getLogger(__name__)


class LeaseTaken(Exception):  # noqa: N818 (it says the case)
    """This worker's lease has expired and was taken away, and with it everything that it held."""


class Ledger:
    """The queue's functions as one worker calls them, and the requests that it holds (`held`: id to attempt).

    `first_lease` is how long the lease is to be, in seconds, as soon as anything is held; None while it is so already.

    A claim and the note of what it brought are one step under a lock, so that whoever takes the lock sees everything
    that this worker holds in the database.
    """

    def __init__(self, claims: Session, results: Session, pulse: Session, name: str, endpoint: str) -> None:
        self.held: dict[int, int] = {}
        self.holding = asyncio.Event()
        self.first_lease: float | None = None
        self._claims = claims
        self._results = results
        self._pulse = pulse
        self._name = name
        self._endpoint = endpoint
        self._worker: int | None = None
        self._claiming = asyncio.Lock()
        self._strays = False
        self._elsewhere = 0

    @property
    def worker(self) -> int:
        """This worker's number in the database."""
        if self._worker is None:
            raise LeaseTaken
        return self._worker

    @property
    def number(self) -> int | None:
        """The same, or None while this is no worker."""
        return self._worker

    @property
    def is_registered(self) -> bool:
        """Whether this is a worker now."""
        return self._worker is not None

    # the lease

    @property
    def is_busy(self) -> bool:
        """Whether anything is held, in the queue or elsewhere in the database."""
        return bool(self.held) or self._elsewhere > 0

    @contextmanager
    def holding_elsewhere(self) -> Iterator[None]:
        """While something is held by this worker's lease that does not stand in the queue."""
        self._elsewhere += 1
        self.holding.set()
        try:
            yield
        finally:
            self._elsewhere -= 1

    def lease_was_taken(self) -> None:
        """The database says that this worker is none any more."""
        self._worker = None

    async def register(self, lease: float) -> int:
        """Become a worker, with nothing held."""
        async with self._claiming:
            self.held.clear()
            rows = await self._pulse.run("register", {"name": self._name, "lease": lease})
            self._worker = int(rows[0][0])
            return self._worker

    async def renew(self, lease: float) -> None:
        """Hold the lease for so many seconds from now. Raises LeaseTaken."""
        rows = await self._pulse.run("renew", {"worker": self.worker, "lease": lease})
        if not rows[0][0]:
            self._worker = None
            raise LeaseTaken

    async def sleep(self, lanes: Sequence[str]) -> None:
        """Ask to be notified of what is queued in these lanes, and in no other; through a pooler, of none."""
        lanes = [] if self._pulse.is_pooled else lanes
        await self._pulse.run("sleep", {"worker": self.worker, "lanes": list(lanes)})

    async def recover(self) -> int:
        """Take back what other workers held whose leases have expired; returns how much."""
        return int((await self._pulse.run("recover"))[0][0])

    async def leave(self) -> None:
        """Give everything back and be no worker any more."""
        if self._worker is not None:
            async with self._claiming:
                await self._claims.run("leave", {"worker": self._worker})
                self.held.clear()
                self._worker = None

    # claims

    async def claim(self, lane: str, wanted: int, aged: int, floors: Sequence[str]) -> list[Job]:
        """Claim up to `wanted` requests of a lane. Raises LeaseTaken."""
        async with self._claiming:
            given = {
                "worker": self.worker, "lane": lane, "wanted": wanted, "aged": aged, "floors": list(floors),
                "lease": self.first_lease,
            }  # fmt: skip
            try:
                rows = await self._claim(given)
            except psycopg.errors.NoDataFound as error:
                self._worker = None
                raise LeaseTaken from error
            jobs = [Job(*row) for row in rows]
            for job in jobs:
                self.held[job.id] = job.attempt
        if jobs:
            self.holding.set()
        return jobs

    async def _claim(self, given: dict[str, Any]) -> Rows:
        while True:
            if self._strays:
                await self._keep()
            try:
                return await self._claims.run_once("claim", given)
            except ConnectionLost as error:
                log.warning("%s; what it may have claimed is given back", error)
                self._strays = True
                self.holding.set()

    async def keep(self) -> None:
        """Give back what this worker holds in the database but does not know of."""
        async with self._claiming:
            await self._keep()

    async def _keep(self) -> None:
        await self._claims.run("keep", {"worker": self.worker, "ids": _numbers(self.held)})
        self._strays = False

    async def cached(self, jobs: Sequence[Job]) -> dict[int, Answer]:
        """The answers that the cache holds for some jobs, by the jobs' ids."""
        rows = await self._claims.run("cached", {"ids": _numbers(job.id for job in jobs)})
        return {number: Answer(text=text, vector=vector) for number, text, vector in rows}

    async def next_due(self, lanes: Sequence[str]) -> float | None:
        """Seconds until something in these lanes, or a lease, is due that no notification will tell of."""
        found = (await self._pulse.run("next_due", {"lanes": list(lanes)}))[0][0]
        return None if found is None else float(found)

    async def lost(self) -> list[int]:
        """Forget, and return, what was cancelled or taken away of what this worker holds."""
        async with self._claiming:
            ids = list(self.held)
        if not ids:
            return []
        rows = await self._pulse.run("lost", {"worker": self.worker, "ids": _numbers(ids)})
        gone = [int(row[0]) for row in rows]
        for number in gone:
            self.held.pop(number, None)
        return gone

    # ends

    async def finish(self, jobs: Sequence[Job], answers: Sequence[Answer]) -> None:
        """Write results; those of requests that were cancelled or taken away are dropped."""
        await self._write(
            "finish",
            jobs,
            answers=_texts(answer.text for answer in answers),
            vectors=_texts(answer.vector for answer in answers),
            models=_texts(answer.model for answer in answers),
            digests=_texts(answer.digest for answer in answers),
            took_ms=[answer.took_ms for answer in answers],
            endpoint=self._endpoint,
        )

    async def fail(self, jobs: Sequence[Job], failures: Sequence[Failure]) -> None:
        """Note failed attempts."""
        await self._write(
            "fail",
            jobs,
            codes=[failure.code for failure in failures],
            messages=[failure.message for failure in failures],
            retryable=[failure.retryable for failure in failures],
        )

    async def release(self, jobs: Sequence[Job], pause: float) -> None:
        """Give requests back, due again in `pause` seconds."""
        await self._write("release", jobs, pause=pause)

    async def _write(self, statement: str, jobs: Sequence[Job], **given: Any) -> None:
        if self._worker is not None:
            keys = {"ids": _numbers(job.id for job in jobs), "attempts": _numbers(job.attempt for job in jobs)}
            await self._results.run(statement, {"worker": self._worker, **keys, **given})
        self.forget(jobs)

    def forget(self, jobs: Sequence[Job]) -> None:
        """These have ended, or are no longer this worker's."""
        for job in jobs:
            if self.held.get(job.id) == job.attempt:
                del self.held[job.id]

    def abandon(self, jobs: Sequence[Job]) -> None:
        """The end of these could not be written: they are given back with the next claim or beat."""
        self.forget(jobs)
        self._strays = True

    @property
    def has_strays(self) -> bool:
        """Whether the database may say that this worker holds more than it does."""
        return self._strays

    async def announce(self, channel: str, payload: str) -> None:
        """Notify whoever listens on a channel."""
        await self._pulse.run("announce", {"channel": channel, "payload": payload})


def _numbers(values: Iterable[int]) -> str:
    """Whole numbers as PostgreSQL writes an array: cheaper than a list's general way, and a claim has thousands."""
    return "{" + ",".join(map(str, values)) + "}"


def _texts(values: Iterable[str | None]) -> str:
    """Texts as PostgreSQL writes an array, for the same reason."""
    return "{" + ",".join("NULL" if value is None else _quoted(value) for value in values) + "}"


def _quoted(value: str) -> str:
    return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'
