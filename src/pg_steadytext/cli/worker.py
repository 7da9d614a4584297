"""``pg-steadytext worker``: the queue and the maintenance of one database, in the foreground."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from importlib.util import find_spec
from typing import Annotated
from uuid import UUID

import typer
from prometheus_client import CollectorRegistry

from pg_steadytext.cli.console import speaks_plainly
from pg_steadytext.daemon.http import HttpServer
from pg_steadytext.queue.guests import MakeLane
from pg_steadytext.queue.jobs import Handler
from pg_steadytext.queue.options import GRACE_SECONDS, LEASE_SECONDS, WorkerOptions, connector
from pg_steadytext.queue.sessions import Connect
from pg_steadytext.queue.worker import serve
from pg_steadytext.settings import Settings
from pg_steadytext.store.lane import LANE, AutoembedLane
from pg_steadytext.store.layers import Layers
from pg_steadytext.store.metrics import StoreCollector

GUARD_CONNECTIONS = 4


@speaks_plainly
def worker(
    lanes: Annotated[str | None, typer.Option(help="Lanes to take from, with commas between; all by default.")] = None,
    concurrency: Annotated[
        int | None, typer.Option(min=1, help="Texts generated at once; by default twice the cores, at most 16.")
    ] = None,
    name: Annotated[str | None, typer.Option(help="This worker's name; by default its machine and process.")] = None,
    grace: Annotated[float, typer.Option(min=0, help="Seconds that running work gets when stopped.")] = GRACE_SECONDS,
    lease: Annotated[
        float, typer.Option(min=1, help="Seconds after which another worker takes what a lost one held.")
    ] = LEASE_SECONDS,
    metrics_port: Annotated[
        int | None,
        typer.Option(min=1, max=65535, help="Loopback port of /metrics for the store's figures; none by default."),
    ] = None,
) -> None:
    """Drain the queue and look after the cache, for the database that PG* or the home's settings name."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s [%(process)d] %(message)s")
    chosen = [lane.strip() for lane in lanes.split(",")] if lanes is not None else None
    settings = Settings.load()
    connect = connector(settings)

    async def work() -> None:
        async with _memory_lanes(connect) as (guests, more):
            options = WorkerOptions.choose(
                chosen,
                concurrency=concurrency,
                name=name,
                grace_seconds=grace,
                lease_seconds=lease,
                guests={LANE: AutoembedLane, **guests},
                more=[Layers(connect), *more],
            )
            await serve(settings, options)

    served = _serve_metrics(metrics_port, settings)
    try:
        asyncio.run(work())
    finally:
        served.close()


def _serve_metrics(port: int | None, settings: Settings) -> HttpServer:
    registry = CollectorRegistry()
    if port is not None:
        registry.register(StoreCollector(settings))
    return HttpServer(port, registry, lambda: {"status": "ok"})


@asynccontextmanager
async def _memory_lanes(connect: Connect) -> AsyncIterator[tuple[dict[str, MakeLane], list[Handler]]]:
    """Yield what works on memories, behind their budget; nothing where the memory service is not installed."""
    if any(find_spec(needed) is None for needed in ("redis", "psycopg_pool", "openfeature", "rapidfuzz")):
        yield {}, []
        return
    from pg_steadytext.memory.flags import NEAR_DUPLICATES, make_flags
    from pg_steadytext.memory.jobs import comparing, consuming, pending, relay
    from pg_steadytext.memory.jobs.brokers.choice import make_broker
    from pg_steadytext.memory.jobs.embedding import MemoryEmbedding
    from pg_steadytext.memory.jobs.enrichment import CONCURRENCY, Describing, MemoryEnrichment
    from pg_steadytext.memory.settings import MemorySettings
    from pg_steadytext.memory.spending import make_guard
    from pg_steadytext.memory.storage.database import Database

    settings = MemorySettings.load()
    # Two connections: a broker that slows its publishers down shall not slow down what empties it.
    sending, receiving = (make_broker(settings.enrichment_queue, CONCURRENCY) for _ in range(2))
    database = Database(settings.public, GUARD_CONNECTIONS, settings.wait_seconds, ready=0)
    guard = make_guard(settings, database)
    flags = make_flags(settings, database)
    written = asyncio.Event()

    async def is_on(user: UUID) -> bool:
        return await flags.is_on(NEAR_DUPLICATES, user)

    await database.open()
    handlers: list[Handler] = [
        MemoryEmbedding(connect, guard, written),
        comparing.Comparing(database, is_on, written),
    ]
    guests: dict[str, MakeLane] = {
        pending.LANE: partial(pending.PendingLane, enriches=settings.enrichment and sending is None),
        comparing.GUEST: comparing.make_lane(database, is_on, written),
    }
    if settings.enrichment:
        describing = Describing(connect, guard, settings.enrichment_model)
        handlers.append(MemoryEnrichment(describing))  # with a broker too, for what is queued since before
        if sending is not None and receiving is not None:
            guests[relay.GUEST] = relay.make_lane(sending, settings.enrichment_lease_seconds)
            guests[consuming.GUEST] = consuming.make_lane(receiving, describing)
    try:
        yield guests, handlers
    finally:
        for broker in (sending, receiving):
            if broker is not None:
                await broker.close()
        await guard.close()
        await database.close()
