"""The doctor's look at PostgreSQL: what is installed, whether it runs, what its database and its Python say."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import psycopg

from pg_steadytext import statements
from pg_steadytext.cli.diagnosis import Finding
from pg_steadytext.cluster import ports
from pg_steadytext.cluster.binaries import Binaries
from pg_steadytext.cluster.installation import Installation

SQL = statements.load("pg_steadytext.cli", "sql/doctor.sql")

CONTROL_FILES = {
    "plpython3u": "apt install postgresql-plpython3-{major}",
    "vector": "apt install postgresql-{major}-pgvector, or build pgvector (make up does)",
    "pg_steadytext": "make -C extension install PG_CONFIG={pg_config}",
}
OLDEST_VECTOR = (0, 8)
"""As the extension's own requirements say."""


def server(here: Installation) -> Iterator[Finding]:
    """Is the server installed with what the extension needs, and does it run on its port?"""
    found = here.cluster.binaries
    yield from extensions(found)
    if here.cluster.pid() is not None:
        yield Finding("server", f"runs on port {here.cluster.port}, pid {here.cluster.pid()}")
    elif ports.is_free(here.cluster.port):
        yield Finding("server", "does not run", "make up")
    else:
        yield Finding(
            "server",
            f"does not run, and its port {here.cluster.port} is taken by another process",
            f"Stop that process, or move: pg-steadytext up --port {ports.choose(())}",
        )


def extensions(found: Binaries) -> Iterator[Finding]:
    """Is there what CREATE EXTENSION needs?"""
    for extension, remedy in CONTROL_FILES.items():
        there = found.offers(extension)
        version = found.offered_version(extension) if there else ""
        state = f"{'installed for' if there else 'missing from'} PostgreSQL {found.major}"
        if there and extension == "vector" and tuple(map(int, re.findall(r"\d+", version)[:2])) < OLDEST_VECTOR:
            state, there = f"{version} is too old: {'.'.join(map(str, OLDEST_VECTOR))} is needed", False
        remedied = None if there else remedy.format(major=found.major, pg_config=found.program("pg_config"))
        yield Finding(f"extension {extension}", state, remedied)


def database(here: Installation) -> Iterator[Finding]:
    """Does the database fit: the extension's version, its settings, the server's Python?"""
    if here.cluster.pid() is None:
        return
    try:
        with here.cluster.connect(here.database) as connection:
            yield from _extension(connection)
            yield from _settings(here, connection)
            yield from _python(connection)
            yield from _ports(here, connection)
    except psycopg.Error as error:
        yield Finding("database", f"{here.database}: {str(error).strip()}", "make up")


def _extension(connection: psycopg.Connection[Any]) -> Iterator[Finding]:
    row = connection.execute(SQL["extension_versions"]).fetchone()
    if row is None or row[0] is None:
        yield Finding("extension version", "pg_steadytext is not created in the database", "make up")
    elif row[0] != row[1]:
        yield Finding(
            "extension version",
            f"the database has {row[0]}, this machine has {row[1]}",
            "ALTER EXTENSION pg_steadytext UPDATE; (make up does)",
        )
    else:
        yield Finding("extension version", str(row[0]))


def _settings(here: Installation, connection: psycopg.Connection[Any]) -> Iterator[Finding]:
    interval = _one(connection, "setting", {"name": "client_connection_check_interval"})
    off = interval in (None, "", "0", "0ms")
    yield Finding(
        "client_connection_check_interval",
        "off: a generation goes on after its client is gone" if off else str(interval),
        "Set it to 200ms in postgresql.conf and reload." if off else None,
    )
    socket = _one(connection, "setting", {"name": "steadytext.supervisor_socket"})
    right = socket == str(here.home.supervisor_socket)
    yield Finding(
        "steadytext.supervisor_socket",
        str(socket) if right else f"{socket or 'not set'}, but the supervisor listens on {here.home.supervisor_socket}",
        None if right else "make down, then make up, writes it anew.",
    )


def _python(connection: psycopg.Connection[Any]) -> Iterator[Finding]:
    connection.execute(SQL["make_python_probe"])
    row = connection.execute(SQL["ask_python_probe"]).fetchone()
    assert row is not None
    version, zmq, jinja2, missing, problem = row
    version = str(version).split()[0]
    if problem is None:
        yield Finding("plpython3u", f"Python {version} with zmq {zmq} and jinja2 {jinja2}")
        return
    package = {"zmq": "pyzmq", "jinja2": "Jinja2"}[str(missing)]
    yield Finding(
        "plpython3u",
        f"PostgreSQL's Python is {version}, and it cannot import {missing}: {problem}",
        f"apt install python3-{missing}, or install {package} for that Python {version}; "
        "no virtual environment counts here.",
    )


def _ports(here: Installation, connection: psycopg.Connection[Any]) -> Iterator[Finding]:
    told = _one(connection, "config", {"key": "daemon_port"})
    right = str(told) == str(here.settings.daemon_port)
    yield Finding(
        "daemon_port",
        str(told) if right else f"the database says {told}, the daemon listens on {here.settings.daemon_port}",
        None if right else f"SELECT steadytext_config_set('daemon_port', '{here.settings.daemon_port}');",
    )


def _one(connection: psycopg.Connection[Any], statement: str, parameters: dict[str, str]) -> object:
    row = connection.execute(SQL[statement], parameters).fetchone()
    return None if row is None else row[0]
