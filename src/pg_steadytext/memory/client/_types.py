"""What the service answers, and what is sent to it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from datetime import datetime
from typing import Any, Literal, TypedDict, TypeVar
from uuid import UUID, uuid4

Json = Mapping[str, Any]
T = TypeVar("T")

_IDS = frozenset(("id", "agent_id", "session_id", "duplicate_of", "target_id", "memory_id"))


class Fields(TypedDict, total=False):
    """What may be said of a memory, beside its text."""

    title: str | None
    category: str | None
    tags: list[str]
    source: str | None
    provenance: dict[str, Any]
    pinned: bool
    agent_id: UUID | None
    session_id: UUID | None
    expires_at: datetime | None


class NewFields(Fields, total=False):
    """What may be said of a new memory."""

    is_recalled: bool


class Patch(Fields, total=False):
    """What may be changed of a memory; None empties a field."""

    body: str


class SearchOptions(TypedDict, total=False):
    """How to search. `tags` says whether any of the `tag` will do, `floor` is the least similarity of meanings,
    `explain` asks for each arm's ranks.
    """

    mode: Literal["hybrid", "semantic", "keyword"]
    limit: int
    tag: Sequence[str]
    tags: Literal["any", "all"]
    category: str | None
    source: str | None
    agent_id: UUID | None
    session_id: UUID | None
    since: datetime | None
    until: datetime | None
    pinned: bool | None
    floor: float | None
    explain: bool
    highlight: bool


class Filters(TypedDict, total=False):
    """Which memories a list shows; ``since`` and ``until`` are about when they were saved."""

    tag: str
    category: str
    source: str
    since: datetime
    until: datetime
    pinned: bool
    trash: bool


def read_fields(kind: type[T], told: Json) -> dict[str, Any]:
    """Return the arguments of a dataclass out of an answer; what a later service adds is passed over."""
    return {entry.name: _value(entry.name, told[entry.name]) for entry in fields(kind) if entry.name in told}  # type: ignore[arg-type]


def _value(name: str, value: Any) -> Any:
    if isinstance(value, str):
        if name.endswith(("_at", "_until")):
            return datetime.fromisoformat(value)
        if name in _IDS:
            return UUID(value)
    return value


@dataclass(frozen=True, slots=True, kw_only=True)
class Memory:
    """A memory. After a save, a `duplicate_of` that is its own id says that the text was there already."""

    id: UUID
    body: str
    title: str | None
    category: str | None
    tags: list[str]
    source: str | None
    provenance: dict[str, Any]
    pinned: bool
    is_recalled: bool
    agent_id: UUID | None
    session_id: UUID | None
    duplicate_of: UUID | None
    version: int
    change_seq: int
    enrichment_status: str
    embedding_status: str
    expires_at: datetime | None
    deleted_at: datetime | None
    created_at: datetime
    updated_at: datetime

    @classmethod
    def read(cls, told: Json) -> Memory:
        """Read the service's JSON."""
        return cls(**read_fields(cls, told))


@dataclass(frozen=True, slots=True)
class Found:
    """A memory that was found, with its score; the best has the highest."""

    memory: Memory
    score: float
    similarity: float | None
    highlights: dict[str, str | None] | None
    ranks: dict[str, int | None] | None


@dataclass(frozen=True, slots=True)
class SearchResults:
    """What was found, the best first; `degraded_because` tells why it was not looked for as asked."""

    items: list[Found]
    mode: str
    degraded_because: str | None
    degraded_detail: str | None = None
    retry_at: datetime | None = None
    pending_embeddings: int = 0

    @classmethod
    def read(cls, told: Json) -> SearchResults:
        """Read the service's JSON."""
        items = [
            Found(Memory.read(one), one["score"], one.get("similarity"), one.get("highlights"), one.get("ranks"))
            for one in told["items"]
        ]
        return cls(**{**read_fields(cls, told), "items": items})


@dataclass(frozen=True, slots=True)
class Imported:
    """What an import did; `ids` are in the order of the entries."""

    created: int
    duplicates: int
    ids: list[UUID]

    @classmethod
    def read(cls, told: Json) -> Imported:
        """Read the service's JSON."""
        return cls(told["created"], told["duplicates"], [UUID(one) for one in told["ids"]])


@dataclass(frozen=True, slots=True)
class Change:
    """A memory as it is now, or, where `memory` is None, the tombstone of one that was deleted for good."""

    id: UUID
    change_seq: int
    memory: Memory | None
    links: list[dict[str, Any]]
    attachments: list[dict[str, Any]]
    deleted_at: datetime | None


@dataclass(frozen=True, slots=True)
class Changes:
    """A part of the change feed; `cursor` is the next pull's ``since``."""

    items: list[Change]
    cursor: str
    has_more: bool

    @classmethod
    def read(cls, told: Json) -> Changes:
        """Read the service's JSON."""
        items = [
            Change(**{**read_fields(Change, one), "memory": Memory.read(one["memory"]) if one["memory"] else None})
            for one in told["items"]
        ]
        return cls(items, told["cursor"], told["has_more"])


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """What was done offline. `operation` is its own id: it takes effect once, however often it is pushed.

    `base` holds fields that earlier operations of this client, not pushed yet, had changed since `base_version`.
    """

    kind: Literal["create", "update", "delete", "restore"]
    id: UUID
    base_version: int | None = None
    fields: dict[str, Any] = field(default_factory=dict)
    base: dict[str, Any] = field(default_factory=dict)
    resolve: Literal["mine", "theirs"] | None = None
    force: bool = False
    operation: str = field(default_factory=lambda: str(uuid4()))

    def told(self) -> dict[str, Any]:
        """Return what is sent."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Disagreement:
    """What both sides changed, each in its own way."""

    base: Any
    mine: Any
    theirs: Any


@dataclass(frozen=True, slots=True)
class OperationResult:
    """What came of an operation: applied, merged, duplicate, conflict or refused."""

    operation: str
    outcome: Literal["applied", "merged", "conflict", "duplicate", "refused"]
    id: UUID
    version: int | None
    conflicts: dict[str, Disagreement]
    problem: dict[str, Any] | None
    replayed: bool

    @classmethod
    def read(cls, told: Json) -> OperationResult:
        """Read the service's JSON."""
        conflicts = {name: Disagreement(**values) for name, values in told["conflicts"].items()}
        return cls(**{**read_fields(cls, told), "conflicts": conflicts})
