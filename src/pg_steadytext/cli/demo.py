"""What ``up`` shows: one answer and one search by meaning, each without and with the cache."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import psycopg

from pg_steadytext import statements

SQL = statements.load("pg_steadytext.cli", "sql/demo.sql")

PROMPT = "Explain in one sentence what a database index is."
QUERY = "Where can I buy bread in the morning?"


@dataclass(frozen=True, slots=True)
class Shown:
    """A result with the seconds it took, first by the model and then from the cache."""

    rows: list[str]
    cold: float
    cached: float


def prepare(connection: psycopg.Connection[Any]) -> None:
    """Have the demo table, its rows with their embeddings, and its HNSW index."""
    for part in SQL["create"].split(b";\n"):
        connection.execute(part)
    row = connection.execute(SQL["count"]).fetchone()
    if row is None or row[0] == 0:
        connection.execute(SQL["fill"])


def answer(connection: psycopg.Connection[Any]) -> Shown:
    """Generate one answer."""
    return _show(connection, "generate", {"prompt": PROMPT})


def search(connection: psycopg.Connection[Any]) -> Shown:
    """Search the demo table by meaning, through its HNSW index."""
    connection.execute(SQL["prefer_the_index"])
    return _show(connection, "search", {"query": QUERY})


def index_used(connection: psycopg.Connection[Any]) -> str | None:
    """Return the line of the search's plan that names the HNSW index, or None when it is not used."""
    plan = connection.execute(SQL["explain_search"], {"query": QUERY}).fetchall()
    return next((line.strip(" ->") for (line,) in plan if "notes_embedding" in line), None)


def _show(connection: psycopg.Connection[Any], statement: str, parameters: dict[str, str]) -> Shown:
    _, cold = _timed(connection, statement, {**parameters, "cached": False})
    _timed(connection, statement, {**parameters, "cached": True})
    rows, cached = _timed(connection, statement, {**parameters, "cached": True})
    return Shown(rows, cold, cached)


def _timed(
    connection: psycopg.Connection[Any], statement: str, parameters: dict[str, object]
) -> tuple[list[str], float]:
    began = time.perf_counter()
    rows = [row[0] for row in connection.execute(SQL[statement], parameters).fetchall()]
    return rows, time.perf_counter() - began
