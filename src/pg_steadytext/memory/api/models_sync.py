"""What clients that were away send, and what they are answered."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal
from uuid import UUID

from pydantic import BaseModel, Field, JsonValue, StringConstraints

from pg_steadytext.memory.api.models import Link, Memory, ProblemDocument, Strict

MOST_OPERATIONS = 500

OperationId = Annotated[str, StringConstraints(min_length=1, max_length=255, pattern=r"^[!-~]+$")]
Fields = dict[str, JsonValue]


class Operation(Strict):
    """What a client did while it was away."""

    operation: OperationId = Field(description="The operation's own id: it takes effect once, however often it comes.")
    kind: Literal["create", "update", "delete", "restore"]
    id: UUID = Field(description="The memory; a create brings a new id of the client's making.")
    base_version: Annotated[int, Field(ge=1, le=2**62)] | None = Field(
        None, description="The version that the client knew; an update and a delete need it."
    )
    fields: Fields = Field(
        default_factory=dict, description="A create's fields as in POST /memories, an update's as in PATCH."
    )
    base: Fields = Field(
        default_factory=dict,
        description="Fields that were otherwise than in base_version before this operation, since earlier ones of the "
        "same client had changed them.",
    )
    resolve: Literal["mine", "theirs"] | None = Field(
        None, description="Whose value a conflict ends with; without it nothing is changed."
    )
    force: bool = Field(False, description="A create is kept although the same text is there.")


class Push(Strict):
    """Operations in the order in which the client did them."""

    operations: Annotated[list[Operation], Field(min_length=1, max_length=MOST_OPERATIONS)]


class Disagreement(BaseModel):
    """What both sides changed, each in its own way."""

    base: Any
    mine: Any
    theirs: Any


class OperationResult(BaseModel):
    """What came of an operation.

    applied: as it was wanted. merged: together with changes that the client did not know. duplicate: the text of a
    create is there already, as the memory `id`. conflict: nothing was changed. refused: nothing was changed, and
    `problem` says why.
    """

    operation: str
    outcome: Literal["applied", "merged", "conflict", "duplicate", "refused"]
    id: UUID
    version: int | None
    conflicts: dict[str, Disagreement]
    problem: ProblemDocument | None
    replayed: bool = Field(description="It had taken effect before; this is what it was answered then.")


class Results(BaseModel):
    """A result for each operation, in their order."""

    results: list[OperationResult]


class AttachmentName(BaseModel):
    """An attachment without its text."""

    name: str
    media_type: str
    bytes: int
    updated_at: datetime


class Change(BaseModel):
    """A memory as it is now, in the trash or not, or the tombstone of one that was deleted for good."""

    kind: Literal["memory", "tombstone"]
    id: UUID
    change_seq: int
    memory: Memory | None
    links: list[Link]
    attachments: list[AttachmentName]
    deleted_at: datetime | None


class Changes(BaseModel):
    """A part of the feed, in the order of the changes."""

    items: list[Change]
    cursor: str = Field(description="The next request's `since`, also when there is no more for now.")
    has_more: bool
