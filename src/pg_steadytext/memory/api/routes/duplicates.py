"""Near duplicates: pairs that may say the same, and what their owner decides about them."""

from __future__ import annotations

from typing import Annotated
from uuid import UUID

import orjson
from fastapi import APIRouter, Query, Request, Response
from psycopg.types.json import Jsonb

from pg_steadytext.memory.api.callers import Who
from pg_steadytext.memory.api.models import MAX_BODY
from pg_steadytext.memory.api.models_duplicates import Decided, Decision, Pair, Pairs, PairState
from pg_steadytext.memory.api.once import KeyHeader, once
from pg_steadytext.memory.api.replies import OWN, WRITE, Reply, page, refusals
from pg_steadytext.memory.api.routes.memories import MOST_PER_PAGE, PER_PAGE, IfMatch, dump_json
from pg_steadytext.memory.api.service import Here
from pg_steadytext.memory.domain import cursors
from pg_steadytext.memory.domain.conditions import known_tags
from pg_steadytext.memory.domain.duplicates import joined, merged_fields
from pg_steadytext.memory.domain.problems import Problem
from pg_steadytext.memory.domain.text import content_hash
from pg_steadytext.memory.flags import NEAR_DUPLICATES
from pg_steadytext.memory.storage.database import Unit

router = APIRouter(prefix="/duplicates", tags=["duplicates"])

STATES = {"keep_both": "kept", "not_duplicate": "not_duplicate"}


@router.get("", response_model=Pairs, responses=refusals(*OWN))
async def list_pairs(
    here: Here, who: Who,
    cursor: Annotated[str | None, Query(max_length=500, description="`next_cursor` of the page before.")] = None,
    limit: Annotated[int, Query(ge=1, le=MOST_PER_PAGE)] = PER_PAGE,
    state: PairState = "suggested",
) -> Response:  # fmt: skip
    """List pairs of memories that may say the same, the newest first; those with one in the trash are not suggested."""
    after, after_id = cursors.decode(cursor) if cursor else (None, None)
    async with here.database.unit(who, "memories:read") as unit:
        wanted = {"state": state, "after": after, "after_id": after_id, "limit": limit + 1}
        rows = await unit.rows("list_pairs", wanted)
    is_enabled = await here.flags.is_on(NEAR_DUPLICATES, unit.user_id)
    kept = rows[:limit]
    more = cursors.encode(kept[-1][0], kept[-1][1]) if len(rows) > limit else None
    return page((text for _, _, text in kept), next_cursor=more, is_enabled=is_enabled)


@router.get("/{pair_id}", response_model=Pair, responses=refusals(*OWN, 404))
async def read_pair(here: Here, who: Who, pair_id: UUID) -> Response:
    """Read a pair, decided or not; the ETag is that of both memories' versions."""
    async with here.database.unit(who, "memories:read") as unit:
        pair = await _pair(unit, pair_id)
    return _shown(pair).response()


@router.post("/{pair_id}", response_model=Decided, responses=refusals(*WRITE, 402, 404, 412, 428))
async def decide(
    request: Request, here: Here, who: Who, pair_id: UUID, decision: Decision, if_match: IfMatch = None,
    key: KeyHeader = None,
) -> Response:  # fmt: skip
    """Merge the two, keep both, or say that they are no duplicates; a pair that was decided answers as it ended.

    A merge needs If-Match with the pair's ETag. It keeps one memory with what hangs on both; the other goes
    to the trash, from which it can be restored.
    """
    tags = known_tags(if_match, required=decision.decision == "merge")
    async with here.database.unit(who, "memories:write") as unit:

        async def effect() -> Reply:
            row = await unit.row("take_pair", {"id": pair_id, "etags": tags})
            assert row is not None
            took_effect = row[0] == "suggested"
            if took_effect and decision.decision == "merge":
                await _merge(unit, pair_id, decision, orjson.loads(row[1]), orjson.loads(row[2]))
            elif took_effect:
                await unit.rows("decide_pair", {"id": pair_id, "state": STATES[decision.decision]})
            return _shown({**await _pair(unit, pair_id), "took_effect": took_effect})

        return await once(unit, request, key, effect)


async def _merge(unit: Unit, pair_id: UUID, decision: Decision, a: dict[str, object], b: dict[str, object]) -> None:
    chosen = str(decision.keep or min(a, b, key=lambda memory: (str(memory["created_at"]), str(memory["id"])))["id"])
    if chosen not in (a["id"], b["id"]):
        raise Problem(422, "not-of-the-pair", "keep must be one of the two memories")
    kept, gone = (a, b) if a["id"] == chosen else (b, a)
    body = decision.body or str(kept["body"])
    if decision.join:
        body = joined(str(kept["body"]), str(gone["body"]))
    if len(body) > MAX_BODY:
        raise Problem(422, "too-long", f"the texts joined are longer than {MAX_BODY} characters; send a body")
    patch = {**merged_fields(kept, gone, body), "content_hash": "\\x" + content_hash(body).hex()}
    which = {"id": pair_id, "kept": kept["id"], "gone": gone["id"], "patch": Jsonb(patch, dumps=dump_json)}
    await unit.rows("merge_pair", which)


async def _pair(unit: Unit, pair_id: UUID) -> dict[str, object]:
    row = await unit.row("get_pair", {"id": pair_id})
    if row is None:
        raise Problem(404, "not-found", "there is no such pair")
    found: dict[str, object] = orjson.loads(row[0])
    return found


def _shown(pair: dict[str, object]) -> Reply:
    return Reply(orjson.dumps(pair).decode(), headers={"ETag": str(pair["etag"])})
