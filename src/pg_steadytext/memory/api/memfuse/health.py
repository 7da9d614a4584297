"""Whether the service can do its work."""

from __future__ import annotations

from fastapi import APIRouter, Response

from pg_steadytext import __version__
from pg_steadytext.memory.api.memfuse.envelope import REFUSALS, Envelope, success
from pg_steadytext.memory.api.service import Here

router = APIRouter(tags=["health"], responses=REFUSALS)

SPOKEN = "0.3.3"
"""The version of the SDK whose surface this is: it warns where a server's differs."""


@router.get("/health", response_model=Envelope)
@router.get("/health/", response_model=Envelope, include_in_schema=False)
async def health(here: Here) -> Response:
    """Ask the database."""
    (number,) = await here.database.call("ready", {})
    told = {"status": "ok", "version": SPOKEN, "service_version": __version__, "schema_number": number}
    return success(told, "Service is healthy")
