"""Idempotency-Key (draft-ietf-httpapi-idempotency-key-header): one effect, and its answer again to every repetition."""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable
from typing import Annotated

import orjson
from fastapi import Header, Request, Response
from psycopg.types.json import Jsonb

from pg_steadytext.memory.api.replies import Reply
from pg_steadytext.memory.domain.conditions import idempotency_key
from pg_steadytext.memory.storage.database import Unit

REPLAYED = {"Idempotent-Replayed": "true"}

KeyHeader = Annotated[
    str | None,
    Header(
        alias="Idempotency-Key",
        description="A quoted string, unique to this effect. A repetition within 24 hours gets the same answer.",
    ),
]


async def received(request: Request) -> None:
    """Wait for the body of a request whose endpoint takes none: a client that is slow must not hold a connection."""
    await request.body()


async def fingerprint(request: Request) -> bytes:
    """Digest what makes a request another one: its query, its condition, its type and its body."""
    parts = (
        request.scope["query_string"],
        request.headers.get("if-match", "").encode(),
        request.headers.get("content-type", "").encode(),
        await request.body(),
    )
    return hashlib.sha256(b"".join(len(part).to_bytes(8, "big") + part for part in parts)).digest()


async def once(unit: Unit, request: Request, header: str | None, effect: Callable[[], Awaitable[Reply]]) -> Response:
    """Carry out the effect, or answer as it was answered before. The answer is stored in the effect's transaction."""
    key = idempotency_key(header)
    if key is None:
        return (await effect()).response()
    which = {
        "method": request.method,
        "path": request.url.path,
        "key": key,
        "fingerprint": await fingerprint(request),
    }
    if stored := await unit.row("idempotency_begin", which):
        status, headers, body = stored
        return Reply(body, status, orjson.loads(headers)).response(**REPLAYED)
    reply = await effect()
    stored_as = {"status": reply.status, "headers": Jsonb(dict(reply.headers)), "body": reply.body}
    await unit.rows("idempotency_end", {**which, **stored_as})
    return reply.response()
