"""pgqueuer's side of the queue benchmark; runs in an environment of its own, which the benchmark makes.

``install``; ``enqueue COUNT``; ``work`` (says ready when it waits for jobs). Connects through PG*.
"""

from __future__ import annotations

import asyncio
import sys
from datetime import timedelta

import asyncpg
import uvloop
from pgqueuer import PgQueuer, Queries
from pgqueuer.db import AsyncpgDriver
from pgqueuer.models import Job

BATCH = 1000
START_SECONDS = 1


async def main(command: str, count: int) -> None:
    """Carry out one command."""
    connection = await asyncpg.connect()
    driver = AsyncpgDriver(connection)
    queries = Queries(driver)
    if command == "install":
        await queries.install()
    elif command == "enqueue":
        await queries.enqueue(["noop"] * count, [None] * count, [0] * count)
    else:
        worker = PgQueuer(driver)

        @worker.entrypoint("noop")
        async def noop(job: Job) -> None:
            pass

        working = asyncio.create_task(worker.run(batch_size=BATCH, dequeue_timeout=timedelta(seconds=1)))
        await asyncio.sleep(START_SECONDS)
        print("ready", flush=True)
        await working


uvloop.run(main(sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 0))
