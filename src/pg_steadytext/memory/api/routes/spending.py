"""What models cost: the user's own spending, and what administrators see and set."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from typing import Annotated, Literal

import orjson
from fastapi import APIRouter, Query, Response

from pg_steadytext.memory.api.callers import Who
from pg_steadytext.memory.api.models import Word
from pg_steadytext.memory.api.models_spending import (
    BreakerState,
    BreakerStates,
    Budgets,
    Costs,
    EnrichmentQueue,
    Forecast,
    NewLimit,
    NewState,
    OwnSpending,
    Period,
)
from pg_steadytext.memory.api.replies import OWN, WRITE, Reply, refusals
from pg_steadytext.memory.api.service import Here
from pg_steadytext.memory.domain import breaker as rules_of
from pg_steadytext.memory.domain.forecast import month_end
from pg_steadytext.memory.domain.problems import Problem
from pg_steadytext.memory.storage.database import Unit

router = APIRouter()
MONTH = timedelta(days=30)


async def _text(unit: Unit, name: str, **params: object) -> str:
    row = await unit.row(name, params)
    assert row is not None
    return str(row[0])


@router.get("/usage/spending", response_model=OwnSpending, responses=refusals(*OWN), tags=["account"])
async def own_spending(here: Here, who: Who) -> Response:
    """Tell what the user's calls of models cost this day and this month, and what they may."""
    async with here.database.unit(who, "memories:read") as unit:
        return Reply(await _text(unit, "own_spending")).response()


admin = APIRouter(prefix="/admin", tags=["administration"])


@admin.get("/costs", response_model=Costs, responses=refusals(*OWN))
async def costs(
    here: Here, who: Who,
    by: Annotated[Literal["day", "model", "purpose", "user"], Query()] = "day",
    from_: Annotated[date | None, Query(alias="from", description="[default: 30 days ago]")] = None,
    to: Annotated[date | None, Query(description="[default: today, in UTC]")] = None,
) -> Response:  # fmt: skip
    """Tell what calls cost by day, model, purpose or user, the dearest first; a minute old at most."""
    until = to or datetime.now(UTC).date()
    since = from_ or (until - MONTH if until > date.min + MONTH else date.min)
    if since > until:
        raise Problem(422, "invalid-value", "from is after to")
    async with here.database.unit(who, "admin") as unit:
        return Reply(await _text(unit, "costs", by=by, **{"from": since, "to": until})).response()


@admin.get("/costs/forecast", response_model=Forecast, responses=refusals(*OWN))
async def forecast(here: Here, who: Who) -> Response:
    """Tell what the month will have cost at its end if the last seven days go on."""
    async with here.database.unit(who, "admin") as unit:
        row = await unit.row("spent_lately")
    assert row is not None
    month, week, limit, at, starts_at, ends_at, first_at = row
    end = month_end(int(month), int(week), first_at, at, ends_at)
    answer = {
        "spent_micros": int(month), "forecast_micros": end, "limit_micros": limit, "starts_at": starts_at,
        "ends_at": ends_at, "will_exceed": limit is not None and end > limit,
    }  # fmt: skip
    return Reply(orjson.dumps(answer).decode()).response()


@admin.get("/budgets", response_model=Budgets, responses=refusals(*OWN))
async def budgets(here: Here, who: Who) -> Response:
    """Tell the budgets, and of the global ones what is spent."""
    async with here.database.unit(who, "admin") as unit:
        return Reply(f'{{"items":{await _text(unit, "budgets")}}}').response()


@admin.put("/budgets/{scope}/{period}", response_model=Budgets, responses=refusals(*WRITE, 404))
async def set_budget(here: Here, who: Who, scope: Literal["global", "user"], period: Period, new: NewLimit) -> Response:
    """Set a budget's limit; what is spent already stays spent."""
    async with here.database.unit(who, "admin") as unit:
        await unit.rows("set_budget", {"scope": scope, "period": period, "limit": new.limit_micros})
        return Reply(f'{{"items":{await _text(unit, "budgets")}}}').response()


@admin.get("/breakers", response_model=BreakerStates, responses=refusals(*OWN))
async def breakers(here: Here, who: Who) -> Response:
    """Tell the state of each model's circuit breaker."""
    async with here.database.unit(who, "admin") as unit:
        row = await unit.row("breakers")
    assert row is not None
    return Reply(orjson.dumps({"items": row[0]}).decode()).response()


@admin.put("/breakers/{name}", response_model=BreakerState, responses=refusals(*WRITE, 404))
async def set_breaker(here: Here, who: Who, name: Word, new: NewState) -> Response:
    """Close a model's breaker and forget what it counted, or hold it open until it is closed."""

    async def found() -> dict[str, object] | None:
        async with here.database.unit(who, "admin") as unit:
            row = await unit.row("breakers")
        assert row is not None
        return next((one for one in row[0] if one["name"] == name), None)

    if await found() is None:
        raise Problem(404, "not-found", "there is no model and no breaker of this name")
    reason = new.reason or "held open by an administrator"
    await here.guard.breakers.change(
        name,
        lambda breaker, _: rules_of.close(breaker) if new.state == "closed" else rules_of.hold_open(breaker, reason),
    )
    return Reply(orjson.dumps(await found()).decode()).response()


@admin.get("/enrichment", response_model=EnrichmentQueue, responses=refusals(*OWN))
async def enrichment(here: Here, who: Who) -> Response:
    """Tell how many memories wait for enrichment, and how long the oldest has."""
    async with here.database.unit(who, "admin") as unit:
        return Reply(await _text(unit, "enrichment_queue")).response()


router.include_router(admin)
