"""The application below /api/v1: its own answers to failures, its own OpenAPI document."""

from __future__ import annotations

from fastapi import FastAPI

from pg_steadytext import __version__
from pg_steadytext.memory.api import failures
from pg_steadytext.memory.api.memfuse import health, keys, knowledge, messages, people, query, sessions
from pg_steadytext.memory.api.memfuse.envelope import as_envelope
from pg_steadytext.memory.api.service import Service

ROUTERS = (
    health.router, people.users, people.agents, query.router, knowledge.router, keys.router, messages.router,
    sessions.router,
)  # fmt: skip


def create(service: Service) -> FastAPI:
    """Make the application that is mounted."""
    app = FastAPI(title="Memory Connector for memfuse", version=__version__, docs_url="/docs", redoc_url=None)
    app.state.service = service
    failures.install(app, as_envelope)
    for router in ROUTERS:
        app.include_router(router)
    return app
