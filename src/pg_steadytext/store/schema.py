"""A store's own table: made where it is missing, completed where it is older, left alone where it is ready."""

from __future__ import annotations

from psycopg import sql

from pg_steadytext.errors import InvalidArgument, NotFound
from pg_steadytext.store.database import Connection, Database, beside, identifier

NEEDED = frozenset({"id", "content", "metadata"})
"""What a table of the user's own must have."""
OWN = NEEDED | {
    "needs_embedding", "retry_count", "last_retry_at", "retry_status", "created_at", "updated_at", "embedded_at",
}  # fmt: skip
"""What the tables have that the store makes."""
LONGEST = 43
"""Bytes of a table's name; of longer ones PostgreSQL cuts the names of what is made beside, and two become the same."""


async def columns(database: Database, connection: Connection, table: str) -> frozenset[str]:
    """The table's columns; none where there is no table."""
    return frozenset(name for (name,) in await database.rows(connection, "columns", table))


def keeper(table: str) -> str:
    """The name of the function, and of its trigger, that keeps a table's flags."""
    return beside(table, "update_{}_updated_at")


async def is_ready(database: Database, connection: Connection, table: str) -> bool:
    """Whether a table of the store's own is all that it must be."""
    if not await columns(database, connection, table) >= OWN:
        return False
    trigger = sql.Literal(keeper(table).rpartition(".")[2])
    return bool((await database.rows(connection, "has_triggers", table, trigger=trigger))[0][0])


async def build(database: Database, connection: Connection, table: str) -> None:
    """Make a store's table, or complete one of the older schema. Its rows stay. Raises InvalidArgument."""
    if len(table.rpartition(".")[2].encode()) > LONGEST:
        raise InvalidArgument(f"table_name must have at most {LONGEST} bytes, not {table!r}")
    found = await columns(database, connection, table)
    if not found:
        await database.rows(connection, "table", table)
    elif not found >= OWN:
        await database.rows(connection, "missing_columns", table)
    for (trigger,) in await database.rows(connection, "old_triggers", table):
        await database.rows(connection, "drop_trigger", table, trigger=sql.Identifier(trigger))


async def finish(database: Database, connection: Connection, table: str, view: str) -> None:
    """What can be made only when the table has its vectors' column: what keeps the flags, and the view."""
    if "embedded_at" not in await columns(database, connection, table):
        return
    keep, trigger = identifier(keeper(table)), sql.Identifier(keeper(table).rpartition(".")[2])
    await database.rows(connection, "keep_function", table, keep=keep)
    await database.rows(connection, "old_flags", table)
    await database.rows(connection, "keep_trigger", table, keep=keep, trigger=trigger)
    name = table.rpartition(".")[2]
    await database.rows(connection, "created_index", table, created=sql.Identifier(f"idx_{name}_created"))
    await database.rows(connection, "pending_index", table, pending=sql.Identifier(f"idx_{name}_needs_embedding"))
    await database.rows(connection, "view", table, view=identifier(view))


async def rename(database: Database, connection: Connection, old: str, new: str) -> None:
    """Give a table of the older schema its new name. Raises NotFound where it is not there."""
    if not (await database.rows(connection, "exists", old))[0][0]:
        raise NotFound(f"there is no table {old} to migrate")
    await database.rows(connection, "rename", old, old=identifier(old), new=sql.Identifier(new.rpartition(".")[2]))


async def undo(database: Database, connection: Connection, table: str, view: str, old: str | None) -> None:
    """Take back what a migration did, but for the columns that it added, and the rows and vectors."""
    trigger = sql.Identifier(keeper(table).rpartition(".")[2])
    await database.rows(connection, "drop_view", table, view=identifier(view))
    await database.rows(connection, "drop_trigger", table, trigger=trigger)
    await database.rows(connection, "forget", table)
    if old is not None:
        await database.rows(
            connection, "rename", table, old=identifier(table), new=sql.Identifier(old.rpartition(".")[2])
        )
