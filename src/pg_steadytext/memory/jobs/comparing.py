"""Near duplicates: which users' memories are compared, and the comparing, as jobs of the queue.

What is to be compared stands in ``memory.to_compare``, written with each vector; a job says only whose. Users whom the
flag is off for keep what they have there, and it is compared when the flag is on.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from uuid import UUID

import psycopg
from psycopg.types.json import Jsonb
from psycopg_pool import PoolTimeout

from pg_steadytext.memory.domain.similarity import judge
from pg_steadytext.memory.jobs.pending import PendingLane
from pg_steadytext.memory.storage.database import Database, Unit
from pg_steadytext.queue.failures import is_permanent
from pg_steadytext.queue.guests import MakeLane, Surroundings
from pg_steadytext.queue.jobs import Answer, Context, Failure, Job, Outcome

GUEST = "memory_comparisons"
"""What queues; the queue's own lane is the handler's."""
USERS_A_LOOK = 500
MEMORIES_A_ROUND = 20
ROUNDS = 10
"""Of one job; what is left is another job's, so that nobody's import keeps the others waiting."""
CANDIDATES = 20
"""Of the same words, and of the nearest meaning."""

IsOn = Callable[[UUID], Awaitable[bool]]

log = logging.getLogger(__name__)


class ComparisonLane(PendingLane):
    """Queues a job for each user with something to compare, where the flag is on, when vectors were written."""

    def __init__(self, around: Surroundings, database: Database, is_on: IsOn, written: asyncio.Event) -> None:
        super().__init__(around)
        self._wake = written
        self._database = database
        self._is_on = is_on
        self._after: UUID | None = None

    def wake(self) -> None:
        """Nothing of the queue tells of vectors."""

    async def _look(self) -> tuple[int, float | None]:
        try:
            if not (await self._database.call("has_comparisons", {}))[0]:
                return 0, None
            params = {"after": self._after, "most": USERS_A_LOOK}
            users = await self._database.column("users_to_compare", params)
            wanted = [user for user in users if await self._is_on(user)]
            queued = (await self._database.call("queue_comparisons", {"users": wanted}))[0] if wanted else 0
        except (psycopg.Error, PoolTimeout) as error:
            log.warning("no memories are queued to be compared: %s", error)
            return 0, None
        is_full = len(users) == USERS_A_LOOK
        self._after = users[-1] if is_full else None
        return int(queued), 0.0 if is_full else None


def make_lane(database: Database, is_on: IsOn, written: asyncio.Event) -> MakeLane:
    """Return what makes the lane in a worker."""
    return lambda around: ComparisonLane(around, database, is_on, written)


class Comparing:
    """Compares a user's memories. See ``queue.jobs.Handler``."""

    lane = "memory_compare"
    batch = 1
    concurrency = 1

    def __init__(self, database: Database, is_on: IsOn, written: asyncio.Event) -> None:
        self._database = database
        self._is_on = is_on
        self._written = written

    async def run(self, jobs: Sequence[Job], context: Context) -> Sequence[Outcome]:  # noqa: ARG002
        """Compare what the jobs' users have to compare."""
        return [await self._one(UUID(job.params["user"])) for job in jobs]

    async def _one(self, user: UUID) -> Outcome:
        began = time.monotonic()
        suggested = 0
        try:
            if not await self._is_on(user):
                return Answer(text="off")
            for _ in range(ROUNDS):
                found = await compare_some(self._database, user)
                if found is None:
                    break
                suggested += found
            else:
                self._written.set()
        except psycopg.Error as error:
            code = error.sqlstate or "XX000"
            return Failure(code, error.diag.message_primary or str(error), not is_permanent(code))
        except PoolTimeout as error:
            return Failure("57014", str(error), True)
        return Answer(text=f"{suggested} suggested", took_ms=round(1000 * (time.monotonic() - began)))


async def compare_some(database: Database, user: UUID) -> int | None:
    """Compare some memories of a user; returns how many pairs were suggested, None where nothing was to be compared."""
    async with database.work_for(user) as unit:
        subjects = await unit.rows("begin_comparing", {"most": MEMORIES_A_ROUND})
    if not subjects:
        return None
    suggested = 0
    for entry, words, digest, content_hash in subjects:
        async with database.work_for(user) as unit:
            suggested += await _compare(unit, entry, words, digest, content_hash)
    return suggested


async def _compare(unit: Unit, entry: UUID, words: str, digest: bytes, content_hash: bytes) -> int:
    others: list[UUID] = []
    digests: list[bytes] = []
    scores: list[Jsonb] = []
    for other, text, its_digest, its_hash, cosine in await unit.rows(
        "duplicate_candidates", {"id": entry, "each": CANDIDATES}
    ):
        verdict = judge(words, text, cosine, same_hash=its_hash == content_hash)
        if verdict.is_suggested:
            others.append(other)
            digests.append(its_digest)
            scores.append(Jsonb(dict(verdict.scores())))
    found = {"id": entry, "digest": digest, "others": others, "digests": digests, "scores": scores}
    row = await unit.row("end_comparing", found)
    assert row is not None
    return int(row[0])
