"""How a request ended, and the Python value of its result."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Literal
from uuid import UUID

from pg_steadytext.client._errors import RequestCancelled, RequestFailed, UnknownRequest

Status = Literal["pending", "processing", "completed", "failed", "cancelled"]


@dataclass(frozen=True, slots=True)
class Outcome:
    """The final state of a request; ``status`` is None for one that nobody knows."""

    request_id: UUID
    status: Status | None
    request_type: str | None = None
    result: str | None = None
    embedding: str | None = None
    error: str | None = None
    code: str | None = None

    def value(self) -> Any:
        """Return the text, the embedding as a list of floats, or the documents, best first.

        Documents stand with their scores, but alone where the request was queued with ``return_scores => false``.
        Raises ``RequestFailed``, ``RequestCancelled`` or ``UnknownRequest``.
        """
        if self.status is None:
            raise UnknownRequest(self.request_id)
        if self.status == "cancelled":
            raise RequestCancelled(self.request_id)
        if self.status == "failed":
            raise RequestFailed(self.error or "the request failed", request_id=self.request_id, code=self.code)
        if self.embedding is not None:
            return json.loads(self.embedding)
        if self.request_type == "rerank" and self.result is not None:
            return [found if isinstance(found, str) else tuple(found) for found in json.loads(self.result)]
        return self.result
