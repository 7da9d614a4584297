"""Connections that come back: one statement after the other, each in its own transaction."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import psycopg

from pg_steadytext import shielding, statements
from pg_steadytext.poolers import is_pooled
from pg_steadytext.queue.pauses import Pauses

SQL: Mapping[str, bytes] = statements.load("pg_steadytext.queue", "sql/worker.sql")

Connection = psycopg.AsyncConnection[tuple[Any, ...]]
Connect = Callable[[], Awaitable[Connection]]
"""Opens an autocommit connection, or raises ``psycopg.OperationalError``."""

Rows = list[tuple[Any, ...]]

TRANSIENT = (
    psycopg.errors.DeadlockDetected,
    psycopg.errors.SerializationFailure,
    psycopg.errors.LockNotAvailable,
    psycopg.errors.QueryCanceled,
)
"""A statement that met one of these did nothing, and may do better the next time."""

log = logging.getLogger(__name__)


class ConnectionLost(Exception):  # noqa: N818 (it says the case)
    """The connection was lost while a statement ran: nobody knows whether it was carried out."""


class Session:
    """A connection for short statements, made when it is first needed and again whenever it was lost.

    `connections` counts how often it was made: what belongs to a PostgreSQL session ends with it. Through a pooler
    (`is_pooled`, known once it was made) nothing does: each statement brings its settings along, and none is prepared.
    """

    def __init__(self, connect: Connect, name: str, prepare: str = "prepare", sql: Mapping[str, bytes] = SQL) -> None:
        self.name = name
        self.connections = 0
        self.is_pooled = False
        self._connect = connect
        self._prepare = prepare
        self._sql = sql
        self._connection: Connection | None = None
        self._lock = asyncio.Lock()
        self._pauses = Pauses()

    async def run(self, name: str, params: Mapping[str, Any] | None = None) -> Rows:
        """Run a statement, again and again while the connection is lost under it: only for one that may be repeated.

        Raises ``psycopg.Error`` for what the statement itself did wrong.
        """
        while True:
            try:
                return await self.run_once(name, params)
            except ConnectionLost as error:
                log.warning("%s; doing it again", error)

    async def run_once(self, name: str, params: Mapping[str, Any] | None = None) -> Rows:
        """Run a statement. Raises ConnectionLost, and ``psycopg.Error`` as `run` does.

        Its caller may be cancelled; the statement is not, so that the connection stays usable.
        """
        running = asyncio.ensure_future(self._run(name, params))
        try:
            return await shielding.outcome(running)
        except asyncio.CancelledError:
            running.add_done_callback(_noted)
            raise

    async def connected(self) -> None:
        """Wait until there is a connection."""
        async with self._lock:
            await self._connected()

    async def close(self) -> None:
        """Close the connection, after the statement that may be running."""
        async with self._lock:
            if self._connection is not None:
                await self._connection.close()

    async def _run(self, name: str, params: Mapping[str, Any] | None) -> Rows:
        async with self._lock:
            connection = await self._connected()
            try:
                return await self._execute(connection, name, params)
            except (psycopg.OperationalError, psycopg.errors.FeatureNotSupported) as error:
                if isinstance(error, psycopg.errors.FeatureNotSupported):
                    await connection.close()  # an upgrade changed what a prepared statement returns
                if not (connection.closed or connection.broken):
                    raise
                self._connection = None
                raise ConnectionLost(f"the connection for {self.name} was lost in {name}: {error}") from error

    async def _execute(self, connection: Connection, name: str, params: Mapping[str, Any] | None) -> Rows:
        execute = self._execute_alone if self.is_pooled else self._execute_prepared
        try:
            return await execute(connection, name, params)
        except TRANSIENT as error:
            log.warning("%s was interrupted, doing it again: %s", name, error)
            return await execute(connection, name, params)

    async def _execute_prepared(self, connection: Connection, name: str, params: Mapping[str, Any] | None) -> Rows:
        cursor = connection.cursor(binary=True)
        await cursor.execute(self._sql[name], params, prepare=True)
        return await cursor.fetchall() if cursor.description is not None else []

    async def _execute_alone(self, connection: Connection, name: str, params: Mapping[str, Any] | None) -> Rows:
        """With settings that end with the transaction: whoever is lent this server session next must not find them."""
        async with connection.transaction():
            await connection.execute(SQL[self._prepare], {"local": True})
            cursor = connection.cursor(binary=True)
            await cursor.execute(self._sql[name], params)
            return await cursor.fetchall() if cursor.description is not None else []

    async def _connected(self) -> Connection:
        while self._connection is None or self._connection.closed:
            try:
                connection = await self._connect()
                self.is_pooled = await is_pooled(connection)
                await connection.set_isolation_level(psycopg.IsolationLevel.READ_COMMITTED)
                if not self.is_pooled:
                    await connection.execute(SQL[self._prepare], {"local": False})
            except psycopg.OperationalError as error:
                pause = self._pauses.next()
                log.warning("no connection for %s, trying again in %.1f s: %s", self.name, pause, error)
                await asyncio.sleep(pause)
                continue
            self._pauses.reset()
            self.connections += 1
            self._connection = connection
        return self._connection


def _noted(running: asyncio.Task[Rows]) -> None:
    """Log how a statement failed that nobody waits for any more."""
    if not running.cancelled() and (error := running.exception()) is not None:
        log.warning("a statement failed after its caller had left: %s", error)
