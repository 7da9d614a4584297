"""The scheduler: tells of reminders when they become due. Every process may, and one at a time does.

What it tells and what it puts down are one transaction: when the process dies, the next one finds both or neither.
"""

from __future__ import annotations

import asyncio
import logging
from datetime import datetime, timedelta
from typing import Any

import orjson
import psycopg
from psycopg.types.json import Jsonb
from psycopg_pool import PoolTimeout

from pg_steadytext.memory.domain import reminding
from pg_steadytext.memory.domain.problems import Problem
from pg_steadytext.memory.domain.recurrence import build
from pg_steadytext.memory.storage.database import Connection, Database, Row

PAUSE = 1.0
"""The longest sleep, in seconds; a reminder that is due within it is waited for exactly."""

BATCH = 200
TAKE_BREATH = 0.01
PARK = timedelta(hours=1)

log = logging.getLogger(__name__)


async def tick(database: Database, now: datetime | None = None) -> float:
    """Tell of what is due, and return the seconds until there may be more. ``now`` stands for the database's clock."""
    async with database.pool.connection() as connection, connection.transaction():
        if not (await _one(connection, database, "reminders_lead", {}))[0]:
            return PAUSE
        moment = now or (await _one(connection, database, "scheduler_clock", {}))[0]
        cursor = await connection.execute(database.sql["reminders_to_fire"], {"now": moment, "limit": BATCH})
        rows = await cursor.fetchall()
        if rows:
            fired = Jsonb([_fired(row, moment) for row in rows], dumps=orjson.dumps)
            await _one(connection, database, "fire_reminders", {"fired": fired})
        (wait,) = await _one(connection, database, "reminders_wait", {"now": moment})
    return PAUSE if wait is None else min(PAUSE, max(0.0 if len(rows) == BATCH else TAKE_BREATH, wait))


async def keep_time(database: Database) -> None:
    """Tell of what becomes due, until cancelled."""
    while True:
        try:
            pause = await tick(database)
        except (psycopg.Error, PoolTimeout) as error:
            log.warning("reminders wait for the database: %s", error)
            pause = PAUSE
        await asyncio.sleep(pause)


async def _one(connection: Connection, database: Database, name: str, params: dict[str, Any]) -> Row:
    row = await (await connection.execute(database.sql[name], params)).fetchone()
    assert row is not None
    return row


def _fired(row: Row, now: datetime) -> dict[str, Any]:
    user_id, entry, version, start, zone, rule, excluded, *rest = row
    was = reminding.Standing(*rest)
    try:
        standing = reminding.fire(build(start, zone, rule, excluded), was, now)
        kind, changes = ("due" if standing else "changed"), (standing or was).fields()
    except (Problem, ValueError, OverflowError) as error:
        # A zone that is no more, for instance: the others go on.
        log.warning("reminder %s of %s cannot be told of: %s", entry, user_id, error)
        kind, changes = "changed", {"fire_at": now + PARK}
    due = changes.get("occurrence_at", was.occurrence_at)
    return {"user_id": user_id, "id": entry, "version": version, "kind": kind, "due_at": due, **changes}
