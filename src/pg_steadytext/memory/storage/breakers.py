"""Keeps circuit breakers for all processes.

PostgreSQL decides every change of state under the lock of the breaker's row, the one probe included. What each call
needs, the state as last seen and the counts, comes from a ``Window``: PostgreSQL itself, or Redis in front of it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol
from uuid import UUID

from psycopg.types.json import Jsonb

from pg_steadytext import statements
from pg_steadytext.memory.domain import breaker as rules_of
from pg_steadytext.memory.domain.breaker import Breaker, Outcome, Refused, Rules, State, Totals
from pg_steadytext.memory.storage.database import Database, Row

SQL: Mapping[str, bytes] = statements.load("pg_steadytext.memory.storage", "sql/breakers.sql")

RULES_SECONDS = 10.0
"""How long a process goes by rules that were changed in the table."""

Seen = tuple[Breaker, datetime]
"""A breaker, and the time by the clock that all processes share."""


@dataclass(frozen=True, slots=True)
class Call:
    """The end of one call, as a window counts it."""

    failed: bool
    slow: bool
    cost_micros: int


@dataclass(frozen=True, slots=True)
class Pass:
    """A call that was let through."""

    name: str
    call: UUID
    rules: Rules
    revision: int
    is_probe: bool


class Window(Protocol):
    """Where the state is read and the calls are counted."""

    async def read(self, name: str) -> Seen | None:
        """Return the breaker as it was a moment ago, None when it was never asked for."""
        ...

    async def add(self, name: str, revision: int, window_seconds: int, call: Call) -> Totals:
        """Count a call since that revision and return what the window holds."""
        ...

    async def publish(self, name: str, breaker: Breaker) -> None:
        """Learn of a change."""
        ...

    async def close(self) -> None:
        """Give connections back."""
        ...


class PostgresWindow:
    """The window in PostgreSQL."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def read(self, name: str) -> Seen | None:
        """Read the breaker's row."""
        async with self._database.pool.connection() as connection:
            row = await (await connection.execute(SQL["read"], {"name": name}, prepare=True)).fetchone()
        return None if row is None else _breaker(row)

    async def add(self, name: str, revision: int, window_seconds: int, call: Call) -> Totals:
        """Count in the row of the second."""
        params = {"name": name, "revision": revision, "failed": call.failed, "slow": call.slow,
                  "cost": call.cost_micros, "window": window_seconds}  # fmt: skip
        async with self._database.pool.connection() as connection:
            row = await (await connection.execute(SQL["count"], params, prepare=True)).fetchone()
        assert row is not None
        return Totals(*map(int, row))

    async def publish(self, name: str, breaker: Breaker) -> None:
        """Nothing to do: the change was made here."""

    async def close(self) -> None:
        """Nothing to do: the connections are the database's."""


class Breakers:
    """Every breaker of the service; a model's has the model's name."""

    def __init__(self, database: Database, window: Window | None = None) -> None:
        self._database = database
        self.window = window or PostgresWindow(database)
        self._rules: dict[str, tuple[float, Rules]] = {}

    async def rules(self, name: str) -> Rules:
        """Return the rules of ``memory.ai_breaker_rules``, as they were at most ten seconds ago."""
        known = self._rules.get(name)
        if known is not None and time.monotonic() - known[0] < RULES_SECONDS:
            return known[1]
        async with self._database.pool.connection() as connection:
            row = await (await connection.execute(SQL["rules"], {"name": name})).fetchone()
        rules = Rules(*row) if row is not None else Rules()
        self._rules[name] = (time.monotonic(), rules)
        return rules

    async def admit(self, name: str, call: UUID) -> Pass | Refused:
        """Let a call through, or refuse it; a closed breaker costs one look and no lock."""
        rules = await self.rules(name)
        seen = await self.window.read(name)
        if seen is None or seen[0].state is State.CLOSED:
            return Pass(name, call, rules, seen[0].revision if seen else 0, is_probe=False)
        if refused := rules_of.refuses(seen[0], rules, seen[1]):
            return refused
        answer: list[Refused] = []

        def claim(breaker: Breaker, now: datetime) -> Breaker:
            admitted = rules_of.admit(breaker, rules, now, call)
            if isinstance(admitted, Refused):
                answer.append(admitted)
                return breaker
            return admitted

        after = await self.change(name, claim)
        if answer:
            return answer[0]
        return Pass(name, call, rules, after.revision, is_probe=after.probe == call)

    async def record(self, passed: Pass, outcome: Outcome, milliseconds: float, cost_micros: int) -> None:
        """Count the end of a call, and open or close the breaker when that is due."""
        rules, slow = passed.rules, passed.rules.is_slow(milliseconds)
        if slow and outcome is Outcome.CANCELLED:
            # Who gave up after so long did so because of the model.
            outcome = Outcome.FAILED
        if passed.is_probe:
            await self.change(
                passed.name, lambda b, now: rules_of.end_probe(b, rules, now, passed.call, outcome, slow=slow)
            )
            return
        if outcome is Outcome.CANCELLED:
            return
        call = Call(outcome is not Outcome.OK, slow, cost_micros)
        totals = await self.window.add(passed.name, passed.revision, rules.window_seconds, call)
        if reason := rules_of.why_open(totals, rules):
            await self.change(
                passed.name,
                # A call that began before the last change says nothing about the time since.
                lambda b, now: rules_of.open_for(b, rules, now, reason) if b.revision == passed.revision else b,
            )

    async def give_back(self, passed: Pass) -> None:
        """Take back a call that was let through and not made; a probe is the next caller's."""
        if passed.is_probe:
            await self.record(passed, Outcome.CANCELLED, 0, 0)

    async def change(self, name: str, rule: Callable[[Breaker, datetime], Breaker]) -> Breaker:
        """Apply a rule under the breaker's lock, raise the alert of what it changes, and return the breaker."""
        async with self._database.pool.connection() as connection, connection.transaction():
            await connection.execute(SQL["make"], {"name": name})
            row = await (await connection.execute(SQL["lock"], {"name": name})).fetchone()
            assert row is not None
            before, now = _breaker(row)
            after = rule(before, now)
            if after != before:
                await connection.execute(SQL["write"], {"name": name, **_params(after)})
                await connection.execute(SQL["forget"], {"name": name})
                if detail := _news(name, before, after):
                    key = f"breaker:{name}:{after.revision}"
                    await connection.execute(SQL["alert"], {"key": key, "detail": Jsonb(detail)})
        if after != before:
            await self.window.publish(name, after)
        return after

    async def close(self) -> None:
        """Give connections back."""
        await self.window.close()


def _news(name: str, before: Breaker, after: Breaker) -> dict[str, Any] | None:
    # An open breaker that lets a probe through and opens again is no news, nor is a second closing.
    was_closed, is_closed = before.state is State.CLOSED, after.state is State.CLOSED
    if was_closed == is_closed and not (after.state is State.OPEN and after.retry_at is None):
        return None
    return {
        "name": name, "from": before.state.value, "to": after.state.value, "reason": after.reason or before.reason,
        "retry_at": after.retry_at.isoformat() if after.retry_at else None,
    }  # fmt: skip


def _breaker(row: Row) -> Seen:
    state, reason, retry_at, probe, probe_ends, revision, now = row
    return Breaker(State(state), reason, retry_at, probe, probe_ends, revision), now


def _params(breaker: Breaker) -> dict[str, Any]:
    return {
        "state": breaker.state.value, "reason": breaker.reason, "retry_at": breaker.retry_at, "probe": breaker.probe,
        "probe_ends": breaker.probe_ends, "revision": breaker.revision,
    }  # fmt: skip
