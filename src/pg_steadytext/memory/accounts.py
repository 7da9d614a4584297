"""Accounts and keys from the command line, for those who may connect to the database as its superuser."""

from __future__ import annotations

import re
import secrets
import time
from collections.abc import Sequence
from uuid import UUID

import psycopg

from pg_steadytext import statements
from pg_steadytext.errors import InvalidArgument, NotFound
from pg_steadytext.memory.domain import email as addresses
from pg_steadytext.memory.domain import ids, tokens
from pg_steadytext.memory.passwords import hash_password

SQL = statements.load("pg_steadytext.memory.storage", "sql/commands.sql")
SCOPES = ("memories:read", "memories:write", "admin")


def add_user(
    connection: psycopg.Connection, email: str, name: str, password: str | None, *, is_admin: bool, plan: str
) -> UUID:
    """Make an account; without a password it is reached by keys alone. Raises ``InvalidArgument``."""
    if not re.fullmatch(addresses.PATTERN, email) or len(email) > addresses.MOST_LENGTH:
        raise InvalidArgument(f"{email!r} is no e-mail address", hint="One reads like ada@example.org.")
    entry = _new_id()
    with connection.transaction():
        try:
            kept = hash_password(password) if password else None
            person = {"id": entry, "email": email, "name": name, "password_hash": kept}
            connection.execute(SQL["register"], person)
            connection.execute(SQL["give_plan"], {"id": entry, "plan": plan})
        except psycopg.Error as error:
            if (error.sqlstate or "").startswith("MC"):
                raise InvalidArgument(error.diag.message_primary or str(error)) from error
            raise
        if is_admin:
            connection.execute(SQL["make_admin"], {"id": entry})
    return entry


def add_key(connection: psycopg.Connection, email: str, name: str, scopes: Sequence[str]) -> str:
    """Make a key and return its secret. Raises ``NotFound`` for an unknown user, ``InvalidArgument`` for a scope."""
    if unknown := [scope for scope in scopes if scope not in SCOPES]:
        raise InvalidArgument(f"there is no scope {unknown[0]!r}", hint=f"the scopes are {', '.join(SCOPES)}")
    secret = tokens.token(secrets.token_bytes(tokens.RANDOM_BYTES), tokens.KEY_PREFIX)
    kept = {"id": _new_id(), "name": name, "hash": tokens.token_hash(secret), "scopes": list(scopes), "email": email}
    row = connection.execute(SQL["add_key"], kept).fetchone()
    if row is None:
        raise NotFound(f"there is no user {email!r}", hint="pg-steadytext memory user add makes one.")
    return secret


def _new_id() -> UUID:
    return ids.uuid7(time.time_ns(), secrets.token_bytes(ids.RANDOM_BYTES))
