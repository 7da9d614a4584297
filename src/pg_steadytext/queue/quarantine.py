"""Who may have ended the daemon, found by parting the suspects.

A request that ends the daemon takes with it all that was in the daemon beside it. So nobody pays for a first loss: who
was in a run that lost the daemon is suspected, and is sent again in smaller runs with no other run of this worker
beside them, until a request stands alone. One that loses the daemon alone pays with an attempt; one that comes back
with any other outcome is cleared, unless it was given back without having been worked on.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Hashable, Iterable, Iterator, Sequence
from contextlib import asynccontextmanager
from typing import Protocol, TypeVar

from pg_steadytext.queue.jobs import Outcome, Postponed

PARTED_BY = 8


class Suspect(Protocol):
    """What is sent to the daemon, and again under the same id: a job, or what a lane of its own works on."""

    @property
    def id(self) -> Hashable:
        """Its own among all that this worker works on."""
        ...


S = TypeVar("S", bound=Suspect)


class Quarantine:
    """The suspects of one worker, and the gate by which their runs pass one at a time."""

    def __init__(self) -> None:
        self._most: dict[Hashable, int] = {}
        self._changed = asyncio.Event()
        self._beside = self._wanting = 0
        self._alone = False

    def parts(self, jobs: Iterable[S], batch: int) -> Iterator[Sequence[S]]:
        """Runs of at most `batch` jobs; suspects stand among suspects, as many as they still may."""
        alike: dict[int | None, list[S]] = {}
        for job in jobs:
            alike.setdefault(self._most.get(job.id), []).append(job)
        for most, some in alike.items():
            size = min(most or batch, batch)
            yield from (some[head : head + size] for head in range(0, len(some), size))

    @asynccontextmanager
    async def admitted(self, jobs: Sequence[Suspect]) -> AsyncIterator[None]:
        """While a run is in the daemon: beside other runs, or, where it is of suspects, beside none."""
        if jobs[0].id in self._most:
            await self._enter_alone()
        else:
            await self._until(lambda: not self._alone and not self._wanting)
            self._beside += 1
        try:
            yield
        finally:
            if self._alone:
                self._alone = False
            else:
                self._beside -= 1
            self._changed.set()

    async def _enter_alone(self) -> None:
        self._wanting += 1
        try:
            await self._until(lambda: not self._alone and not self._beside)
            self._alone = True
        finally:
            self._wanting -= 1
            self._changed.set()

    def judge(self, jobs: Sequence[Suspect], outcomes: Sequence[Outcome]) -> list[Outcome]:
        """The outcomes of a run: where it lost the daemon, who was in it is suspected, or pays."""
        return [self._judged(job, outcome, len(jobs)) for job, outcome in zip(jobs, outcomes, strict=True)]

    def _judged(self, job: Suspect, outcome: Outcome, count: int) -> Outcome:
        most = self._most.pop(job.id, None)
        if not isinstance(outcome, Postponed) or outcome.loss is None:
            if isinstance(outcome, Postponed) and most is not None:
                self._most[job.id] = most  # nothing was there to be lost, which clears nobody
            return outcome
        self._most[job.id] = max(1, count // PARTED_BY)
        return outcome.loss if most is not None and count == 1 else outcome

    async def _until(self, ready: Callable[[], bool]) -> None:
        while not ready():
            self._changed.clear()
            await self._changed.wait()
