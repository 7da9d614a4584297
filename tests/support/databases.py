"""Databases, sessions and roles of one test, and their removal."""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field
from typing import Any

import psycopg
from psycopg import sql

from pg_steadytext.cluster.postgres import PrivateCluster


def create_database(cluster: PrivateCluster, name: str, template: str | None = None) -> None:
    """Create a database, as a copy of ``template`` if one is named."""
    copied = sql.SQL(" TEMPLATE {}").format(sql.Identifier(template)) if template else sql.SQL("")
    with cluster.connect() as connection:
        connection.execute(sql.SQL("CREATE DATABASE {}{}").format(sql.Identifier(name), copied))


def drop_database(cluster: PrivateCluster, name: str) -> None:
    """Drop a database, whoever is still connected to it."""
    with cluster.connect() as connection:
        connection.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))


@dataclass
class Sessions:
    """Opens sessions on one database and closes them all."""

    cluster: PrivateCluster
    database: str
    roles: dict[str, str]
    opened: list[psycopg.Connection[Any]] = field(default_factory=list)

    def __call__(
        self, *, user: str | None = None, database: str | None = None, autocommit: bool = True, **options: Any
    ) -> psycopg.Connection[Any]:
        """Connect as the superuser, or as a role of ``make_role``; ``options`` are libpq's."""
        connection: psycopg.Connection[Any] = psycopg.connect(
            host=str(self.cluster.home.run),
            port=self.cluster.port,
            dbname=database or self.database,
            user=user or "postgres",
            password=self.roles.get(user or "", ""),
            autocommit=autocommit,
            connect_timeout=10,
            **options,
        )
        self.opened.append(connection)
        return connection

    def close(self) -> None:
        """Close every session that is still open."""
        for connection in self.opened:
            connection.close()


def drop_extension(connection: psycopg.Connection[Any]) -> None:
    """Drop the extension; a worker's statements may be in the way of that, and it of them."""
    for _ in range(10):
        try:
            connection.execute("DROP EXTENSION pg_steadytext CASCADE")
        except psycopg.errors.DeadlockDetected:
            continue
        return
    raise AssertionError("the extension could not be dropped")


@dataclass
class Roles:
    """Makes login roles and drops them again, with what they own in the test's database."""

    cluster: PrivateCluster
    database: str
    passwords: dict[str, str]

    def __call__(self, member_of: str | None = None, *, name: str | None = None) -> str:
        """Create a login role, a member of ``member_of`` if given; returns its name."""
        name = name or f"role_{secrets.token_hex(4)}"
        password = secrets.token_hex(12)
        with self.cluster.connect() as connection:
            connection.execute(
                sql.SQL("CREATE ROLE {} LOGIN PASSWORD {}").format(sql.Identifier(name), sql.Literal(password))
            )
            if member_of is not None:
                connection.execute(sql.SQL("GRANT {} TO {}").format(sql.Identifier(member_of), sql.Identifier(name)))
        self.passwords[name] = password
        return name

    def drop(self) -> None:
        """Drop every role made here."""
        for name in self.passwords:
            for database in (self.database, "postgres"):
                with self.cluster.connect(database) as connection:
                    connection.execute(sql.SQL("DROP OWNED BY {}").format(sql.Identifier(name)))
            with self.cluster.connect() as connection:
                connection.execute(sql.SQL("DROP ROLE {}").format(sql.Identifier(name)))
        self.passwords.clear()
