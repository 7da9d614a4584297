"""Which database a client goes to when it is not told."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from pg_steadytext.settings import Settings

CONNECT_SECONDS = 10


def connection_parameters(env: Mapping[str, str] | None = None) -> dict[str, Any]:
    """Return psycopg's keywords for the database that ``PG*`` or the home's settings name.

    The home's password file is used where libpq is told of no password. Raises ``InvalidArgument`` when the settings
    cannot be read.
    """
    env = os.environ if env is None else env
    settings = Settings.load(env)
    found: dict[str, Any] = {
        "host": settings.pg_host,
        "port": settings.pg_port,
        "dbname": settings.pg_database,
        "user": settings.pg_user,
        "connect_timeout": CONNECT_SECONDS,
        "client_encoding": "UTF8",  # from a database in SQL_ASCII, psycopg would read bytes
    }
    passwords = settings.home / "pgpass"
    if not {"PGPASSWORD", "PGPASSFILE"} & set(env) and os.access(passwords, os.R_OK):
        found["passfile"] = str(passwords)
    return found
