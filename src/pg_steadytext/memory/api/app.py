"""The application: endpoints, failures, documentation, and what runs beside the requests."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

from fastapi import FastAPI

from pg_steadytext import __version__
from pg_steadytext.heartbeat import heartbeat
from pg_steadytext.memory.api import failures
from pg_steadytext.memory.api.callers import COOKIE, CSRF_HEADER, check_known
from pg_steadytext.memory.api.gate import Gate
from pg_steadytext.memory.api.memfuse.app import create as create_memfuse
from pg_steadytext.memory.api.memfuse.envelope import PREFIX as MEMFUSE
from pg_steadytext.memory.api.models import ProblemDocument
from pg_steadytext.memory.api.routes import ROUTERS, health
from pg_steadytext.memory.api.service import Service
from pg_steadytext.memory.api.stopping import told_to_stop
from pg_steadytext.memory.flags import make_flags
from pg_steadytext.memory.jobs.alerts import channels_of
from pg_steadytext.memory.jobs.cleanup import clean_hourly
from pg_steadytext.memory.jobs.reminders import keep_time
from pg_steadytext.memory.jobs.upkeep import keep_up_each_minute, send_alerts
from pg_steadytext.memory.meaning import Meaning
from pg_steadytext.memory.settings import MemorySettings
from pg_steadytext.memory.spending import make_guard
from pg_steadytext.memory.storage.database import Database
from pg_steadytext.memory.storage.notices import Notices
from pg_steadytext.memory.storage.saves import Saves

PUBLIC = ("/healthz", "/v1/auth/register", "/v1/auth/login", "/v1/reminders/feed.ics")
SCHEMES = {
    "bearer": {"type": "http", "scheme": "bearer"},
    "api_key": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
    "session": {
        "type": "apiKey", "in": "cookie", "name": COOKIE,
        "description": f"Of a web session; requests that change something also send {CSRF_HEADER}.",
    },
}  # fmt: skip


def create(settings: MemorySettings, *, sql: Mapping[str, bytes] | None = None) -> FastAPI:
    """Make the application; ``sql`` replaces the statements, by name."""
    database = Database(settings.public, settings.connections, settings.wait_seconds, sql)
    guard = make_guard(settings, database)
    meaning = Meaning(settings.public.daemon_endpoint, guard, settings.search_deadline_ms)
    notices = Notices(database, settings.streams_per_user)
    bulk = asyncio.Semaphore(max(1, settings.connections // 2))
    flags = make_flags(settings, database)
    service = Service(settings, database, Saves(database), guard, meaning, notices, flags, bulk)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        await database.open()
        meaning.open()
        work = (
            clean_hourly(database), keep_up_each_minute(database), send_alerts(database, channels_of(settings)),
            service.notices.listen(), keep_time(database),
        )  # fmt: skip
        tasks = [asyncio.create_task(one) for one in work]
        try:
            with told_to_stop(service.notices.stop):
                async with heartbeat():
                    yield
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            meaning.close()
            await guard.close()
            await database.close()

    app = FastAPI(
        title="Memory Connector", version=__version__, lifespan=lifespan, docs_url="/docs", redoc_url=None,
        summary="Save, find and keep memories, for people and agents.",
    )  # fmt: skip
    app.state.service = service
    failures.install(app)
    app.add_middleware(
        Gate,
        max_bytes=settings.max_request_bytes,
        max_import_bytes=settings.max_import_bytes,
        check=partial(check_known, database),
    )
    # Each into the application itself: a router within a router is searched once more for every request.
    for router in ROUTERS:
        app.include_router(router, prefix="/v1")
    app.include_router(health.router)
    app.mount(MEMFUSE, create_memfuse(service))
    _describe(app)
    return app


def _describe(app: FastAPI) -> None:
    generate = app.openapi

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            document = generate()
            components = document.setdefault("components", {})
            components.setdefault("schemas", {})["ProblemDocument"] = ProblemDocument.model_json_schema()
            components["securitySchemes"] = SCHEMES
            document["security"] = [{name: []} for name in SCHEMES]
            for path in PUBLIC:
                for operation in document["paths"][path].values():
                    operation["security"] = []
            app.openapi_schema = document
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]
