"""What requests about spending carry and answers show; money is in millionths of a US dollar."""

from __future__ import annotations

from datetime import date, datetime
from typing import Annotated, Literal

from pydantic import BaseModel, Field

from pg_steadytext.memory.api.models import Line, Strict

Micros = Annotated[int, Field(ge=0, le=2**53)]
Period = Literal["day", "month"]


class BudgetWindow(BaseModel):
    """A budget and what is spent and reserved of it in the window that is now."""

    limit_micros: int
    spent_micros: int
    reserved_micros: int
    starts_at: datetime
    ends_at: datetime


class OwnSpending(BaseModel):
    """What the user's calls of models cost."""

    day: BudgetWindow
    month: BudgetWindow


class Budget(BaseModel):
    """A budget; what is spent is shown of the global ones, since every user has a window of the others."""

    scope: Literal["global", "user"]
    period: Period
    limit_micros: int
    spent_micros: int | None
    reserved_micros: int | None
    starts_at: datetime
    ends_at: datetime


class Budgets(BaseModel):
    """All budgets."""

    items: list[Budget]


class NewLimit(Strict):
    """A budget's limit; it binds from the next call on."""

    limit_micros: Micros


class Cost(BaseModel):
    """A sum over one day, model, purpose or user; `key` is null for users that are gone."""

    key: str | None
    calls: int
    input_tokens: int
    output_tokens: int
    cost_micros: int


class Costs(BaseModel):
    """Sums as they were at `refreshed_at`."""

    by: Literal["day", "model", "purpose", "user"]
    from_: Annotated[date, Field(alias="from")]
    to: date
    refreshed_at: datetime | None
    items: list[Cost]


class Forecast(BaseModel):
    """What the month costs at its end if the last seven days go on."""

    spent_micros: int
    forecast_micros: int
    limit_micros: int | None
    starts_at: datetime
    ends_at: datetime
    will_exceed: bool


class BreakerState(BaseModel):
    """A model's circuit breaker; open without `retry_at` is held open by an administrator."""

    name: str
    state: Literal["closed", "open", "half_open"]
    reason: str | None
    changed_at: datetime | None
    retry_at: datetime | None


class BreakerStates(BaseModel):
    """All circuit breakers."""

    items: list[BreakerState]


class NewState(Strict):
    """Close a breaker, or hold it open until it is closed."""

    state: Literal["closed", "open"]
    reason: Line | None = None


class EnrichmentQueue(BaseModel):
    """How far enrichment is behind."""

    pending: int
    paused: int
    oldest_at: datetime | None
    oldest_seconds: int
