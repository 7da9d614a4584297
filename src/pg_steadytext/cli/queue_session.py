"""What the ``queue`` commands share: a session on the database, a question before harm, short words for times."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
import typer
from psycopg.rows import DictRow, dict_row
from rich.console import Console
from rich.table import Table
from rich.text import Text

from pg_steadytext import statements
from pg_steadytext.cli.console import console
from pg_steadytext.client import connection_parameters
from pg_steadytext.errors import InvalidArgument
from pg_steadytext.poolers import is_pooled_now

SQL = statements.load("pg_steadytext.cli", "sql/queue.sql")

Row = dict[str, Any]
WIDE = 200
UNITS = ((86400, "d"), (3600, "h"), (60, "min"), (1, "s"))


class QueueSession:
    """An autocommit session on the database that ``PG*`` or the home's settings name."""

    def __init__(self, connection: psycopg.Connection[DictRow]) -> None:
        self.connection = connection
        self.is_pooled = is_pooled_now(connection)

    def rows(self, statement: str, **parameters: object) -> list[Row]:
        """Execute the statement of that name and return its rows."""
        return self.connection.execute(SQL[statement], parameters).fetchall()

    def row(self, statement: str, **parameters: object) -> Row:
        """Execute a statement that returns one row."""
        return self.rows(statement, **parameters)[0]

    def listen(self) -> None:
        """Be notified from now on when a request ends; through a pooler nobody is."""
        if not self.is_pooled:
            self.connection.execute(SQL["listen"])

    def wait(self, seconds: float) -> None:
        """Return when a request has ended, or when the time is up."""
        for _ in self.connection.notifies(timeout=seconds, stop_after=1):
            pass


@contextmanager
def queue_session() -> Iterator[QueueSession]:
    """Open a session. Raises ``InvalidArgument`` when the database has no extension pg_steadytext."""
    parameters: dict[str, Any] = {"fallback_application_name": "pg-steadytext queue", **connection_parameters()}
    with psycopg.connect(autocommit=True, row_factory=dict_row, **parameters) as connection:
        session = QueueSession(connection)
        if not session.rows("find_extension"):
            raise InvalidArgument(
                f"database {connection.info.dbname} has no extension pg_steadytext",
                hint="PGHOST, PGPORT, PGDATABASE and PGUSER choose another one.",
            )
        yield session


def confirm(what: str, *, yes: bool) -> None:
    """Say what is about to happen, and ask at a terminal; elsewhere only ``--yes`` lets it happen.

    Raises ``InvalidArgument`` without a terminal and without ``--yes``, ``typer.Exit`` when the answer is no.
    """
    console.print(what, markup=False, soft_wrap=True)
    if yes:
        return
    if not console.is_terminal:
        raise InvalidArgument("nothing was done: there is no terminal to ask at", hint="Add --yes.")
    if not typer.confirm("Go on?"):
        console.print("nothing was done")
        raise typer.Exit(1)


def table(*columns: str, text: str) -> Table:
    """Return a table whose last column, for any text, gives way where the screen is narrow; the others stay whole."""
    made = Table(box=None, header_style="bold", padding=(0, 1, 0, 0), pad_edge=False)
    for column in columns:
        made.add_column(column, no_wrap=True)
    made.add_column(text)
    return made


def one_line(text: str | None) -> Text:
    """Return a text as a cell of one line, cut off where the column ends."""
    return Text(" ".join((text or "").split()), no_wrap=True, overflow="ellipsis")


def show(made: Table) -> None:
    """Print a table: as wide as the screen, or as needed where there is none."""
    (console if console.is_terminal else Console(highlight=False, width=WIDE)).print(made)


def plural(number: int, noun: str) -> str:
    """Return ``1 request``, ``1,000 requests``."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def span(seconds: float | None) -> str:
    """Return a time in one or two units: ``45 s``, ``3 min 20 s``, ``2 d 4 h``; empty for none."""
    if seconds is None:
        return ""
    left = max(0, round(seconds))
    parts: list[str] = []
    for size, unit in UNITS:
        if left >= size or (unit == "s" and not parts):
            parts.append(f"{left // size} {unit}")
            left %= size
    return " ".join(parts[:2])
