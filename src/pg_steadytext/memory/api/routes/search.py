"""Search by meaning, by words, or both."""

from __future__ import annotations

import asyncio
import logging
from typing import Annotated, Any, Literal
from uuid import UUID

import orjson
from fastapi import APIRouter, Query, Response
from psycopg.types.json import Jsonb
from pydantic import AwareDatetime, StringConstraints

from pg_steadytext.errors import Busy, DaemonUnavailable, DeadlineExceeded, SteadyTextError
from pg_steadytext.memory.api.callers import Who
from pg_steadytext.memory.api.models import Word
from pg_steadytext.memory.api.models_search import Mode, Results
from pg_steadytext.memory.api.replies import OWN, Reply, refusals
from pg_steadytext.memory.api.routes.memories import dump_json
from pg_steadytext.memory.api.service import Here, Service
from pg_steadytext.memory.domain.spending import UnaffordableError
from pg_steadytext.memory.storage.database import Caller

router = APIRouter(prefix="/memories", tags=["memories"])

MOST = 100

Asked = Annotated[str, StringConstraints(min_length=1, max_length=1000, pattern=r"^[^\x00]*[^\s\x00][^\x00]*$")]
Limit = Annotated[int, Query(ge=1, le=MOST)]
Floor = Annotated[float | None, Query(ge=-1, le=1, description="Nothing less similar, where meaning is looked at.")]

log = logging.getLogger(__name__)


def token_of(who: Caller) -> dict[str, Any]:
    """Return what the search's routines take to know the caller by."""
    return {"kind": who.kind, "hash": who.token_hash, "csrf": who.csrf}


@router.get("/search", response_model=Results, responses=refusals(*OWN, 429))
async def search(
    here: Here, who: Who,
    query: Annotated[Asked, Query(alias="q", description="What is looked for; quotes and -word as in a web search.")],
    mode: Mode = "hybrid",
    limit: Limit = 10,
    tag: Annotated[list[Word] | None, Query(max_length=20)] = None,
    tags: Annotated[Literal["any", "all"], Query(description="Whether any tag will do.")] = "any",
    category: Word | None = None,
    source: Annotated[str | None, Query(max_length=500)] = None,
    agent_id: UUID | None = None,
    session_id: UUID | None = None,
    since: Annotated[AwareDatetime | None, Query(alias="from", description="Saved at or after this moment.")] = None,
    until: Annotated[AwareDatetime | None, Query(alias="to", description="Saved before this moment.")] = None,
    pinned: bool | None = None,
    floor: Floor = None,
    explain: Annotated[bool, Query(description="Tell each arm's ranks.")] = False,
    highlight: bool = True,
) -> Response:  # fmt: skip
    """Find memories: by meaning and by words (hybrid), or one of them. Where meaning cannot be had, by words alone."""
    user_id, headers = await here.database.call("begin_search", token_of(who))
    wanted = {
        f"tags_{tags}": tag, "category": category, "source": source, "agent_id": agent_id, "session_id": session_id,
        "from": since, "to": until, "pinned": pinned,
    }  # fmt: skip
    kept = Jsonb({name: value for name, value in wanted.items() if value is not None}, dumps=dump_json)
    asked = {**token_of(who), "query": query, "filter": kept, "limit": limit}
    vector, without, worded, shown = None, None, None, None
    if mode == "semantic":
        vector, without = await meaning_of(here, query, user_id)
    elif mode == "hybrid":
        # The database looks for the words while the model reads them.
        (vector, without), (worded, shown) = await asyncio.gather(
            meaning_of(here, query, user_id), here.database.call("look_for_words", asked)
        )
    (found,) = await here.database.call("search", {
        **asked, "vector": vector, "mode": mode, "floor": floor, "explain": explain, "highlight": highlight,
        "without": without and Jsonb(without, dumps=dump_json), "worded": worded, "shown": shown,
    })  # fmt: skip
    return Reply(found, headers=orjson.loads(headers)).response()


@router.get("/{memory_id}/similar", response_model=Results, responses=refusals(*OWN, 404, 429))
async def similar(here: Here, who: Who, memory_id: UUID, limit: Limit = 10, floor: Floor = None) -> Response:
    """Find memories that mean what this one means."""
    params = {**token_of(who), "id": memory_id, "limit": limit, "floor": floor}
    (found,) = await here.database.call("similar", params)
    return Reply(found).response()


async def meaning_of(here: Service, query: str, user_id: UUID) -> tuple[str | None, dict[str, Any] | None]:
    """Return the query's vector, or why there is none."""
    retry_at = None
    try:
        return await here.meaning.vector(query, user_id), None
    except UnaffordableError as error:
        because, detail, retry_at = "not-affordable", error.reason, error.retry_at.isoformat()
    except (DeadlineExceeded, Busy) as error:
        because, detail = "model-slow", error.message
    except DaemonUnavailable as error:
        because, detail = "model-down", "the model server cannot be reached"
        log.info("search goes by words alone: %s", error.message)
    except SteadyTextError as error:
        because, detail = "model-failed", error.message
    return None, {"degraded_because": because, "degraded_detail": detail, "retry_at": retry_at}
