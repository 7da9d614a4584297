"""A query's vector: by the model within a deadline, or from a few that were asked for lately."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from uuid import UUID

from pg_steadytext.daemon.aio import AsyncDaemonClient
from pg_steadytext.errors import DeadlineExceeded
from pg_steadytext.memory.domain.embedding import MODEL, likely_tokens, most_tokens
from pg_steadytext.memory.domain.spending import Guard, Tokens

PURPOSE = "search"
KEPT = 1000


class Meaning:
    """Turns queries into vectors. `open` it in the event loop that uses it."""

    def __init__(self, address: str, guard: Guard, deadline_ms: int) -> None:
        # Sooner than the deadline, so that one who is not there is told from one who is slow.
        self._daemon = AsyncDaemonClient(address, timeout_ms=deadline_ms, connect_ms=max(1, deadline_ms * 2 // 3))
        self._guard = guard
        self._deadline_ms = deadline_ms
        self._kept: OrderedDict[str, str] = OrderedDict()

    def open(self) -> None:
        """Begin to connect, and wait for nothing."""
        self._daemon.open()

    def close(self) -> None:
        """Close the connection."""
        self._daemon.close()

    async def vector(self, query: str, user_id: UUID) -> str:
        """Return a query's vector in pgvector's form.

        Raises ``UnaffordableError``, ``DeadlineExceeded`` and the daemon's errors.
        """
        if query in self._kept:
            self._kept.move_to_end(query)
            return self._kept[query]

        async def ask() -> tuple[str, Tokens]:
            try:
                async with asyncio.timeout(self._deadline_ms / 1000):
                    found = await self._daemon.embed_batch([query], model=MODEL, deadline_ms=self._deadline_ms)
            except TimeoutError:
                raise DeadlineExceeded(f"the model did not answer within {self._deadline_ms} ms") from None
            return found.embeddings[0], likely_tokens([query])

        vector = await self._guard.call(PURPOSE, MODEL, user_id, most_tokens([query]), ask, settles_later=True)
        self._kept[query] = vector
        if len(self._kept) > KEPT:
            self._kept.popitem(last=False)
        return vector
