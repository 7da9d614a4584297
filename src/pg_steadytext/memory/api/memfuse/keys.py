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
from pg_steadytext.memory.api.service import Here
from pg_steadytext.memory.domain.problems import Problem
from pg_steadytext.memory.domain.tokens import KEY_PREFIX, token_hash

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
    """Make a key, of no more scopes than the caller's; without `permissions` it may read and write memories."""
    wish = new or NewKey()
    secret = here.new_token(KEY_PREFIX)
    async with here.database.unit(who, "memories:write") as unit:
        await find(unit, "User", user_id)
        asked = wish.permissions and wish.permissions.scopes
        scopes = list(dict.fromkeys(asked or ("memories:read", "memories:write")))
        if missing := [scope for scope in scopes if scope not in unit.scopes]:
            raise Problem(403, "missing-scope", f"you cannot give the scope {missing[0]}, which you do not have")
        row = await unit.row("add_key", {
            "id": here.new_id(), "name": wish.name, "hash": token_hash(secret), "scopes": scopes,
            "expires_at": wish.expires_at,
        })  # fmt: skip
    assert row is not None
    return success({"api_key": shown(user_id, row[0], secret)}, "API key created successfully", 201)


@router.delete("/{key_id}", response_model=Envelope)
async def revoke_key(here: Here, who: Who, user_id: UUID, key_id: UUID) -> Response:
    """Revoke a key: from the next request on it opens nothing."""
    async with here.database.unit(who, "memories:write") as unit:
        await find(unit, "User", user_id)
        if await unit.row("revoke_key", {"id": key_id}) is None:
            raise absent("API key", key_id)
    return success({"key_id": str(key_id)}, "API key deleted successfully")
