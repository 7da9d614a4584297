"""A worker moved by hand: a test claims and ends requests when it wants to, and no daemon is asked."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import psycopg

FLOORS = ["-infinity"] * 10
LEASE = "1 minute"


@dataclass(frozen=True)
class Claimed:
    """A request that the worker holds."""

    id: int
    request_id: UUID
    request_type: str
    attempt: int
    prompt: str
    params: dict[str, Any]


class HandWorker:
    """Calls the worker's side of the queue over one autocommit session of a role that may."""

    def __init__(self, connection: psycopg.Connection[Any]) -> None:
        self._connection = connection
        self.worker_id = self._one("SELECT _steadytext_worker_register('hand', %s)", LEASE)

    def claim(self, lane: str = "generate", wanted: int = 100) -> list[Claimed]:
        """Claim the requests that are due, in the order in which they were queued."""
        rows = self._connection.execute(
            "SELECT id, request_id, request_type, attempt, prompt, params"
            " FROM _steadytext_queue_claim(%s, %s, %s, 0, %s::timestamptz[]) ORDER BY id",
            (self.worker_id, lane, wanted, FLOORS),
        )
        return [Claimed(*row) for row in rows]

    def finish(self, claimed: Claimed, answer: str) -> bool:
        """Write a request's answer: a text, a vector's text, or a reranking's JSON; False when it was cancelled."""
        embeds = claimed.request_type == "embed"
        return self._ended(
            "SELECT count(*) FROM _steadytext_queue_finish("
            "%s, %s::bigint[], %s::int[], %s::text[], %s::text[], '{hand}', '{NULL}', '{1}', 'hand')",
            *(self.worker_id, [claimed.id], [claimed.attempt]),
            *([None if embeds else answer], [answer if embeds else None]),
        )

    def fail(self, claimed: Claimed, message: str, *, code: str = "58000", retryable: bool = False) -> bool:
        """Note a failed attempt; False when the request was cancelled."""
        return self._ended(
            "SELECT count(*) FROM _steadytext_queue_fail("
            "%s, %s::bigint[], %s::int[], %s::text[], %s::text[], %s::boolean[])",
            *(self.worker_id, [claimed.id], [claimed.attempt], [code], [message], [retryable]),
        )

    def send_piece(self, claimed: Claimed, offset: int, piece: str) -> None:
        """Send a piece of a streamed generation."""
        payload = json.dumps({"o": offset, "t": piece}, ensure_ascii=False)
        self._connection.execute("SELECT pg_notify(%s, %s)", (f"st_{claimed.request_id.hex}", payload))

    def answer_all(self, lane: str = "generate") -> int:
        """Answer everything that is due with its prompt in capitals; returns how many."""
        claimed = self.claim(lane)
        for request in claimed:
            self.finish(request, request.prompt.upper())
        return len(claimed)

    def _ended(self, statement: str, *parameters: object) -> bool:
        return bool(self._one(statement, *parameters))

    def _one(self, statement: str, *parameters: object) -> Any:
        row = self._connection.execute(statement.encode(), parameters).fetchone()
        assert row is not None
        return row[0]
