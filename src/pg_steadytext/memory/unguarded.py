"""A guard that lets every call through and counts nothing: where models cost nobody anything."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from uuid import UUID

from pg_steadytext.memory.domain.spending import T, Tokens


class Unguarded:
    """See ``domain.spending.Guard``."""

    async def call(
        self, purpose: str, model: str, user_id: UUID, most: Tokens,  # noqa: ARG002 (they are a guard's)
        work: Callable[[], Awaitable[tuple[T, Tokens]]],
    ) -> T:  # fmt: skip
        """Make the call."""
        found, _ = await work()
        return found
