"""What PostgreSQL tells by NOTIFY, to all streams of this process by one connection."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from uuid import UUID

import psycopg

from pg_steadytext.memory.domain.problems import Problem
from pg_steadytext.memory.storage.database import Database

CHANNEL = b"LISTEN memory_reminders"
RETRY_SECONDS = 1.0

log = logging.getLogger(__name__)


class Notices:
    """Wakes the streams of the user whom a notice names; it says that there is something to read, and not what."""

    def __init__(self, database: Database, most_per_user: int) -> None:
        self.database = database
        self.most_per_user = most_per_user
        self.stopped = False
        self._waiting: dict[UUID, set[asyncio.Event]] = {}

    def join(self, user_id: UUID) -> tuple[asyncio.Event, Callable[[], None]]:
        """Return what is set when there is something to read, and how to leave.

        Raises ``Problem`` 429 when the user has as many streams as there may be.
        """
        mine = self._waiting.setdefault(user_id, set())
        if len(mine) >= self.most_per_user:
            says = f"there are {self.most_per_user} live streams of yours; close one"
            raise Problem(429, "too-many-streams", says, {"limit": self.most_per_user, "remaining": 0, "reset": 15})
        event = asyncio.Event()
        mine.add(event)

        def leave() -> None:
            mine.discard(event)
            if not mine and self._waiting.get(user_id) is mine:
                del self._waiting[user_id]

        return event, leave

    def stop(self) -> None:
        """Have every stream end."""
        self.stopped = True
        self._wake_all()

    async def listen(self) -> None:
        """Wake streams until cancelled. After a break everybody looks, for notices that nobody heard."""
        while True:
            try:
                async with await self.database.connect() as connection:
                    await connection.execute(CHANNEL)
                    self._wake_all()
                    async for notice in connection.notifies():
                        self._wake(notice.payload)
            except psycopg.Error as error:
                log.warning("no notices for now: %s", error)
            except Exception:
                # Nobody waits for this task: what ended it would be seen nowhere, and no stream would wake again.
                log.exception("the notices begin anew")
            await asyncio.sleep(RETRY_SECONDS)

    def _wake(self, user: str) -> None:
        try:
            user_id = UUID(user)
        except ValueError:
            # Whoever is connected to the database may notify the channel.
            log.warning("a notice names no user: %.40r", user)
            return
        for event in self._waiting.get(user_id, ()):
            event.set()

    def _wake_all(self) -> None:
        for events in self._waiting.values():
            for event in events:
                event.set()
