"""Connections, and the transaction of a request: the user's own, under row-level security."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import psycopg
from psycopg_pool import AsyncConnectionPool

from pg_steadytext import statements
from pg_steadytext.memory.storage.shares import Shares
from pg_steadytext.poolers import is_pooled
from pg_steadytext.settings import Settings

FILES = (
    "accounts", "memories", "attached", "people", "spending", "search", "reminders", "sync", "memfuse",
    "duplicates", "flags", "facts",
)  # fmt: skip

Connection = psycopg.AsyncConnection[tuple[Any, ...]]
Row = tuple[Any, ...]


def load_statements() -> dict[str, bytes]:
    """Return every statement of the service by its name."""
    found: dict[str, bytes] = {}
    for name in FILES:
        for statement, text in statements.load("pg_steadytext.memory.storage", f"sql/{name}.sql").items():
            if statement in found:
                raise ValueError(f"{statement} is named twice")
            found[statement] = text
    return found


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks, as far as the request tells: a kind of token (`key`, `session` or `feed`) and the token's hash.

    `csrf` is the hash of the token beside the cookie, where one is due.
    """

    kind: str
    token_hash: bytes
    csrf: bytes | None = None


@dataclass(frozen=True, slots=True)
class Unit:
    """A request's transaction."""

    connection: Connection
    sql: Mapping[str, bytes]
    user_id: UUID
    scopes: Sequence[str]

    async def rows(self, name: str, params: Mapping[str, Any] | None = None) -> list[Row]:
        """Run a statement; `user` is there for every one."""
        cursor = await self.connection.execute(self.sql[name], {"user": self.user_id, **(params or {})})
        return await cursor.fetchall() if cursor.description is not None else []

    async def row(self, name: str, params: Mapping[str, Any] | None = None) -> Row | None:
        """Run a statement and return its first row."""
        return next(iter(await self.rows(name, params)), None)


async def _unprepared_if_pooled(connection: Connection) -> None:
    await is_pooled(connection)


class Database:
    """The service's connections."""

    def __init__(
        self,
        settings: Settings,
        connections: int,
        wait_seconds: float,
        sql: Mapping[str, bytes] | None = None,
        *,
        ready: int = 2,
    ) -> None:
        """Make a pool of at most ``connections``: ``ready`` stay open, and no user has more than three quarters."""
        self.sql = load_statements() if sql is None else sql
        self.where: dict[str, Any] = {
            "host": settings.pg_host, "port": settings.pg_port, "dbname": settings.pg_database,
            "user": settings.pg_user, "application_name": "pg_steadytext memory", "autocommit": True,
            "client_encoding": "UTF8", "connect_timeout": 10,
            "keepalives_idle": 30, "keepalives_interval": 10, "keepalives_count": 3,
        }  # fmt: skip
        self.pool: AsyncConnectionPool[Connection] = AsyncConnectionPool(
            kwargs=self.where,
            min_size=min(ready, connections), max_size=connections, timeout=wait_seconds, open=False,
            configure=_unprepared_if_pooled,
        )  # fmt: skip
        self._shares = Shares(connections, wait_seconds)

    async def open(self) -> None:
        """Begin to connect, and wait for nothing: a service without its database says so to who asks."""
        await self.pool.open(wait=False)

    async def close(self) -> None:
        """Give the connections back to the server."""
        await self.pool.close()

    async def connect(self) -> Connection:
        """Open a connection beside the pool, for who keeps it."""
        return await psycopg.AsyncConnection.connect(**self.where)

    @asynccontextmanager
    async def _connection_of(self, kind: str | None, token: bytes | None) -> AsyncIterator[Connection]:
        """Take a connection of the share of the token's user; what comes without a kind of token is nobody's."""
        if kind is None or token is None:
            async with self.pool.connection() as connection:
                yield connection
            return
        user_id = self._shares.user_of(token) or await self.find_user(kind, token)
        async with self._shares.one_of(user_id or token), self.pool.connection() as connection:
            yield connection

    async def find_user(self, kind: str, token: bytes) -> UUID | None:
        """Find out whose a token is, None when it opens nothing. It waits for no write, so that it needs no share."""
        user_id: UUID | None
        (user_id,) = await self.column("whose", {"kind": kind, "hash": token})
        if user_id is not None:
            self._shares.remember(token, user_id)
        return user_id

    @asynccontextmanager
    async def unit(self, caller: Caller, scope: str) -> AsyncIterator[Unit]:
        """Open a transaction as the caller, for what needs the scope; it is undone when an exception leaves it.

        Raises ``psycopg.Error`` with the SQLSTATE of a refusal when the caller is unknown or lacks the scope.
        """
        async with self._connection_of(caller.kind, caller.token_hash) as connection, connection.transaction():
            params = {"kind": caller.kind, "hash": caller.token_hash, "scope": scope, "csrf": caller.csrf}
            entry = self.sql["enter_feed" if caller.kind == "feed" else "enter"]
            entered = await (await connection.execute(entry, params, prepare=True)).fetchone()
            assert entered is not None
            yield Unit(connection, self.sql, *entered)

    @asynccontextmanager
    async def work_for(self, user_id: UUID) -> AsyncIterator[Unit]:
        """Open a transaction of the worker's as a user, under the same row-level security."""
        async with self.pool.connection() as connection, connection.transaction():
            unit = Unit(connection, self.sql, user_id, ())
            await unit.rows("work_for")
            yield unit

    async def column(self, name: str, params: Mapping[str, Any]) -> list[Any]:
        """Run one statement as a transaction of its own, before anybody is known, and return its first column."""
        async with self.pool.connection() as connection:
            return [row[0] for row in await (await connection.execute(self.sql[name], params, prepare=True)).fetchall()]

    async def call(self, name: str, params: Mapping[str, Any]) -> Row:
        """Run one statement as a transaction of its own, before anybody is known, and return its only row."""
        (row,) = await self.calls(name, params)
        return row

    async def calls(self, name: str, params: Mapping[str, Any]) -> list[Row]:
        """Run one statement as a transaction of its own, before anybody is known, and return its rows.

        Where `kind` and `hash` are a caller's, it is of the user's share.
        """
        async with self._connection_of(params.get("kind"), params.get("hash")) as connection:
            return await (await connection.execute(self.sql[name], params, prepare=True)).fetchall()
