"""What a call of a model may cost, and what stands between a caller and the model."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol, TypeVar
from uuid import UUID

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Tokens:
    """Tokens read and written by one call: what it may take at most, or what it took."""

    read: int
    written: int = 0


class UnaffordableError(Exception):
    """The call was not made: a budget is spent, or the breaker is open; `retry_at` is when it may be again."""

    def __init__(self, reason: str, retry_at: datetime) -> None:
        super().__init__(f"{reason}, until {retry_at.isoformat()}")
        self.reason = reason
        self.retry_at = retry_at


class UnpricedModelError(LookupError):
    """The call was not made: nobody knows what the model costs."""


class UnknownUserError(LookupError):
    """The call was not made: there is no such user, or no longer."""


class CallFailedError(Exception):
    """A call failed that is known to have used so many tokens: none, when it never reached the model.

    Any other exception leaves open what was used, and the whole reservation counts as spent.
    """

    def __init__(self, reason: str, used: Tokens) -> None:
        super().__init__(reason)
        self.used = used


class Guard(Protocol):
    """Reserves a call's price, makes the call while the breaker lets it, and settles what it cost."""

    async def call(
        self, purpose: str, model: str, user_id: UUID, most: Tokens, work: Callable[[], Awaitable[tuple[T, Tokens]]],
        *, settles_later: bool = False,
    ) -> T:  # fmt: skip
        """Return what ``work`` returns; raises ``UnaffordableError`` without having called it, or what it raises.

        With `settles_later` it does not wait until what the call cost is written down.
        """
        ...
