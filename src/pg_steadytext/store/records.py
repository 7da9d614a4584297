"""What goes into a store and what a search gives back."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

from pg_steadytext.errors import InvalidArgument


@dataclass(slots=True, init=False)
class ChunkData:
    """A text with an id and with what its user wants to keep beside it. Without an id it is given one."""

    id: str
    content: str
    metadata: dict[str, Any]

    def __init__(
        self,
        content: str,
        metadata: dict[str, Any] | None = None,
        *,
        id: str | None = None,  # noqa: A002 (the document's name)
        chunk_id: str | None = None,
    ) -> None:
        if id is not None and chunk_id is not None and id != chunk_id:
            raise InvalidArgument("id and chunk_id are the same thing: give one of them")
        self.id = id or chunk_id or str(uuid4())
        self.content = content
        self.metadata = {} if metadata is None else metadata

    @property
    def chunk_id(self) -> str:
        """The id, by its other name."""
        return self.id


@dataclass(slots=True)
class SearchResult:
    """A row that was found: its score is the search's, its similarity the cosine (None where only a word matched)."""

    id: str
    content: str
    score: float
    similarity: float | None = None
    metadata: dict[str, Any] = field(default_factory=dict)
    layer: str | None = None
    table: str | None = None

    @property
    def chunk_id(self) -> str:
        """The id, by its other name."""
        return self.id
