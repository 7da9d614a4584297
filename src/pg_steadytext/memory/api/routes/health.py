"""Whether the service can do its work."""

from __future__ import annotations

import orjson
from fastapi import APIRouter, Response

from pg_steadytext import __version__
from pg_steadytext.memory.api.models import Health
from pg_steadytext.memory.api.replies import JSON, refusals
from pg_steadytext.memory.api.service import Here

router = APIRouter(tags=["service"])


@router.get("/healthz", response_model=Health, responses=refusals())
async def healthz(here: Here) -> Response:
    """Ask the database, and tell the version of the service and the number of its schema."""
    (number,) = await here.database.call("ready", {})
    body = {"status": "ok", "version": __version__, "schema_number": number}
    return Response(orjson.dumps(body), media_type=JSON)
