"""What answers about facts show."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from pydantic import BaseModel, Field


class Fact(BaseModel):
    """A sentence that a memory states, as a model read it."""

    id: UUID
    memory_id: UUID
    text: str
    category: str = Field(description="The kind of fact, in a word of the model's.")
    confidence: float = Field(ge=0, le=1)
    model: str
    created_at: datetime


class MemoryFacts(BaseModel):
    """A memory's facts."""

    items: list[Fact]


class Facts(BaseModel):
    """A page of facts, the newest first."""

    items: list[Fact]
    next_cursor: str | None
