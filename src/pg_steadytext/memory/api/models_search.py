"""What a search answers."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from pydantic import BaseModel, Field

from pg_steadytext.memory.api.models import Memory

Mode = Literal["hybrid", "semantic", "keyword"]


class Highlights(BaseModel):
    """Passages as HTML: what the memory holds is escaped, the words found are in <mark>."""

    title: str | None
    body: str


class Ranks(BaseModel):
    """At which place each arm had it; null: not at all."""

    semantic: int | None
    keyword: int | None


class Found(Memory):
    """A memory that was found."""

    score: float = Field(description="The sum of 1 / (10 + rank) over both arms; in semantic mode the similarity.")
    similarity: float | None = Field(description="Cosine of the angle to the query, where the meaning was looked at.")
    highlights: Highlights | None
    ranks: Ranks | None


class Results(BaseModel):
    """What was found, the best first, and how."""

    mode: Mode = Field(description="How it was searched, which is not how it was asked for where it is degraded.")
    degraded_because: Literal["not-affordable", "model-slow", "model-down", "model-failed", "embeddings-pending"] | None
    degraded_detail: str | None
    retry_at: datetime | None
    pending_embeddings: int = Field(description="Memories that only their words lead to yet; counted to 10,000.")
    items: list[Found]
