"""What requests carry and answers show."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal
from uuid import UUID

from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    JsonValue,
    StringConstraints,
    model_validator,
)
from pydantic_core import PydanticCustomError

from pg_steadytext.memory.api.values import can_be_shown, can_be_stored
from pg_steadytext.memory.domain import email

MAX_BODY = 200_000
MOST_UNKNOWN = 20

# PostgreSQL's text holds every character but NUL.
_ANY = r"^[^\x00]*$"
Body = Annotated[str, StringConstraints(min_length=1, max_length=MAX_BODY, pattern=r"^[^\x00]*[^\s\x00][^\x00]*$")]
Line = Annotated[str, StringConstraints(min_length=1, max_length=500, pattern=_ANY)]
Name = Annotated[str, StringConstraints(min_length=1, max_length=200, pattern=_ANY)]
Word = Annotated[str, StringConstraints(min_length=1, max_length=100, pattern=_ANY)]
# PostgreSQL holds moments that most clients, this one's language too, cannot read.
Instant = Annotated[AwareDatetime, AfterValidator(can_be_shown)]
Object = Annotated[dict[str, JsonValue], AfterValidator(can_be_stored)]
Tags = Annotated[list[Word], Field(max_length=50), AfterValidator(lambda tags: list(dict.fromkeys(tags)))]
LeftOut = Annotated[None, BeforeValidator(lambda _: None)]
State = Literal["pending", "done", "failed", "paused", "none"]
ZoneName = Annotated[str, StringConstraints(min_length=1, max_length=64, pattern=_ANY)]
Scope = Literal["memories:read", "memories:write", "admin"]


class Strict(BaseModel):
    """A request's body: a field it does not know is an error, not a wish unheard."""

    model_config = ConfigDict(extra="forbid")

    @model_validator(mode="before")
    @classmethod
    def _has_few_unknown_fields(cls, given: Any) -> Any:
        # Each would be an error of its own: a body of nothing else took a minute and gigabytes.
        unknown = len(given) - len(cls.model_fields) if isinstance(given, dict) else 0
        if unknown > MOST_UNKNOWN and cls.model_config.get("extra") == "forbid":
            raise PydanticCustomError(
                "extra_forbidden", "at least {unknown} fields are not known here", {"unknown": unknown}
            )
        return given


class NewMemory(Strict):
    """A memory to be saved."""

    body: Body
    title: Line | None = None
    category: Word | None = None
    tags: Tags = Field(default_factory=list)
    source: Line | None = None
    provenance: Object = Field(default_factory=dict)
    pinned: bool = False
    is_recalled: bool = Field(False, description="The text was recalled from memory: it is never extracted again.")
    agent_id: UUID | None = None
    session_id: UUID | None = None
    expires_at: Instant | None = None


class ImportedMemory(NewMemory):
    """A line of an import: a new memory, or a memory as the export shows it.

    Its agent and its conversation are left out: they are of where it was exported, and not of here.
    """

    model_config = ConfigDict(extra="ignore")

    created_at: Instant | None = None
    agent_id: LeftOut = None
    session_id: LeftOut = None


class MemoryPatch(Strict):
    """Fields to change (JSON merge patch): null empties one that may be empty, what is absent stays."""

    body: Body = ""
    title: Line | None = None
    category: Word | None = None
    tags: Tags = []
    source: Line | None = None
    provenance: Object = {}
    pinned: bool = False
    agent_id: UUID | None = None
    session_id: UUID | None = None
    expires_at: Instant | None = None


class Memory(BaseModel):
    """A memory."""

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
    duplicate_of: UUID | None = Field(
        description="The memory whose text this one repeats; its own id in the answer to a save that was not needed."
    )
    version: int
    change_seq: int
    enrichment_status: State
    enrichment_error: str | None = Field(description="Why the model made nothing of it, or waits.")
    embedding_status: State
    embedding_error: str | None = Field(description="Why it could not be embedded, or waits.")
    expires_at: datetime | None
    deleted_at: datetime | None
    created_at: datetime
    updated_at: datetime


class Memories(BaseModel):
    """A page of memories, the newest first."""

    items: list[Memory]
    next_cursor: str | None


class Version(BaseModel):
    """An entry of a memory's history: who changed what, as ``[before, after]``."""

    version: int
    action: Literal["created", "changed", "trashed", "restored"]
    actor: dict[str, Any]
    changes: dict[str, list[Any]]
    at: datetime


