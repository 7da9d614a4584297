"""Saves that come at the same time, stored by one statement and one commit; each whole, or refused by itself.

A save that comes alone is stored alone, at once. While others are being stored, those that come wait, and are the next
group: the busier the service is, the fewer statements, commits and connections it takes for a save. One group is under
way at a time: two were slower by a tenth, since each was smaller.
"""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import Coroutine, Mapping
from dataclasses import dataclass, field
from typing import Any

import orjson
import psycopg

from pg_steadytext.memory.storage.database import Caller, Database, Row

MOST = 32
"""Saves of a group: fewer than the subtransactions that PostgreSQL keeps in memory."""
LARGE = 10_000
"""Characters of a save that is carried out by itself: reading its words would keep a group waiting."""
PATIENCE = "20ms"
"""How long a group waits for a lock that somebody else holds, such as an import of the same user."""
KEPT_WAITING = ("55P03", "40P01")
"""The failures of a save that would have kept its group waiting: it is carried out again by itself."""


@dataclass(frozen=True, slots=True)
class Stored:
    """What became of a save: an answer, or `failure`, the SQLSTATE of a refusal, with its message and detail."""

    status: int
    headers: str
    body: str
    is_replay: bool
    failure: str | None
    message: str | None
    detail: str | None


@dataclass(slots=True)
class _Save:
    who: Caller
    text: str
    stored: asyncio.Future[Stored] = field(default_factory=lambda: asyncio.get_running_loop().create_future())

    def end(self, row: Row) -> None:
        if not self.stored.done():
            self.stored.set_result(Stored(*row))

    def fail(self, error: Exception) -> None:
        if not self.stored.done():
            self.stored.set_exception(error)


class Saves:
    """The saves of one process."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._waiting: deque[_Save] = deque()
        self._alone: Counter[bytes] = Counter()
        self._tasks: set[asyncio.Task[None]] = set()
        self._is_storing = False

    async def save(self, who: Caller, entry: Mapping[str, Any]) -> Stored:
        """Store what ``memory.save_group`` takes as one of its saves.

        Raises ``psycopg.Error`` where PostgreSQL does, and ``PoolTimeout`` when no connection becomes free.
        """
        # Spelt here, so that what cannot be spelt is this save's failure alone.
        one = _Save(who, orjson.dumps(entry).decode())
        if len(one.text) > LARGE or self._alone[who.token_hash]:
            self._begin(self._store_alone(one))
        else:
            self._waiting.append(one)
            if not self._is_storing:
                self._is_storing = True
                self._begin(self._store_groups())
        return await one.stored

    def _begin(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _store_groups(self) -> None:
        try:
            while self._waiting:
                await self._store([self._waiting.popleft() for _ in range(min(MOST, len(self._waiting)))])
        finally:
            self._is_storing = False

    async def _store(self, group: list[_Save]) -> None:
        try:
            rows = await self._ask(group, PATIENCE, None)
        except Exception as error:  # noqa: BLE001 (whatever it is, each of them is told)
            for one in group:
                if len(group) > 1 and _is_undone(error):
                    self._begin(self._store_alone(one))
                else:
                    one.fail(error)
            return
        for one, row in zip(group, rows, strict=True):
            if row[4] in KEPT_WAITING:
                self._begin(self._store_alone(one))
            else:
                one.end(row)

    async def _store_alone(self, one: _Save) -> None:
        self._alone[one.who.token_hash] += 1
        try:
            (row,) = await self._ask([one], None, one.who)
            one.end(row)
        except Exception as error:  # noqa: BLE001 (whatever it is, who asked is told)
            one.fail(error)
        finally:
            self._alone[one.who.token_hash] -= 1
            self._alone += Counter()  # forgets who has none

    async def _ask(self, group: list[_Save], patience: str | None, who: Caller | None) -> list[Row]:
        params: dict[str, Any] = {"saves": f"[{','.join(one.text for one in group)}]", "patience": patience}
        if who is not None:
            params |= {"kind": who.kind, "hash": who.token_hash}
        return await self._database.calls("save", params)


def _is_undone(error: Exception) -> bool:
    """Whether nothing is stored for sure; who has lost the connection finds out by asking again with the same key."""
    is_lost = isinstance(error, psycopg.OperationalError) and not isinstance(error, psycopg.errors.QueryCanceled)
    return isinstance(error, psycopg.Error) and not is_lost
