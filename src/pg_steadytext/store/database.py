"""A store's connections, and its SQL made out for one table."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from types import TracebackType
from typing import Any, Self

import psycopg
from psycopg import sql
from psycopg_pool import AsyncConnectionPool

from pg_steadytext import statements
from pg_steadytext.errors import InvalidArgument
from pg_steadytext.poolers import is_pooled

SQL: Mapping[str, bytes] = {
    name: statement
    for filename in ("store", "m0", "m1", "m2")
    for name, statement in statements.load("pg_steadytext.store", f"sql/{filename}.sql").items()
}
MOST_CONNECTIONS = 4

Connection = psycopg.AsyncConnection[tuple[Any, ...]]
Rows = list[tuple[Any, ...]]


def quoted(table: str) -> str:
    """A table's name as SQL writes it: ``table`` or ``schema.table``, each part literally.

    Raises InvalidArgument.
    """
    parts = table.split(".")
    if len(parts) > 2 or not all(parts) or "%" in table:
        raise InvalidArgument(
            f"table_name must be a name, or a schema's name, a dot and a name, without a percent sign, not {table!r}"
        )
    return ".".join('"' + part.replace('"', '""') + '"' for part in parts)


def identifier(table: str) -> sql.Identifier:
    """A table's name as an identifier."""
    return sql.Identifier(*table.split("."))


def beside(table: str, pattern: str) -> str:
    """The name of something that belongs to a table: its last part put into the pattern's braces."""
    schema, dot, name = table.rpartition(".")
    return schema + dot + pattern.format(name)


class Opened(ABC):
    """Made ready on entering a block, closed on leaving it."""

    @abstractmethod
    async def initialize(self) -> None:
        """Make what is not there yet."""

    @abstractmethod
    async def close(self) -> None:
        """Close the connections."""

    async def __aenter__(self) -> Self:
        await self.initialize()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()


async def _unprepared_if_pooled(connection: Connection) -> None:
    await is_pooled(connection)
    await connection.commit()


class Database:
    """A pool of connections, opened when it is first needed, and the schema that has the extension."""

    def __init__(self, parameters: Mapping[str, Any]) -> None:
        self._parameters = {
            "fallback_application_name": "pg_steadytext store", **parameters, "client_encoding": "UTF8",
        }  # fmt: skip
        self._pool: AsyncConnectionPool[Connection] | None = None
        self._schema: str | None = None
        self._opening = asyncio.Lock()

    async def open(self) -> None:
        """Open the pool. Raises InvalidArgument when the database has no extension pg_steadytext."""
        async with self._opening:
            if self._pool is not None:
                return
            pool: AsyncConnectionPool[Connection] = AsyncConnectionPool(
                kwargs=self._parameters, min_size=0, max_size=MOST_CONNECTIONS, open=False, name="store",
                configure=_unprepared_if_pooled,
            )  # fmt: skip
            await pool.open()
            try:
                self._schema = await self._extension_schema(pool)
            except BaseException:
                await pool.close()
                raise
            self._pool = pool

    async def _extension_schema(self, pool: AsyncConnectionPool[Connection]) -> str:
        async with pool.connection() as connection:
            found = await (await connection.execute(SQL["extension_schema"])).fetchone()
        if found is None:
            raise InvalidArgument(
                "the database has no extension pg_steadytext", hint="CREATE EXTENSION pg_steadytext CASCADE creates it"
            )
        return str(found[0])

    async def close(self) -> None:
        """Close every connection; what is used afterwards opens them again."""
        pool, self._pool = self._pool, None
        if pool is not None:
            await pool.close()

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[Connection]:
        """A connection for one transaction: committed at the end, rolled back where an error leaves it."""
        await self.open()
        assert self._pool is not None
        async with self._pool.connection() as connection:
            yield connection

    def compose(self, statement: str, table: str, **parts: sql.Composable) -> sql.Composed:
        """The statement of that name, made out for a table."""
        return sql.SQL(SQL[statement].decode()).format(
            steadytext=sql.Identifier(self._schema or "public"),
            table=identifier(table),
            name=sql.Literal(quoted(table)),
            **parts,
        )

    async def rows(
        self,
        connection: Connection,
        statement: str,
        table: str,
        values: Mapping[str, Any] | None = None,
        **parts: sql.Composable,
    ) -> Rows:
        """Execute a statement on a connection and return its rows."""
        cursor = await connection.execute(self.compose(statement, table, **parts), values)
        return await cursor.fetchall() if cursor.description is not None else []

    async def run(
        self, statement: str, table: str, values: Mapping[str, Any] | None = None, **parts: sql.Composable
    ) -> Rows:
        """Execute a statement in a transaction of its own and return its rows."""
        async with self.connection() as connection:
            return await self.rows(connection, statement, table, values, **parts)
