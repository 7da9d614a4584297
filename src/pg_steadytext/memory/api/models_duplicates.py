"""What requests about near duplicates and feature flags carry and answers show."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal
from uuid import UUID

from pydantic import BaseModel, Field, JsonValue, StringConstraints, model_validator

from pg_steadytext.memory.api.models import Body, Memory, Object, Strict

PairState = Literal["suggested", "merged", "kept", "not_duplicate"]


class Scores(BaseModel):
    """How alike the two are: by their words, of 100, and by their meaning, the cosine."""

    because: Literal["hash", "lexical", "embedding"]
    lexical: float
    cosine: float | None


class Pair(BaseModel):
    """Two memories that may say the same, and what was decided about them."""

    id: UUID
    state: PairState
    scores: Scores
    a: Memory
    b: Memory
    kept: UUID | None = Field(description="After a merge: which of the two was kept.")
    etag: str = Field(description="Of the versions of both; If-Match names it.")
    created_at: datetime
    decided_at: datetime | None
    by: dict[str, Any] | None


class Pairs(BaseModel):
    """A page of pairs, the newest first; `is_enabled` tells whether pairs are looked for."""

    items: list[Pair]
    next_cursor: str | None
    is_enabled: bool


class Decision(Strict):
    """What is to become of a pair. What a merge keeps may get the other's text too (`join`), or a new one."""

    decision: Literal["merge", "keep_both", "not_duplicate"]
    keep: UUID | None = Field(None, description="The memory that a merge keeps; by default the older one.")
    body: Body | None = None
    join: bool = False

    @model_validator(mode="after")
    def _of_a_merge(self) -> Decision:
        if self.decision != "merge" and (self.keep is not None or self.body is not None or self.join):
            raise ValueError("keep, body and join belong to a merge")
        if self.body is not None and self.join:
            raise ValueError("the text is either joined or given")
        return self


class Decided(Pair):
    """The pair as it ended; `took_effect` is false where it had been decided before."""

    took_effect: bool


VariantName = Annotated[str, StringConstraints(min_length=1, max_length=100, pattern=r"^[^\x00]*$")]


class NewFlag(Strict):
    """What a flag gives, and to whom: `users_off` goes before `users_on`, and both before the percentage."""

    description: Annotated[str, StringConstraints(max_length=500, pattern=r"^[^\x00]*$")] = ""
    enabled: bool = Field(description="Off, nobody gets a variant, and who asks keeps the default.")
    percentage: Annotated[float, Field(ge=0, le=100, description="Of the users, in hundredths.")] = 0
    users_on: Annotated[list[UUID], Field(max_length=1000)] = Field(default_factory=list)
    users_off: Annotated[list[UUID], Field(max_length=1000)] = Field(default_factory=list)
    variants: Object = Field(default_factory=lambda: dict[str, JsonValue](on=True, off=False))
    on_variant: VariantName = "on"
    off_variant: VariantName = "off"

    @model_validator(mode="after")
    def _named(self) -> NewFlag:
        for name in (self.on_variant, self.off_variant):
            if name not in self.variants:
                raise ValueError(f"{name!r} is not one of the variants")
        return self


class Flag(NewFlag):
    """A feature flag as it is."""

    key: str
    updated_at: datetime


class FlagList(BaseModel):
    """All feature flags."""

    items: list[Flag]
