"""Search over all that a user's sessions and knowledge hold."""

from __future__ import annotations

import re
from typing import Any
from uuid import UUID

import orjson
from fastapi import APIRouter, Response
from psycopg.types.json import Jsonb

from pg_steadytext.memory.api.callers import Who
from pg_steadytext.memory.api.memfuse.common import absent, find, find_user
from pg_steadytext.memory.api.memfuse.envelope import REFUSALS, Envelope, success
from pg_steadytext.memory.api.memfuse.models import Query
from pg_steadytext.memory.api.routes.memories import dump_json
from pg_steadytext.memory.api.routes.search import meaning_of, token_of
from pg_steadytext.memory.api.service import Here

router = APIRouter(prefix="/users/{user_id}/query", tags=["query"], responses=REFUSALS)

MOST_ASKED = 1000
"""Applications send whole conversations; what was said last says what is looked for."""

TOLD = ("mode", "degraded_because", "degraded_detail", "retry_at", "pending_embeddings")


@router.post("", response_model=Envelope)
async def query(here: Here, who: Who, user_id: str, wish: Query) -> Response:
    """Find messages and knowledge of a user by meaning and by words.

    A `session_id` narrows nothing: it tells which results are of that session. An `agent_id` narrows the messages.
    """
    async with here.database.unit(who, "memories:read") as unit:
        user = await find_user(unit, user_id)
        if wish.agent_id:
            await find(unit, "Agent", wish.agent_id)
        if wish.session_id and (await find(unit, "Session", wish.session_id))["user_id"] != user["id"]:
            raise absent("Session", wish.session_id)
    asked = wish.query[-MOST_ASKED:]
    account, headers = await here.database.call("begin_search", token_of(who))
    vector, without = await meaning_of(here, asked, account) if asked.strip() else (None, None)
    kept = {"memfuse_user": user["id"], **({"agent_or_none": str(wish.agent_id)} if wish.agent_id else {})}
    (found,) = await here.database.call("search", {
        **token_of(who), "query": as_words(asked), "vector": vector, "mode": "hybrid", "limit": wish.top_k,
        "floor": None, "explain": True, "highlight": False, "without": without and Jsonb(without, dumps=dump_json),
        "filter": Jsonb(kept, dumps=dump_json), "worded": None, "shown": None,
    })  # fmt: skip
    told = orjson.loads(found)
    async with here.database.unit(who, "memories:read") as unit:
        ids = [UUID(item["session_id"]) for item in told["items"] if item["session_id"]]
        names = {str(key): name for key, name in await unit.rows("memfuse_session_names", {"ids": ids})}
    results = [result(item, user["id"], wish.session_id, names) for item in told["items"]]
    data = {"results": results, "total": len(results), **{name: told[name] for name in TOLD}}
    return success(data, f"Found {len(results)} results", headers=orjson.loads(headers))


def as_words(text: str) -> str:
    """Take the signs out that a web search gives a meaning, which nobody gave them in a conversation."""
    return re.sub(r'["-]', " ", text)


def result(item: dict[str, Any], user_id: str, session_id: UUID | None, names: dict[str, str]) -> dict[str, Any]:
    """Return a memory as the SDK reads results."""
    session = item["session_id"]
    scope = None
    if session_id is not None:
        scope = "in_session" if session == str(session_id) else "cross_session"
    said = item["provenance"].get("metadata")
    return {
        "id": item["id"], "content": item["body"], "score": item["score"],
        "type": "message" if session else "knowledge", "role": item["provenance"].get("role") if session else None,
        "created_at": item["created_at"], "updated_at": item["updated_at"],
        "metadata": {
            **(said if isinstance(said, dict) else {}), "user_id": user_id, "agent_id": item["agent_id"],
            "session_id": session, "session_name": names.get(session), "scope": scope,
            "similarity": item["similarity"], "ranks": item["ranks"],
        },
    }  # fmt: skip
