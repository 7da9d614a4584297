"""Brings the schema up: numbered migrations once each, then the routines whenever their text is another.

A migration that was applied is never changed: its SHA-256 stands in ``memory.migrations``. Routines (functions and
their grants) hold no data, so their newest text simply replaces the former.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files

import psycopg

from pg_steadytext import statements
from pg_steadytext.errors import InvalidArgument, NotAllowed

FILE = re.compile(r"(\d{3})_(\w+)\.sql")

SQL = statements.load("pg_steadytext.memory.storage", "sql/migrate.sql")


@dataclass(frozen=True, slots=True)
class Migration:
    """One file."""

    number: int
    name: str
    text: str

    @property
    def sha256(self) -> str:
        """The digest that tells whether the file was changed."""
        return hashlib.sha256(self.text.encode()).hexdigest()


def migrations() -> list[Migration]:
    """Return this version's migrations in their order."""
    folder = files("pg_steadytext.memory.storage") / "migrations"
    named = [(FILE.fullmatch(entry.name), entry) for entry in folder.iterdir()]
    return sorted(
        (Migration(int(name[1]), name[2], entry.read_text(encoding="utf-8")) for name, entry in named if name),
        key=lambda migration: migration.number,
    )


def routines() -> str:
    """Return the text of all routines."""
    folder = files("pg_steadytext.memory.storage") / "routines"
    entries = sorted((entry for entry in folder.iterdir() if entry.name.endswith(".sql")), key=lambda entry: entry.name)
    return "\n".join(entry.read_text(encoding="utf-8") for entry in entries)


def migrate(connection: psycopg.Connection, *, to: int | None = None) -> list[Migration]:
    """Apply what is missing and return it; ``to`` stops after that number, without routines, as an older version would.

    Raises ``InvalidArgument`` when an applied file was changed or is unknown here, ``NotAllowed`` without the rights.
    """
    _check_rights(connection)
    connection.execute(SQL["lock"])
    try:
        connection.execute(SQL["prepare_schema"])
        connection.execute(SQL["prepare_migrations"])
        connection.execute(SQL["prepare_routines"])
        own = migrations()
        known = _applied(connection, own)
        wanted = [m for m in own if m.number not in known and (to is None or m.number <= to)]
        for migration in wanted:
            with connection.transaction():
                _run(connection, migration.text)
                connection.execute(SQL["record"], (migration.number, migration.name, migration.sha256))
        if to is None:
            _apply_routines(connection)
        return wanted
    finally:
        connection.execute(SQL["unlock"])


def _check_rights(connection: psycopg.Connection) -> None:
    row = connection.execute(SQL["is_superuser"]).fetchone()
    if row is None or not row[0]:
        raise NotAllowed(
            "migrations make roles, and functions that look past row-level security; that needs a superuser",
            hint="PGUSER names who connects.",
        )


def _applied(connection: psycopg.Connection, own: Sequence[Migration]) -> set[int]:
    by_number = {migration.number: migration for migration in own}
    rows = connection.execute(SQL["applied"]).fetchall()
    for number, name, sha256 in rows:
        here = by_number.get(number)
        if here is None:
            raise InvalidArgument(f"the database has migration {number:03} {name}, which this version does not know")
        if here.sha256 != sha256:
            raise InvalidArgument(
                f"migration {number:03} {here.name} differs from the one that was applied",
                hint="Put the file back as it was, and add a new migration.",
            )
    return {number for number, _, _ in rows}


def _apply_routines(connection: psycopg.Connection) -> None:
    text = routines()
    digest = hashlib.sha256(text.encode()).hexdigest()
    row = connection.execute(SQL["applied_routines"]).fetchone()
    if row is not None and row[0] == digest:
        return
    with connection.transaction():
        connection.execute(SQL["trust_bodies"])
        _run(connection, text)
        connection.execute(SQL["forget_routines"])
        connection.execute(SQL["record_routines"], (digest,))


def _run(connection: psycopg.Connection, text: str) -> None:
    # Without parameters a text of many statements runs whole.
    connection.execute(text.encode())
