"""Telling PostgreSQL itself from a pooler in front of it, as PgBouncer, which lends a server session for a transaction.

Through one, nothing of a session outlasts a transaction: no LISTEN, no session lock, no prepared statement, no setting;
worse, what is left there another client of the pool comes upon. A pooler announces a process number of its own
invention when a connection is made. One that pools whole sessions is told from PostgreSQL in the same way, and treated
like the others.
"""

from __future__ import annotations

from typing import Any

import psycopg

WHO = "SELECT pg_catalog.pg_backend_pid()"


async def is_pooled(connection: psycopg.AsyncConnection[Any]) -> bool:
    """Whether a connection goes through a pooler; then nothing is prepared on it."""
    cursor = await psycopg.AsyncCursor(connection).execute(WHO, prepare=False)
    return _told(connection, await cursor.fetchone())


def is_pooled_now(connection: psycopg.Connection[Any]) -> bool:
    """The same of a blocking connection."""
    return _told(connection, psycopg.Cursor(connection).execute(WHO, prepare=False).fetchone())


def _told(
    connection: psycopg.Connection[Any] | psycopg.AsyncConnection[Any], row: tuple[Any, ...] | dict[str, Any] | None
) -> bool:
    (number,) = row.values() if isinstance(row, dict) else row or (None,)
    pooled: bool = number != connection.info.backend_pid
    if pooled:
        connection.prepare_threshold = None
    return pooled
