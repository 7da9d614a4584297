"""What stands between a caller and a model that costs: budgets, the plan's day, and the circuit breaker."""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from collections.abc import Awaitable, Callable, Coroutine
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar
from uuid import UUID

import psycopg
from psycopg_pool import PoolTimeout

from pg_steadytext import shielding
from pg_steadytext.errors import DaemonLost, InvalidArgument
from pg_steadytext.memory.domain import ids
from pg_steadytext.memory.domain.breaker import Outcome, Refused
from pg_steadytext.memory.domain.spending import (
    CallFailedError,
    Tokens,
    UnaffordableError,
    UnknownUserError,
    UnpricedModelError,
)
from pg_steadytext.memory.storage.breakers import Breakers, Pass
from pg_steadytext.memory.storage.database import Database

GRACE_SECONDS = 60.0
"""How long after the longest call its reservation is still its own."""

T = TypeVar("T")

log = logging.getLogger(__name__)


def new_call_id() -> UUID:
    """Make an id that sorts after the earlier ones."""
    return ids.uuid7(time.time_ns(), secrets.token_bytes(ids.RANDOM_BYTES))


class BudgetGuard:
    """Reserves, calls and settles; implements ``domain.spending.Guard``.

    No transaction and no lock is held while the model works. A call that takes longer than `call_seconds` is cancelled
    and raises ``TimeoutError``.
    """

    def __init__(
        self, database: Database, breakers: Breakers, *, call_seconds: float = 120.0,
        new_id: Callable[[], UUID] = new_call_id, clock: Callable[[], float] = time.monotonic,
    ) -> None:  # fmt: skip
        self.breakers = breakers
        self._database = database
        self._call_seconds = call_seconds
        self._new_id = new_id
        self._clock = clock
        self._ending: set[asyncio.Task[None]] = set()

    async def call(
        self, purpose: str, model: str, user_id: UUID, most: Tokens, work: Callable[[], Awaitable[tuple[T, Tokens]]],
        *, settles_later: bool = False,
    ) -> T:  # fmt: skip
        """Return what ``work`` returns.

        With `settles_later` it does not wait until the call is settled; until then its reservation holds.

        Raises ``UnaffordableError``, ``UnpricedModelError`` or ``UnknownUserError`` without having called it, else what
        it raises. What it used is unknown then, and counts as all of ``most``, unless it raised ``CallFailedError``.
        """
        passed = await self.breakers.admit(model, self._new_id())
        if isinstance(passed, Refused):
            raise UnaffordableError(passed.reason, passed.retry_at)
        try:
            await self._reserve(passed, purpose, user_id, most)
        except BaseException:
            await shielding.outcome(self._begin(self.breakers.give_back(passed)))
            raise
        began = self._clock()
        used: Tokens | None = None
        outcome = Outcome.FAILED
        try:
            async with asyncio.timeout(self._call_seconds):
                result, used = await work()
            outcome = Outcome.OK
        except asyncio.CancelledError:
            outcome = Outcome.CANCELLED
            raise
        except (InvalidArgument, DaemonLost):
            # The caller's fault, not the model's, or it may be: a text that ends the daemon must not stop all others.
            outcome = Outcome.CANCELLED
            raise
        except CallFailedError as error:
            used = error.used
            raise
        finally:
            ending = self._begin(self._end(passed, used, outcome, (self._clock() - began) * 1000))
            if not settles_later:
                await shielding.outcome(ending)
        return result

    async def close(self) -> None:
        """Let what is being settled be settled, and give the breakers' connections back."""
        while self._ending:
            await asyncio.gather(*self._ending, return_exceptions=True)
        await self.breakers.close()

    async def _reserve(self, passed: Pass, purpose: str, user_id: UUID, most: Tokens) -> None:
        micros, refusal, says, retry_at = await self._database.call(
            "reserve",
            {"id": passed.call, "user": user_id, "model": passed.name, "purpose": purpose, "read": most.read,
             "written": most.written, "lasts": self._call_seconds + GRACE_SECONDS},
        )  # fmt: skip
        if refusal == "no-price":
            raise UnpricedModelError(says)
        if refusal == "no-user":
            raise UnknownUserError(says)
        if refusal is not None:
            raise UnaffordableError(says, retry_at or datetime.now(UTC) + timedelta(seconds=5))
        log.debug("reserved %s micros for %s", micros, passed.call)

    def _begin(self, ending: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Begin what is to finish even when the caller is cancelled meanwhile."""
        task = asyncio.create_task(ending)
        self._ending.add(task)
        task.add_done_callback(self._ending.discard)
        return task

    async def _end(self, passed: Pass, used: Tokens | None, outcome: Outcome, milliseconds: float) -> None:
        read, written = (used.read, used.written) if used is not None else (None, None)
        try:
            (cost,) = await self._database.call(
                "settle",
                {"id": passed.call, "read": read, "written": written, "outcome": outcome.value,
                 "duration_ms": int(milliseconds)},
            )  # fmt: skip
            await self.breakers.record(passed, outcome, milliseconds, cost or 0)
        except (psycopg.Error, PoolTimeout) as error:
            # What the model answered is worth more than its bill: the sweep settles the whole reservation.
            log.warning("the call %s stays reserved until it is swept: %s", passed.call, error)
