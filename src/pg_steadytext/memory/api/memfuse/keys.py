"""API keys. They are the account's: each opens all of its users."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import orjson
from fastapi import APIRouter, Response

from pg_steadytext.memory.api.callers import Who
from pg_steadytext.memory.api.memfuse.common import absent, find
from pg_steadytext.memory.api.memfuse.envelope import REFUSALS, Envelope, success
from pg_steadytext.memory.api.memfuse.models import NewKey
from pg_steadytext.memory.api.routes.people import make_key
from pg_steadytext.memory.api.service import Here

router = APIRouter(prefix="/users/{user_id}/api-keys", tags=["api keys"], responses=REFUSALS)


HIDDEN = "*" * 8


def shown(user_id: UUID, key: dict[str, Any], secret: str) -> dict[str, Any]:
    """Return a key as the SDK reads it."""
    return {**key, "user_id": str(user_id), "key": secret, "permissions": {"scopes": key["scopes"]}}


@router.get("", response_model=Envelope)
async def list_keys(here: Here, who: Who, user_id: UUID) -> Response:
    """List the account's keys that are not revoked, without their secrets."""
    async with here.database.unit(who, "memories:read") as unit:
        await find(unit, "User", user_id)
        keys = [orjson.loads(text) for (text,) in await unit.rows("list_keys")]
    current = [shown(user_id, key, HIDDEN) for key in keys if key["revoked_at"] is None]
    return success({"api_keys": current}, "API keys retrieved successfully")


@router.post("", status_code=201, response_model=Envelope)
async def add_key(here: Here, who: Who, user_id: UUID, new: NewKey | None = None) -> Response:
    """Make a key, of no more scopes than the caller's and no longer life.

    Without `permissions` it may read and write memories.
    """
    wish = new or NewKey()
    async with here.database.unit(who, "memories:write") as unit:
        await find(unit, "User", user_id)
        asked = wish.permissions and wish.permissions.scopes
        key, secret = await make_key(
            here, unit, wish.name, asked or ("memories:read", "memories:write"), wish.expires_at
        )
    return success({"api_key": shown(user_id, key, secret)}, "API key created successfully", 201)


@router.delete("/{key_id}", response_model=Envelope)
async def revoke_key(here: Here, who: Who, user_id: UUID, key_id: UUID) -> Response:
    """Revoke a key: from the next request on it opens nothing."""
    async with here.database.unit(who, "memories:write") as unit:
        await find(unit, "User", user_id)
        if await unit.row("revoke_key", {"id": key_id}) is None:
            raise absent("API key", key_id)
    return success({"key_id": str(key_id)}, "API key deleted successfully")
