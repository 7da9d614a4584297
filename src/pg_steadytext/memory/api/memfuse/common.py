"""What several endpoints need: objects that must be there, and memories as the SDK's nouns."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Any
from uuid import UUID

import psycopg
from fastapi import Response
from psycopg.types.json import Jsonb

from pg_steadytext.memory.api.memfuse.envelope import success
from pg_steadytext.memory.api.models import NewMemory
from pg_steadytext.memory.api.routes.memories import as_note, dump_json
from pg_steadytext.memory.api.service import Service
from pg_steadytext.memory.domain.problems import Problem
from pg_steadytext.memory.domain.text import content_hash
from pg_steadytext.memory.storage.database import Caller, Row, Unit

SOURCE = "memfuse"

Shown = dict[str, Any]


def absent(noun: str, which: object) -> Problem:
    """Return the refusal of what is not there."""
    return Problem(404, "not-found", f"{noun} {str(which)!r} not found")


async def find(unit: Unit, noun: str, which: UUID) -> Shown:
    """Return a user, agent or session. Raises ``Problem`` 404."""
    nothing = {"name": None, "memfuse_user": None, "agent": None}
    row = await unit.row(f"memfuse_{noun.lower()}s", {**nothing, "id": which})
    if row is None:
        raise absent(noun, which)
    found: Shown = row[0]
    return found


async def find_user(unit: Unit, which: str) -> Shown:
    """Return a user by id, or by name as the SDK's server does. Raises ``Problem`` 404."""
    try:
        return await find(unit, "User", UUID(which))
    except ValueError:
        # PostgreSQL's text holds no NUL, and no name does.
        row = None if "\x00" in which else await unit.row("memfuse_users", {"id": None, "name": which})
    if row is None:
        raise absent("User", which)
    found: Shown = row[0]
    return found


@asynccontextmanager
async def naming(here: Service, who: Caller, taken: str) -> AsyncIterator[Unit]:
    """Open a unit that writes a name. Raises ``Problem`` 409 that says ``taken`` if something else has the name."""
    try:
        async with here.database.unit(who, "memories:write") as unit:
            yield unit
    except psycopg.errors.UniqueViolation:
        raise Problem(409, "name-taken", taken) from None


def made_or_found(noun: str, shown: Row | None, *, is_new: bool) -> Response:
    """Answer with what was just made, or with what was there already."""
    assert shown is not None
    data = {noun.lower(): shown[0]}
    return success(data, f"{noun} created successfully", 201) if is_new else success(data, f"{noun} exists")


def provenance(user_id: str, role: str | None, metadata: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return what a memory keeps of what it was."""
    return {
        "memfuse_user": user_id,
        **({"role": role} if role else {}),
        **({"metadata": dict(metadata)} if metadata else {}),
    }


async def add(unit: Unit, entry: UUID, at: datetime | None = None, **fields: Any) -> str:
    """Save a memory though its text is there already: a message said twice is two messages."""
    note = as_note(NewMemory(source=SOURCE, **fields), entry)
    note.obj["created_at"] = at
    row = await unit.row("add", {"note": note, "force": True})
    assert row is not None
    return str(row[1])


async def rewrite(unit: Unit, which: UUID, body: str, more: Mapping[str, Any] | None = None) -> None:
    """Put another text into a memory."""
    patch = {"body": body, "content_hash": "\\x" + content_hash(body).hex(), **(more or {})}
    await unit.rows("change_memory", {"id": which, "versions": None, "patch": Jsonb(patch, dumps=dump_json)})


async def put_away(unit: Unit, ids: Sequence[UUID]) -> None:
    """Put memories into the trash."""
    for which in dict.fromkeys(ids):
        await unit.rows("trash_memory", {"id": which, "versions": None})


def in_order(noun: str, ids: Sequence[UUID], found: Sequence[tuple[Any, ...]]) -> list[Shown]:
    """Return what was found in the order it was asked for. Raises ``Problem`` 404 for what was not."""
    by_id = {shown["id"]: shown for (shown,) in found}
    for which in ids:
        if str(which) not in by_id:
            raise absent(noun, which)
    return [by_id[str(which)] for which in ids]
