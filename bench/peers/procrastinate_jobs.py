"""procrastinate's side of the queue benchmark; runs in an environment of its own, which the benchmark makes.

``install``; ``enqueue COUNT``; ``work`` (says ready when it waits for jobs). Connects through PG*.
"""

from __future__ import annotations

import asyncio
import sys

from procrastinate import App, PsycopgConnector

CONCURRENCY = 100
START_SECONDS = 1

app = App(connector=PsycopgConnector(min_size=4, max_size=16))


@app.task(name="noop")
async def noop() -> None:
    """Do nothing."""


async def main(command: str, count: int) -> None:
    """Carry out one command."""
    async with app.open_async():
        if command == "install":
            await app.schema_manager.apply_schema_async()
        elif command == "enqueue":
            await noop.batch_defer_async(*({} for _ in range(count)))
        else:
            working = asyncio.create_task(app.run_worker_async(concurrency=CONCURRENCY, delete_jobs="always"))
            await asyncio.sleep(START_SECONDS)
            print("ready", flush=True)
            await working


asyncio.run(main(sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 0))
