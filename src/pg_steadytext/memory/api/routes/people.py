"""Agents, conversations and API keys of a user."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import orjson
from fastapi import APIRouter, Request, Response
from psycopg.types.json import Jsonb

from pg_steadytext.memory.api.callers import Who
from pg_steadytext.memory.api.models import (
    Agent,
    Agents,
    KeyOnce,
    Keys,
    NewAgent,
    NewKey,
    NewSession,
    Session,
    Sessions,
)
from pg_steadytext.memory.api.once import KeyHeader, once
from pg_steadytext.memory.api.replies import OWN, WRITE, Reply, page, refusals
from pg_steadytext.memory.api.service import Here, Service
from pg_steadytext.memory.domain.problems import Problem
from pg_steadytext.memory.domain.tokens import KEY_PREFIX, token_hash
from pg_steadytext.memory.storage.database import Unit

router = APIRouter(tags=["account"])


@router.get("/agents", response_model=Agents, responses=refusals(*OWN))
async def list_agents(here: Here, who: Who) -> Response:
    """List the user's agents, the newest first."""
    async with here.database.unit(who, "memories:read") as unit:
        rows = await unit.rows("list_agents")
    return page(text for (text,) in rows)


@router.post("/agents", status_code=201, response_model=Agent, responses=refusals(*WRITE))
async def add_agent(request: Request, here: Here, who: Who, agent: NewAgent, key: KeyHeader = None) -> Response:
    """Name an agent; a name is taken once."""
    params = {"id": here.new_id(), "name": agent.name, "metadata": Jsonb(agent.metadata)}
    async with here.database.unit(who, "memories:write") as unit:

        async def effect() -> Reply:
            row = await unit.row("add_agent", params)
            if row is None:
                raise Problem(409, "name-taken", "there is an agent of this name")
            return Reply(row[0], 201)

        return await once(unit, request, key, effect)


@router.get("/sessions", response_model=Sessions, responses=refusals(*OWN))
async def list_sessions(here: Here, who: Who) -> Response:
    """List the user's conversations, the newest first."""
    async with here.database.unit(who, "memories:read") as unit:
        rows = await unit.rows("list_sessions")
    return page(text for (text,) in rows)


@router.post("/sessions", status_code=201, response_model=Session, responses=refusals(*WRITE))
async def add_session(request: Request, here: Here, who: Who, session: NewSession, key: KeyHeader = None) -> Response:
    """Begin a conversation that memories can name."""
    params = {"id": here.new_id(), "name": session.name, "agent_id": session.agent_id,
              "metadata": Jsonb(session.metadata)}  # fmt: skip
    async with here.database.unit(who, "memories:write") as unit:

        async def effect() -> Reply:
            if session.agent_id and await unit.row("has_agent", {"id": session.agent_id}) is None:
                raise Problem(422, "unknown-agent", "agent_id names no agent of yours")
            row = await unit.row("add_session", params)
            assert row is not None
            return Reply(row[0], 201)

        return await once(unit, request, key, effect)


@router.get("/keys", response_model=Keys, responses=refusals(*OWN))
async def list_keys(here: Here, who: Who) -> Response:
    """List the user's API keys without their secrets, revoked ones too."""
    async with here.database.unit(who, "memories:read") as unit:
        rows = await unit.rows("list_keys")
    return page(text for (text,) in rows)


@router.post("/keys", status_code=201, response_model=KeyOnce, responses=refusals(*WRITE))
async def add_key(here: Here, who: Who, key: NewKey) -> Response:
    """Make an API key, of no more scopes than the caller's and no longer life.

    Its secret is in this answer and nowhere else; for that reason the answer is not kept under an Idempotency-Key.
    """
    async with here.database.unit(who, "memories:write") as unit:
        shown, secret = await make_key(here, unit, key.name, key.scopes, key.expires_at)
    return Response(orjson.dumps({**shown, "key": secret}), 201, media_type="application/json")


async def make_key(
    here: Service, unit: Unit, name: str, scopes: Sequence[str], ends: datetime | None
) -> tuple[dict[str, Any], str]:
    """Make a key and return it, with its secret. Raises ``Problem`` 403 for one that could do more than the caller."""
    wanted = list(dict.fromkeys(scopes))
    if missing := [scope for scope in wanted if scope not in unit.scopes]:
        raise Problem(403, "missing-scope", f"you cannot give the scope {missing[0]}, which you do not have")
    own = await unit.row("end_of_my_key")
    if own and (ends is None or ends > own[0]):
        last = own[0].astimezone(UTC).isoformat()
        raise Problem(
            403, "outlives-key", f"your own key ends {last}: expires_at must not be later", {"expires_at": last}
        )
    secret = here.new_token(KEY_PREFIX)
    row = await unit.row(
        "add_key",
        {"id": here.new_id(), "name": name, "hash": token_hash(secret), "scopes": wanted, "expires_at": ends},
    )
    assert row is not None
    return row[0], secret


@router.delete("/keys/{key_id}", status_code=204, response_model=None, responses=refusals(*OWN, 404))
async def revoke_key(here: Here, who: Who, key_id: UUID) -> Response:
    """Revoke an API key: from the next request on it opens nothing."""
    async with here.database.unit(who, "memories:write") as unit:
        if await unit.row("revoke_key", {"id": key_id}) is None:
            raise Problem(404, "not-found", "there is no such key")
    return Response(status_code=204)
