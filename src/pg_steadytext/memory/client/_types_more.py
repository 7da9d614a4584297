"""What hangs on a memory, and reminders."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal, TypedDict
from uuid import UUID

from pg_steadytext.memory.client._types import Json, read_fields


@dataclass(frozen=True, slots=True)
class Version:
    """An entry of a memory's history: who changed what, as ``[before, after]``."""

    version: int
    action: str
    actor: dict[str, Any]
    changes: dict[str, list[Any]]
    at: datetime

    @classmethod
    def read(cls, told: Json) -> Version:
        """Read the service's JSON."""
        return cls(**{**read_fields(cls, told), "at": datetime.fromisoformat(told["at"])})


@dataclass(frozen=True, slots=True)
class Link:
    """A link to another memory."""

    target_id: UUID
    kind: str
    created_at: datetime

    @classmethod
    def read(cls, told: Json) -> Link:
        """Read the service's JSON."""
        return cls(**read_fields(cls, told))


@dataclass(frozen=True, slots=True)
class Attachment:
    """The text of an attachment."""

    name: str
    media_type: str
    text: str
    bytes: int
    created_at: datetime
    updated_at: datetime

    @classmethod
    def read(cls, told: Json) -> Attachment:
        """Read the service's JSON."""
        return cls(**read_fields(cls, told))


class ReminderFields(TypedDict, total=False):
    """What may be said of a new reminder, beside its title; `when` is a moment in words, `rrule` of RFC 5545."""

    when: str
    due_at: datetime
    note: str
    memory_id: UUID
    time_zone: str
    rrule: str
    exdates: list[datetime]


@dataclass(frozen=True, slots=True, kw_only=True)
class Reminder:
    """A reminder. `occurrence_at` names the occurrence at hand, `due_at` says when that one is due.

    `section` tells its place in the inbox, and is None outside it.
    """

    id: UUID
    title: str
    note: str | None
    memory_id: UUID | None
    time_zone: str
    rrule: str | None
    state: Literal["active", "done", "dismissed"]
    occurrence_at: datetime
    due_at: datetime
    due_local: str
    missed: int
    next_at: datetime | None
    snoozed_until: datetime | None
    version: int
    created_at: datetime
    updated_at: datetime
    section: Literal["overdue", "today", "upcoming"] | None = None

    @classmethod
    def read(cls, told: Json) -> Reminder:
        """Read the service's JSON."""
        return cls(**read_fields(cls, told))


@dataclass(frozen=True, slots=True)
class Inbox:
    """Reminders that are active, the earliest due first; `counts` tells how many there are in each section."""

    items: list[Reminder]
    counts: dict[str, int]
    now: datetime
    time_zone: str

    @classmethod
    def read(cls, told: Json) -> Inbox:
        """Read the service's JSON."""
        items = [Reminder.read(one) for one in told["items"]]
        return cls(items, told["counts"], datetime.fromisoformat(told["now"]), told["time_zone"])
