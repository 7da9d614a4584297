"""Runs the HTTP server."""

from __future__ import annotations

import uvicorn
from fastapi import FastAPI

from pg_steadytext.memory.api.app import create
from pg_steadytext.memory.settings import MemorySettings

FACTORY = "pg_steadytext.memory.serve:from_environment"
STOP_SECONDS = 10


def from_environment() -> FastAPI:
    """Make the application of a worker process, which knows nothing but the environment."""
    return create(MemorySettings.load())


def run(settings: MemorySettings) -> None:
    """Serve until SIGTERM or SIGINT, and let what is in flight finish."""
    several = settings.workers > 1
    uvicorn.run(
        FACTORY if several else create(settings),
        factory=several,
        host=settings.host,
        port=settings.port,
        workers=settings.workers,
        log_level="info",
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=STOP_SECONDS,
    )
