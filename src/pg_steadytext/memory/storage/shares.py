"""What a user may take of the connections: a user's writes wait for each other, and must leave some to other users."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from uuid import UUID
from weakref import WeakValueDictionary

from psycopg_pool import PoolTimeout

REMEMBERED = 10_000
"""Tokens whose user is remembered: some 3 MB."""


class Shares:
    """The shares of three quarters, and whose each token is: anybody may make keys, and all of them have one share."""

    def __init__(self, connections: int, wait_seconds: float) -> None:
        self._most = max(1, connections - max(1, connections // 4))
        self._wait_seconds = wait_seconds
        self._taken: WeakValueDictionary[UUID | bytes, asyncio.Semaphore] = WeakValueDictionary()
        self._users: OrderedDict[bytes, UUID] = OrderedDict()

    def user_of(self, token: bytes) -> UUID | None:
        """Return whose a token is, as far as that is remembered. It is never another's, though it may have ended."""
        if token in self._users:
            self._users.move_to_end(token)
        return self._users.get(token)

    def remember(self, token: bytes, user_id: UUID) -> None:
        """Remember whose a token is; who sends tokens of nobody's makes nobody forgotten."""
        self._users[token] = user_id
        if len(self._users) > REMEMBERED:
            self._users.popitem(last=False)

    @asynccontextmanager
    async def one_of(self, owner: UUID | bytes) -> AsyncIterator[None]:
        """Hold the right to one connection. Raises ``PoolTimeout`` when the owner has its share for too long."""
        share = self._taken.get(owner) or self._taken.setdefault(owner, asyncio.Semaphore(self._most))
        if share.locked():
            try:
                await asyncio.wait_for(share.acquire(), self._wait_seconds)
            except TimeoutError:
                raise PoolTimeout(f"one user had its share of the connections for {self._wait_seconds} s") from None
        else:
            await share.acquire()
        try:
            yield
        finally:
            share.release()
