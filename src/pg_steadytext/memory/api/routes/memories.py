"""Memories: save, read, list, change, delete, restore, history."""

from __future__ import annotations

from typing import Annotated, Any
from uuid import UUID

import orjson
from fastapi import APIRouter, Depends, Header, Query, Request, Response
from psycopg.types.json import Jsonb
from pydantic import AwareDatetime

from pg_steadytext.memory.api.callers import Who, find_caller
from pg_steadytext.memory.api.failures import refusal
from pg_steadytext.memory.api.models import History, Memories, Memory, MemoryPatch, NewMemory, State, Word
from pg_steadytext.memory.api.once import REPLAYED, KeyHeader, fingerprint, once, received
from pg_steadytext.memory.api.replies import OWN, WRITE, Reply, etag, page, refusals
from pg_steadytext.memory.api.service import Here, of_request
from pg_steadytext.memory.domain import cursors
from pg_steadytext.memory.domain.conditions import idempotency_key, known_versions, names_version
from pg_steadytext.memory.domain.problems import Problem
from pg_steadytext.memory.domain.text import content_hash
from pg_steadytext.memory.storage.database import Row

router = APIRouter(prefix="/memories", tags=["memories"])

PER_PAGE = 50
MOST_PER_PAGE = 200

IfMatch = Annotated[str | None, Header(alias="If-Match", description='The version you know, such as "v1".')]
EMPTIED: dict[str, Any] = {"tags": [], "provenance": {}, "pinned": False}


def dump_json(value: Any) -> str:
    """Spell JSON for PostgreSQL."""
    return orjson.dumps(value).decode()


def note_fields(note: NewMemory, entry: UUID) -> dict[str, Any]:
    """Return what ``memory.add`` takes."""
    return {**note.model_dump(), "id": entry, "content_hash": as_bytea(content_hash(note.body))}


def as_note(note: NewMemory, entry: UUID) -> Jsonb:
    """Return the same as a parameter."""
    return Jsonb(note_fields(note, entry), dumps=dump_json)


def as_bytea(value: bytes | None) -> str | None:
    """Spell bytes for PostgreSQL inside JSON."""
    return None if value is None else "\\x" + value.hex()


def shown(row: Row | None, status: int = 200) -> Reply:
    """Return a version and its JSON as an answer."""
    if row is None:
        raise Problem(404, "not-found", "there is no such memory")
    version, text = row
    return Reply(text, status, etag(version))


@router.post(
    "", status_code=201, response_model=Memory,
    responses={200: {"model": Memory, "description": "The text was there already; nothing was saved."},
               **refusals(*WRITE, 402, 429)},
)  # fmt: skip
async def save(
    request: Request, note: NewMemory, key: KeyHeader = None,
    force: Annotated[bool, Query(description="Save it although the same text is there.")] = False,
) -> Response:  # fmt: skip
    """Save a memory; one of the same text (but for case and white space) is answered instead of saved again."""
    # The hot path: asked for here, and not as dependencies, which cost the framework more than the saved row.
    here, who = of_request(request), find_caller(request)
    word = idempotency_key(key)
    stored = await here.saves.save(
        who,
        {
            "kind": who.kind,
            "hash": as_bytea(who.token_hash),
            "csrf": as_bytea(who.csrf),
            "path": request.url.path if word else None,
            "key": word,
            "fingerprint": as_bytea(await fingerprint(request)) if word else None,
            "note": note_fields(note, here.new_id()),
            "force": force,
        },
    )
    if stored.failure:
        raise refusal(stored.failure, stored.message, stored.detail)
    replayed = REPLAYED if stored.is_replay else {}
    return Reply(stored.body, stored.status, orjson.loads(stored.headers)).response(**replayed)


@router.get("", response_model=Memories, responses=refusals(*OWN))
async def list_all(
    here: Here, who: Who,
    cursor: Annotated[str | None, Query(max_length=500, description="`next_cursor` of the page before.")] = None,
    limit: Annotated[int, Query(ge=1, le=MOST_PER_PAGE)] = PER_PAGE,
    tag: Word | None = None, category: Word | None = None,
    source: Annotated[str | None, Query(max_length=500)] = None,
    since: Annotated[AwareDatetime | None, Query(alias="from", description="Saved at or after this moment.")] = None,
    until: Annotated[AwareDatetime | None, Query(alias="to", description="Saved before this moment.")] = None,
    pinned: bool | None = None,
    embedding: Annotated[State | None, Query(description="Where the embedding stands.")] = None,
    enrichment: Annotated[State | None, Query(description="Where the enrichment stands.")] = None,
    trash: Annotated[bool, Query(description="What is in the trash, instead of what is not.")] = False,
) -> Response:  # fmt: skip
    """List memories, the newest first."""
    after, after_id = cursors.decode(cursor) if cursor else (None, None)
    async with here.database.unit(who, "memories:read") as unit:
        rows = await unit.rows("list_memories", {
            "after": after, "after_id": after_id, "limit": limit + 1, "tag": tag, "category": category,
            "source": source, "from": since, "to": until, "pinned": pinned, "trash": trash,
            "embedding": embedding, "enrichment": enrichment,
        })  # fmt: skip
    kept = rows[:limit]
    more = cursors.encode(kept[-1][0], kept[-1][1]) if len(rows) > limit else None
    return page((text for _, _, text in kept), next_cursor=more)


