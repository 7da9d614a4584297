"""The one session through which a client asks and listens, opened anew when it is lost.

While no statement runs, the event loop watches the session's socket itself, so that a notification is seen the moment
it comes and nothing is polled. While one runs, psycopg watches the socket and hands on what it meets.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar

import psycopg
from psycopg import sql

from pg_steadytext.client._errors import ClientClosed, translated
from pg_steadytext.client._statements import SQL, compose
from pg_steadytext.errors import InvalidArgument
from pg_steadytext.poolers import is_pooled

T = TypeVar("T")
Connection = psycopg.AsyncConnection[tuple[Any, ...]]


@dataclass(slots=True)
class Session:
    """An open connection, the schema of its database's extension, and the channels it listens on.

    Through a pooler it listens on none: nothing would be heard there.
    """

    connection: Connection
    schema: str
    is_pooled: bool
    channels: set[str] = field(default_factory=set)

    async def rows(self, name: str, parameters: dict[str, Any]) -> list[tuple[Any, ...]]:
        """Execute the client's statement of that name and return its rows."""
        return await self.execute(compose(name, self.schema), parameters)

    async def execute(self, statement: sql.Composed, parameters: Any = None) -> list[tuple[Any, ...]]:
        """Execute a statement and return its rows."""
        return await (await self.connection.execute(statement, parameters)).fetchall()

    async def listen(self, channel: str) -> None:
        """Listen on a channel, from the end of the transaction on."""
        if self.is_pooled:
            return
        await self.connection.execute(compose("listen", self.schema, channel=sql.Identifier(channel)))
        self.channels.add(channel)

    async def tune(self, wanted: set[str]) -> None:
        """Listen on these channels and on no other."""
        for channel in wanted - self.channels:
            await self.listen(channel)
        for channel in self.channels - wanted:
            await self.connection.execute(compose("unlisten", self.schema, channel=sql.Identifier(channel)))
            self.channels.discard(channel)


class Link:
    """Runs work on the session, one piece at a time.

    ``notified(channel, payload)`` and ``lost()`` are called when that happens.
    """

    def __init__(
        self,
        open_connection: Callable[[], Awaitable[Connection]],
        notified: Callable[[str, str], None],
        lost: Callable[[], None],
    ) -> None:
        self._open_connection = open_connection
        self._notified = notified
        self._lost = lost
        self._lock = asyncio.Lock()
        self._session: Session | None = None
        self._watched: int | None = None
        self._closed = False
        self.opened = 0
        """How many sessions there have been."""

    async def run(self, work: Callable[[Session], Awaitable[T]]) -> T:
        """Run ``work`` on the session, opened if need be.

        Raises ``ServerUnavailable`` when there is none to be had or it was lost in the middle, ``ClientClosed``, and
        PostgreSQL's errors as ours.
        """
        async with self._lock:
            try:
                session = await self._ready()
                self._ignore_socket()
                return await work(session)
            except psycopg.Error as error:
                raise translated(error) from error
            except UnicodeEncodeError as error:
                place = f"character {error.start}"
                raise InvalidArgument(f"a text is not valid Unicode: it has a lone surrogate at {place}") from error
            finally:
                self._watch_socket()

    async def close(self) -> None:
        """End the session; what runs on it is finished first."""
        self._closed = True
        async with self._lock:
            session = self._session
            self._forget()
            if session is not None:
                await session.connection.close()

    async def _ready(self) -> Session:
        if self._closed:
            raise ClientClosed("the client is closed")
        if self._session is None:
            connection = await self._open_connection()
            try:
                pooled = await is_pooled(connection)
                if not pooled:
                    await connection.execute(SQL["isolate"])
                schema = await _extension_schema(connection)
            except BaseException:
                await connection.close()
                raise
            connection.add_notify_handler(lambda note: self._notified(note.channel, note.payload))
            self._session = Session(connection, schema, pooled)
            self.opened += 1
        return self._session

    def _watch_socket(self) -> None:
        if self._session is None:
            return
        if self._session.connection.closed:
            self._drop()
            return
        self._watched = self._session.connection.fileno()
        asyncio.get_running_loop().add_reader(self._watched, self._readable)
        # what came together with an answer is in libpq's buffer, and the socket will not tell of it
        self._readable()

    def _ignore_socket(self) -> None:
        if self._watched is not None:
            asyncio.get_running_loop().remove_reader(self._watched)
            self._watched = None

    def _readable(self) -> None:
        if self._session is None:
            return
        libpq = self._session.connection.pgconn
        try:
            libpq.consume_input()
            while note := libpq.notifies():
                self._notified(note.relname.decode(), note.extra.decode())
        except psycopg.OperationalError:
            self._drop()

    def _drop(self) -> None:
        session = self._session
        self._forget()
        if session is not None:
            session.connection.pgconn.finish()
            self._lost()

    def _forget(self) -> None:
        self._ignore_socket()
        self._session = None


async def _extension_schema(connection: Connection) -> str:
    found = await (await connection.execute(SQL["extension_schema"])).fetchone()
    if found is None:
        raise InvalidArgument(
            f"database {connection.info.dbname} has no extension pg_steadytext",
            hint="CREATE EXTENSION pg_steadytext CASCADE; or connect to the database that has it.",
        )
    return str(found[0])
