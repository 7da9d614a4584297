"""A database of a benchmark's own, so that it neither meets nor leaves anything in the user's."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import psycopg

NAME = "steadytext_bench"
COPIED = ("daemon_host", "daemon_port")


@contextmanager
def own_database() -> Iterator[None]:
    """Create a database with the extension, set to the same daemon; ``PGDATABASE`` names it within the block.

    Raises SystemExit while another benchmark has its own.
    """
    usual = os.environ["PGDATABASE"]
    with psycopg.connect(autocommit=True) as connection:
        if connection.execute("SELECT pg_try_advisory_lock(hashtext(%s))", (NAME,)).fetchone() != (True,):
            raise SystemExit("another benchmark runs on this server: one at a time, or neither figure means anything")
        values = [connection.execute("SELECT steadytext_config_get(%s)", (key,)).fetchone() for key in COPIED]
        connection.execute(f"DROP DATABASE IF EXISTS {NAME} WITH (FORCE)")
        connection.execute(f"CREATE DATABASE {NAME}")
        os.environ["PGDATABASE"] = NAME
        try:
            with psycopg.connect(autocommit=True) as own:
                own.execute("CREATE EXTENSION pg_steadytext CASCADE")
                for key, value in zip(COPIED, values, strict=True):
                    assert value is not None
                    own.execute("SELECT steadytext_config_set(%s, %s)", (key, value[0]))
            yield
        finally:
            os.environ["PGDATABASE"] = usual
            connection.execute(f"DROP DATABASE IF EXISTS {NAME} WITH (FORCE)")
