"""What the SDK sends."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self
from uuid import UUID

from pydantic import BaseModel, Field, StringConstraints, model_validator

from pg_steadytext.memory.api.models import Body, Instant, Name, Object

Text = Annotated[str, StringConstraints(max_length=10_000, pattern=r"^[^\x00]*$")]
Word = Annotated[str, StringConstraints(min_length=1, max_length=50, pattern=r"^[^\x00]*$")]
Ids = Annotated[list[UUID], Field(max_length=1000)]


class Named(BaseModel):
    """A user or an agent to be made."""

    name: Name
    description: Text | None = None


class NamedPatch(BaseModel):
    """What to change; what is absent or null stays."""

    name: Name | None = None
    description: Text | None = None


class NewSession(BaseModel):
    """A conversation to be begun; without a name it is given one."""

    user_id: UUID
    agent_id: UUID
    name: Name | None = None


class SessionPatch(BaseModel):
    """What to change of a conversation."""

    name: Name | None = None


class Message(BaseModel):
    """A message."""

    role: Word
    content: Body
    metadata: Object | None = None


class NewMessages(BaseModel):
    """Messages to be added, in their order."""

    messages: Annotated[list[Message], Field(max_length=1000)]


class MessageIds(BaseModel):
    """Messages that are meant."""

    message_ids: Ids


class MessagesPatch(MessageIds):
    """New messages in the place of others."""

    new_messages: Annotated[list[Message], Field(max_length=1000)]

    @model_validator(mode="after")
    def _as_many(self) -> Self:
        if len(self.message_ids) != len(self.new_messages):
            raise ValueError("message_ids and new_messages must be equally many")
        return self


class NewKnowledge(BaseModel):
    """Texts to be known of a user."""

    knowledge: Annotated[list[Body], Field(max_length=1000)]


class KnowledgeIds(BaseModel):
    """Knowledge that is meant."""

    knowledge_ids: Ids


class KnowledgePatch(KnowledgeIds):
    """New texts in the place of others."""

    new_knowledge: Annotated[list[Body], Field(max_length=1000)]

    @model_validator(mode="after")
    def _as_many(self) -> Self:
        if len(self.knowledge_ids) != len(self.new_knowledge):
            raise ValueError("knowledge_ids and new_knowledge must be equally many")
        return self


class Query(BaseModel):
    """What is looked for. ``metadata`` is taken and has no effect."""

    query: Body
    session_id: UUID | None = None
    agent_id: UUID | None = None
    top_k: Annotated[int, Field(ge=1, le=100)] = 5
    metadata: dict[str, Any] | None = None


class Permissions(BaseModel):
    """What a key may do."""

    scopes: Annotated[list[Literal["memories:read", "memories:write", "admin"]], Field(max_length=3)] | None = None


class NewKey(BaseModel):
    """A key to be made. ``key`` must stay absent: the service makes secrets itself."""

    name: Name = "memfuse"
    key: None = None
    permissions: Permissions | None = None
    expires_at: Instant | None = None
