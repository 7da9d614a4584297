"""Hearing notifications, over a connection of their own that is made again whenever it is lost.

A pooler carries no notifications: through one, the worker looks for work every now and then.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

import psycopg

from pg_steadytext.poolers import is_pooled
from pg_steadytext.queue.pauses import Pauses, Ticks
from pg_steadytext.queue.sessions import SQL, Connect, Connection

DEBOUNCE = 0.01
HEALTH_SECONDS = 10.0
LOOK_SECONDS = 1.0
"""Between two looks where nothing can be heard."""

log = logging.getLogger(__name__)


class Debounced:
    """Calls a function at once, and again DEBOUNCE later where it was called meanwhile: a burst is one call, or two."""

    def __init__(self, function: Callable[[], None]) -> None:
        self._function = function
        self._again = False
        self._resting: asyncio.TimerHandle | None = None

    def __call__(self) -> None:
        """Call the function, now or in a moment."""
        if self._resting is not None:
            self._again = True
            return
        self._function()
        self._resting = asyncio.get_running_loop().call_later(DEBOUNCE, self._rested)

    def _rested(self) -> None:
        self._resting = None
        if self._again:
            self._again = False
            self()


class Listener:
    """Calls `on_queue` and `on_cancel` for notifications, and both after each connect: some may have been missed.

    Where they cannot be heard, both are called every LOOK_SECONDS. The connection's descriptor is watched directly,
    since a wait of psycopg's own wakes ten times a second.
    """

    def __init__(
        self, connect: Connect, on_queue: Callable[[], None], on_cancel: Callable[[], None], ticks: Ticks
    ) -> None:
        self._connect = connect
        self._calls = {"steadytext_queue": Debounced(on_queue), "steadytext_cancel": Debounced(on_cancel)}
        self._ticks = ticks
        self._pauses = Pauses()

    async def run(self) -> None:
        """Listen, until cancelled."""
        while True:
            try:
                async with await self._connect() as connection:
                    async with asyncio.timeout(HEALTH_SECONDS):
                        if await is_pooled(connection):
                            break
                        connection.add_notify_handler(lambda notify: self._calls[notify.channel]())
                        await connection.execute(SQL["prepare"], {"local": False})
                        await connection.execute(SQL["listen_queue"])
                        await connection.execute(SQL["listen_cancel"])
                    self._pauses.reset()
                    log.info("listening as server process %d", connection.info.backend_pid)
                    for call in self._calls.values():
                        call()
                    await self._listen(connection)
            except (psycopg.OperationalError, TimeoutError) as error:
                pause = self._pauses.next()
                log.warning("nothing can be heard, connecting again in %.1f s: %s", pause, str(error) or "no answer")
                await asyncio.sleep(pause)
        log.warning(
            "PostgreSQL is reached through a pooler: nothing can be heard there, so work is looked for every %g s, "
            "nothing is prepared, and indexes are left to a worker that is connected directly",
            LOOK_SECONDS,
        )
        while True:
            for call in self._calls.values():
                call()
            await asyncio.sleep(LOOK_SECONDS)

    async def _listen(self, connection: Connection) -> None:
        while True:
            try:
                async with asyncio.timeout(self._ticks.until_next(asyncio.get_running_loop().time())):
                    await self._hear(connection)
            except TimeoutError:
                async with asyncio.timeout(HEALTH_SECONDS):
                    await connection.execute(SQL["alive"])

    async def _hear(self, connection: Connection) -> None:
        """Pass notifications on; returns only by being cancelled, or by the error that ends the connection."""
        loop = asyncio.get_running_loop()
        readable = asyncio.Event()
        descriptor = connection.fileno()
        loop.add_reader(descriptor, readable.set)
        try:
            while True:
                connection.pgconn.consume_input()
                while (notify := connection.pgconn.notifies()) is not None:
                    self._calls[notify.relname.decode()]()
                await readable.wait()
                readable.clear()
        finally:
            loop.remove_reader(descriptor)