@router.get(
    "/{memory_id}", response_model=Memory,
    responses={304: {"description": "It is the version that If-None-Match names."}, **refusals(*OWN, 404)},
)  # fmt: skip
async def read(
    here: Here, who: Who, memory_id: UUID,
    trash: Annotated[bool, Query(description="Look in the trash too.")] = False,
    if_none_match: Annotated[str | None, Header(alias="If-None-Match")] = None,
) -> Response:  # fmt: skip
    """Read a memory."""
    async with here.database.unit(who, "memories:read") as unit:
        row = await unit.row("get_memory", {"id": memory_id, "trash": trash})
    reply = shown(row)
    if row and names_version(if_none_match, row[0]):
        return Response(status_code=304, headers=dict(reply.headers))
    return reply.response()


@router.patch("/{memory_id}", response_model=Memory, responses=refusals(*WRITE, 402, 404, 412, 428))
async def change(
    request: Request, here: Here, who: Who, memory_id: UUID, patch: MemoryPatch, if_match: IfMatch = None,
    key: KeyHeader = None,
) -> Response:  # fmt: skip
    """Change fields of a memory, of the version that If-Match names."""
    versions = known_versions(if_match, required=True)
    fields = patch.model_dump(include=patch.model_fields_set)
    if "body" in fields:
        fields["content_hash"] = as_bytea(content_hash(patch.body))
    params = {"id": memory_id, "versions": versions, "patch": Jsonb(fields, dumps=dump_json)}
    async with here.database.unit(who, "memories:write") as unit:

        async def effect() -> Reply:
            return shown(await unit.row("change_memory", params))

        return await once(unit, request, key, effect)


@router.delete("/{memory_id}", status_code=204, response_model=None, responses=refusals(*OWN, 404, 412))
async def delete(
    here: Here, who: Who, memory_id: UUID, if_match: IfMatch = None,
    permanent: Annotated[bool, Query(description="For good, and not to the trash.")] = False,
) -> Response:  # fmt: skip
    """Put a memory into the trash, where it stays for 30 days, or delete it for good."""
    params = {"id": memory_id, "versions": known_versions(if_match, required=False)}
    async with here.database.unit(who, "memories:write") as unit:
        await unit.rows("purge_memory" if permanent else "trash_memory", params)
    return Response(status_code=204)


@router.post(
    "/{memory_id}/restore", response_model=Memory, dependencies=[Depends(received)],
    responses=refusals(*OWN, 404, 409),
)  # fmt: skip
async def restore(request: Request, here: Here, who: Who, memory_id: UUID, key: KeyHeader = None) -> Response:
    """Take a memory out of the trash."""
    async with here.database.unit(who, "memories:write") as unit:

        async def effect() -> Reply:
            return shown(await unit.row("restore_memory", {"id": memory_id}))

        return await once(unit, request, key, effect)


@router.get("/{memory_id}/history", response_model=History, responses=refusals(*OWN, 404))
async def history(
    here: Here, who: Who, memory_id: UUID,
    before: Annotated[int | None, Query(ge=1, le=2**62, description="Versions before this one.")] = None,
    limit: Annotated[int, Query(ge=1, le=MOST_PER_PAGE)] = PER_PAGE,
) -> Response:  # fmt: skip
    """Tell who changed what, the newest version first."""
    async with here.database.unit(who, "memories:read") as unit:
        if await unit.row("get_memory", {"id": memory_id, "trash": True}) is None:
            raise Problem(404, "not-found", "there is no such memory")
        wanted = {"id": memory_id, "before": before or 2**62, "limit": limit + 1}
        rows = [text for (text,) in await unit.rows("list_history", wanted)]
    more = orjson.loads(rows[limit - 1])["version"] if len(rows) > limit else None
    return page(rows[:limit], next_before=more)
