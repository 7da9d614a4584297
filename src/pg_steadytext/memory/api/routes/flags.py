"""Feature flags, for administrators."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path, Response
from psycopg.types.json import Jsonb

from pg_steadytext.memory.api.callers import Who
from pg_steadytext.memory.api.models_duplicates import Flag, FlagList, NewFlag
from pg_steadytext.memory.api.replies import OWN, WRITE, Reply, page, refusals
from pg_steadytext.memory.api.service import Here
from pg_steadytext.memory.domain.problems import Problem

router = APIRouter(prefix="/admin/flags", tags=["administration"])

Key = Annotated[str, Path(pattern=r"^[a-z0-9][a-z0-9_.-]{0,99}$")]


@router.get("", response_model=FlagList, responses=refusals(*OWN))
async def list_flags(here: Here, who: Who) -> Response:
    """List the feature flags."""
    async with here.database.unit(who, "admin") as unit:
        rows = await unit.rows("list_flags")
    return page(text for (text,) in rows)


@router.get("/{key}", response_model=Flag, responses=refusals(*OWN, 404))
async def read_flag(here: Here, who: Who, key: Key) -> Response:
    """Read a feature flag."""
    async with here.database.unit(who, "admin") as unit:
        row = await unit.row("get_flag", {"key": key})
    if row is None:
        raise Problem(404, "not-found", "there is no such flag")
    return Reply(row[0]).response()


@router.put("/{key}", response_model=Flag, responses=refusals(*WRITE))
async def put_flag(here: Here, who: Who, key: Key, flag: NewFlag) -> Response:
    """Make a feature flag, or replace it; every process follows within a few seconds."""
    async with here.database.unit(who, "admin") as unit:
        row = await unit.row("put_flag", {"key": key, "flag": Jsonb(flag.model_dump(mode="json"))})
    assert row is not None
    return Reply(row[0]).response()
