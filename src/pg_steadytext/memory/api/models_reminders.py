"""What requests about reminders carry and answers show."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any, Literal, Self
from uuid import UUID

from pydantic import AfterValidator, AwareDatetime, BaseModel, Field, StringConstraints, model_validator

from pg_steadytext.memory.api.models import Line, Name, Strict, ZoneName

YEARS = (1970, 2200)
_ANY = datetime(2000, 1, 1, tzinfo=UTC)  # of a field that is absent


def _in_reach(moment: datetime) -> datetime:
    if not YEARS[0] < moment.year < YEARS[1]:
        raise ValueError(f"it must be between the years {YEARS[0]} and {YEARS[1]}")
    return moment.astimezone(UTC).replace(microsecond=0)


Moment = Annotated[AwareDatetime, AfterValidator(_in_reach)]
When = Annotated[
    str, StringConstraints(min_length=1, max_length=100, pattern=r"^[^\x00]*$"),
    Field(description="A moment in words, in the user's time zone.", examples=["tomorrow at 9"]),
]  # fmt: skip
Note = Annotated[str, StringConstraints(min_length=1, max_length=10_000, pattern=r"^[^\x00]*$")]
RuleText = Annotated[
    str, StringConstraints(min_length=1, max_length=500, pattern=r"^[^\x00]*$"),
    Field(description="A rule of RFC 5545, 3.3.10.", examples=["FREQ=WEEKLY;BYDAY=MO,FR"]),
]  # fmt: skip
Excluded = Annotated[
    list[Moment], Field(max_length=500, description="Occurrences that are left out (EXDATE), by their moments.")
]


class NewReminder(Strict):
    """A reminder to be made: ``due_at`` or ``when`` says when, or when a series starts."""

    title: Line
    note: Note | None = None
    memory_id: UUID | None = None
    due_at: Moment | None = None
    when: When | None = None
    time_zone: ZoneName | None = Field(None, description="Absent, it is the user's.", examples=["Europe/Berlin"])
    rrule: RuleText | None = None
    exdates: Excluded = Field(default_factory=list)

    @model_validator(mode="after")
    def _one_time(self) -> Self:
        if (self.due_at is None) == (self.when is None):
            raise ValueError("say due_at or when, and not both")
        return self


class ReminderPatch(Strict):
    """Fields to change; null empties one that may be empty, what is absent stays."""

    title: Line = ""
    note: Note | None = None
    memory_id: UUID | None = None
    due_at: Moment = _ANY
    when: When = ""
    time_zone: ZoneName = ""
    rrule: RuleText | None = None
    exdates: Excluded = Field(default_factory=list)

    @model_validator(mode="after")
    def _one_time(self) -> Self:
        if {"due_at", "when"} <= self.model_fields_set:
            raise ValueError("say due_at or when, and not both")
        return self


class Which(Strict):
    """The occurrence that is meant: ``occurrence_at`` as the reminder showed it.

    Without it, it is the one that is due; of a reminder that does not recur, the only one.
    """

    occurrence_at: Moment | None = None


class Snooze(Which):
    """How long an occurrence waits: to a moment, to one in words, or for so many minutes."""

    until: Moment | None = None
    when: When | None = None
    minutes: Annotated[int | None, Field(ge=1, le=60 * 24 * 366)] = None

    @model_validator(mode="after")
    def _one_time(self) -> Self:
        if sum(value is not None for value in (self.until, self.when, self.minutes)) != 1:
            raise ValueError("say one of until, when and minutes")
        return self


class Reminder(BaseModel):
    """A reminder. Times without an offset are those of its zone's clocks."""

    id: UUID
    title: str
    note: str | None
    memory_id: UUID | None
    time_zone: str
    starts_at: str = Field(description="When it starts, on the zone's clocks.")
    rrule: str | None
    exdates: list[str]
    state: Literal["active", "done", "dismissed"]
    occurrence_at: datetime = Field(description="The occurrence that is open or comes next; it names it.")
    due_at: datetime = Field(description="When that occurrence is due: later than it, when it was snoozed.")
    due_local: str
    missed: int = Field(
        description="How many occurrences before it passed without an answer; 1000 stands for more too."
    )
    next_at: datetime | None
    snoozed_until: datetime | None
    announced: bool
    version: int
    created_at: datetime
    updated_at: datetime


class Reminders(BaseModel):
    """A page of reminders, the newest first."""

    items: list[Reminder]
    next_cursor: str | None


class InboxReminder(Reminder):
    """A reminder with its place in the inbox."""

    section: Literal["overdue", "today", "upcoming"]


class Counts(BaseModel):
    """How many reminders are where."""

    overdue: int
    today: int
    upcoming: int


class Inbox(BaseModel):
    """A page of the inbox, the earliest due first, and how much there is in all."""

    items: list[InboxReminder]
    next_cursor: str | None
    counts: Counts
    now: datetime
    time_zone: str


class Answer(BaseModel):
    """What became of an occurrence."""

    occurrence_at: datetime
    answer: Literal["done", "dismissed"]
    missed: int
    actor: dict[str, Any]
    at: datetime


class Answers(BaseModel):
    """A page of answers, the latest occurrence first."""

    items: list[Answer]
    next_before: datetime | None


class NewFeed(Strict):
    """What a calendar feed is for."""

    name: Name


class Feed(BaseModel):
    """A calendar feed, without its secret."""

    id: UUID
    name: str
    created_at: datetime
    revoked_at: datetime | None


class FeedOnce(Feed):
    """A calendar feed with the address that calendars ask; its token is shown this once."""

    path: str
    token: str


class Feeds(BaseModel):
    """The user's calendar feeds."""

    items: list[Feed]