class History(BaseModel):
    """A page of a history, the newest first."""

    items: list[Version]
    next_before: int | None


class Imported(BaseModel):
    """What an import did."""

    created: int
    duplicates: int
    ids: list[UUID]


class NewLink(Strict):
    """What a link means."""

    kind: Annotated[str, StringConstraints(min_length=1, max_length=50, pattern=_ANY)] = "related"


class Link(BaseModel):
    """A link to another memory."""

    target_id: UUID
    kind: str
    created_at: datetime


class Links(BaseModel):
    """A memory's links."""

    items: list[Link]


class NewAttachment(Strict):
    """An attachment's text."""

    text: Annotated[str, StringConstraints(max_length=MAX_BODY, pattern=_ANY)]
    media_type: Annotated[str, StringConstraints(pattern=r"^[a-z]+/[a-z0-9.+-]+$", max_length=100)] = "text/plain"


class Attachment(BaseModel):
    """An attachment."""

    name: str
    media_type: str
    text: str
    bytes: int
    created_at: datetime
    updated_at: datetime


class Attachments(BaseModel):
    """A memory's attachments."""

    items: list[Attachment]


class NewAgent(Strict):
    """An agent that saves and reads on the user's behalf."""

    name: Name
    metadata: Object = {}


class Agent(BaseModel):
    """An agent."""

    id: UUID
    name: str
    metadata: dict[str, Any]
    created_at: datetime


class Agents(BaseModel):
    """The user's agents."""

    items: list[Agent]


class NewSession(NewAgent):
    """A conversation that memories come from."""

    agent_id: UUID | None = None


class Session(Agent):
    """A conversation."""

    agent_id: UUID | None


class Sessions(BaseModel):
    """The user's conversations."""

    items: list[Session]


class NewKey(Strict):
    """An API key to be made."""

    name: Name
    scopes: Annotated[list[Scope], Field(min_length=1, max_length=3)] = ["memories:read", "memories:write"]
    expires_at: Instant | None = None


class Key(BaseModel):
    """An API key, without its secret."""

    id: UUID
    name: str
    scopes: list[Scope]
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None
    last_used_at: datetime | None


class KeyOnce(Key):
    """An API key with its secret, which is shown this once."""

    key: str


class Keys(BaseModel):
    """The user's API keys."""

    items: list[Key]


Email = Annotated[str, StringConstraints(min_length=3, max_length=email.MOST_LENGTH, pattern=email.PATTERN)]
Password = Annotated[str, StringConstraints(min_length=12, max_length=200, pattern=_ANY)]


class Credentials(Strict):
    """Who signs in."""

    email: Email
    password: Annotated[str, StringConstraints(min_length=1, max_length=200, pattern=_ANY)]


class Registration(Strict):
    """A new account."""

    email: Email
    password: Password
    name: Name


class SignedIn(BaseModel):
    """A web session: the cookie holds its token, and unsafe requests send ``csrf_token`` as X-CSRF-Token."""

    user_id: UUID
    csrf_token: str
    expires_at: datetime


class Me(BaseModel):
    """The user."""

    id: UUID
    email: str
    name: str
    role: Literal["user", "admin"]
    time_zone: str
    created_at: datetime


class MePatch(Strict):
    """What to change of the user; what is absent stays."""

    name: Name | None = None
    time_zone: ZoneName | None = None


class User(Me):
    """A user as administrators see one."""

    plan: str
    memories: int
    bytes: int


class Users(BaseModel):
    """A page of users, the newest first."""

    items: list[User]
    next_cursor: str | None


class Amount(BaseModel):
    """How much of the plan is used."""

    used: int
    limit: int


class Rate(Amount):
    """How much of the day's allowance is used; ``reset`` is in seconds."""

    reset: int


class Usage(BaseModel):
    """What the plan allows and what of it is used."""

    plan: str
    memories: Amount
    bytes: Amount
    saves: Rate
    searches: Rate
    enrichments: Rate


class Plan(Strict):
    """A plan by its name."""

    plan: Word


class Health(BaseModel):
    """Whether the service can do its work."""

    status: Literal["ok"]
    version: str
    schema_number: int


class ProblemDocument(BaseModel):
    """RFC 9457: why a request was refused."""

    model_config = ConfigDict(extra="allow")

    type: str
    title: str
    status: int
    detail: str
