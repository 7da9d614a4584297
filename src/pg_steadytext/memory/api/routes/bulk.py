"""Many memories at once: import and export as JSON Lines and as Markdown."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from itertools import islice
from typing import Annotated, Any, Literal

import orjson
from fastapi import APIRouter, Header, Query, Request, Response
from pydantic import ValidationError

from pg_steadytext.memory.api.callers import Who
from pg_steadytext.memory.api.exports import NDJSON, exported
from pg_steadytext.memory.api.failures import SHOWN_ERRORS
from pg_steadytext.memory.api.gate import IMPORT_TYPES
from pg_steadytext.memory.api.models import Imported, ImportedMemory
from pg_steadytext.memory.api.once import KeyHeader, once
from pg_steadytext.memory.api.replies import OWN, WRITE, Reply, refusals
from pg_steadytext.memory.api.routes.memories import as_note
from pg_steadytext.memory.api.service import Here
from pg_steadytext.memory.domain import markdown
from pg_steadytext.memory.domain.problems import Problem

router = APIRouter(prefix="/memories", tags=["memories"])

MOST = 20_000
MARKDOWN = "text/markdown"
TEXT = {"schema": {"type": "string"}}
BODY = {"requestBody": {"required": True, "content": dict.fromkeys(IMPORT_TYPES, TEXT)}}
EXPORTED: dict[int | str, dict[str, Any]] = {
    200: {"description": "The memories, the oldest first.", "content": {NDJSON: TEXT, MARKDOWN: TEXT}}
}


@router.post(
    "/import", response_model=Imported, openapi_extra=BODY, responses=refusals(*WRITE, 402, 429)
)  # fmt: skip
async def import_all(
    request: Request, here: Here, who: Who, key: KeyHeader = None,
    force: Annotated[bool, Query(description="Save texts that are there already, too.")] = False,
    kind: Annotated[str | None, Header(alias="Content-Type", include_in_schema=False)] = None,
) -> Response:  # fmt: skip
    """Import memories, all or none of them: each counts as a save, except those whose text is there already."""
    media_type = (kind or "").partition(";")[0].strip().lower()
    if media_type not in IMPORT_TYPES:
        raise Problem(415, "media-type", f"Content-Type must be one of {', '.join(IMPORT_TYPES)}")
    # Many of them take seconds, which other requests need not wait for.
    notes = await asyncio.to_thread(read_notes, await request.body(), media_type)
    async with here.bulk, here.database.unit(who, "memories:write") as unit:

        async def effect() -> Reply:
            ids: list[str] = []
            created = 0
            for note in notes:
                row = await unit.row("add", {"note": as_note(note, here.new_id()), "force": force})
                assert row is not None
                created += row[0]
                ids.append(str(row[1]))
            done = {"created": created, "duplicates": len(notes) - created, "ids": ids}
            return Reply(orjson.dumps(done).decode())

        return await once(unit, request, key, effect)


@router.get("/export", response_class=Response, responses={**EXPORTED, **refusals(*OWN)})
async def export_all(
    here: Here, who: Who, form: Annotated[Literal["jsonl", "markdown"], Query(alias="format")] = "jsonl"
) -> Response:
    """Export the memories that are not in the trash, the oldest first, in a form that the import reads."""
    if form == "jsonl":
        return await exported(here, who, "export_memories", NDJSON)
    return await exported(here, who, "export_memories", MARKDOWN, lambda text: markdown.write(orjson.loads(text)))


def read_notes(body: bytes, media_type: str) -> list[ImportedMemory]:
    """Read a whole import. Raises ``Problem`` 400 for what cannot be read, 422 with the place of each wrong entry."""
    try:
        text = body.decode()
    except UnicodeDecodeError as error:
        raise Problem(400, "bad-encoding", "the body must be UTF-8") from error
    entries = list(islice(_markdown(text) if media_type == MARKDOWN else _lines(text), MOST + 1))
    if len(entries) > MOST:
        raise Problem(413, "too-many", f"an import holds at most {MOST} memories")
    notes: list[ImportedMemory] = []
    errors: list[dict[str, Any]] = []
    for place, entry in entries:
        try:
            notes.append(ImportedMemory.model_validate(entry))
        except ValidationError as error:
            one = error.errors()[0]
            where = ".".join(str(step) for step in one["loc"])
            errors.append({"entry": place, "at": where, "says": one["msg"]})
    if errors:
        members = {"errors": errors[:SHOWN_ERRORS], "error_count": len(errors)}
        first = errors[0]
        raise Problem(422, "bad-entries", f"entry {first['entry']}: {first['at']}: {first['says']}", members)
    return notes


def _lines(text: str) -> Iterable[tuple[int, Any]]:
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip():
            try:
                yield number, orjson.loads(line)
            except orjson.JSONDecodeError as error:
                raise Problem(400, "bad-json", f"line {number} is not JSON: {error}") from error


def _markdown(text: str) -> Iterable[tuple[int, Any]]:
    return enumerate(markdown.read(text), 1)
