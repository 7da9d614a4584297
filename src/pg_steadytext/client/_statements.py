"""The client's SQL, made out for the schema in which a database has the extension."""

from __future__ import annotations

from psycopg import sql

from pg_steadytext import statements

SQL = statements.load("pg_steadytext.client", "sql/client.sql")


def compose(name: str, schema: str, **parts: sql.Composable) -> sql.Composed:
    """Return the statement called ``name``, with the schema and further parts filled in."""
    return sql.SQL(SQL[name].decode()).format(schema=sql.Identifier(schema), **parts)
