"""What spending needs every minute: lost reservations ended, costs brought up to date, alerts sent."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping

import psycopg
from psycopg_pool import PoolTimeout

from pg_steadytext.memory.jobs.alerts import Channel, send_due
from pg_steadytext.memory.storage.database import Database

MINUTE = 60.0
ALERT_SECONDS = 5.0

log = logging.getLogger(__name__)


async def keep_up(database: Database) -> dict[str, int]:
    """Do a minute's work, of which each process does what no other one is doing; returns how much of each."""
    swept = 0
    while (done := (await database.call("sweep", {}))[0]) > 0:
        swept += done
    (forgotten,) = await database.call("forget_calls", {})
    (refreshed,) = await database.call("refresh_costs", {})
    return {"reservations": swept, "seconds": forgotten, "refreshes": int(refreshed)}


async def keep_up_each_minute(database: Database, pause: float = MINUTE) -> None:
    """Keep up now and every minute, until cancelled."""
    while True:
        try:
            done = await keep_up(database)
        except (psycopg.Error, PoolTimeout) as error:
            log.warning("the costs were not brought up to date: %s", error)
        else:
            if done["reservations"]:
                log.warning("%s calls were never settled and count as spent", done["reservations"])
        await asyncio.sleep(pause)


async def send_alerts(database: Database, channels: Mapping[str, Channel], pause: float = ALERT_SECONDS) -> None:
    """Send alerts as they come, until cancelled."""
    while True:
        try:
            await send_due(database, channels)
        except (psycopg.Error, PoolTimeout) as error:
            log.warning("no alert could be looked for: %s", error)
        await asyncio.sleep(pause)
