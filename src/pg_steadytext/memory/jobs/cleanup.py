"""Clears away what an hour leaves behind; any process may, and one at a time does."""

from __future__ import annotations

import asyncio
import logging

import psycopg
from psycopg_pool import PoolTimeout

from pg_steadytext.memory.storage.database import Database

HOUR = 3600.0
BATCH = 1000

log = logging.getLogger(__name__)


async def clean(database: Database) -> dict[str, int]:
    """Clear away everything that is due, in batches; returns how much of each kind."""
    total = {"idempotency_keys": 0, "web_sessions": 0, "trashed": 0, "purged": 0}
    while True:
        done = dict(zip(total, await database.call("cleanup", {}), strict=True))
        for kind, number in done.items():
            total[kind] += number
        if done["trashed"] + done["purged"] < BATCH:
            (events,) = await database.call("clear_reminder_events", {})
            tombstones, operations = await database.call("cleanup_sync", {})
            return {
                **total,
                "reminder_events": events,
                "tombstones": tombstones,
                "sync_operations": operations,
            }


async def clean_hourly(database: Database, pause: float = HOUR) -> None:
    """Clear away now and every hour, until cancelled."""
    while True:
        try:
            done = await clean(database)
        except (psycopg.Error, PoolTimeout) as error:
            log.warning("nothing was cleared away this hour: %s", error)
        else:
            if any(done.values()):
                log.info("cleared away: %s", done)
        await asyncio.sleep(pause)
