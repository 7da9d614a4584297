"""The backfill of one table in ranges of keys, as the database sees it: a ticket, a plan, and rows to read and write.

Who embeds, and on how many machines, is another module's business. Every read and write opens a connection of its own,
so that it can be done anywhere; a password comes from libpq's own places there.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any, TypeVar

import psycopg

from pg_steadytext import statements
from pg_steadytext.queue.sessions import SQL as SESSION_SQL
from pg_steadytext.store.work import Piece, Row

SQL = statements.load("pg_steadytext.store", "sql/ranges.sql")

LEASE_SECONDS = 60.0
"""How long the workers wait for a backfill that was lost before they go on with it."""
TRIES = 6
"""So often a range is read or written while the server cannot be reached; the pauses double from half a second."""
WRITTEN_AT_ONCE = 256
"""Rows of one transaction: what it writes stays locked until it ends."""

Parameters = Mapping[str, Any]
"""Keywords of psycopg.connect."""
Connection = psycopg.Connection[tuple[Any, ...]]
R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class Target:
    """A declaration as it was when its backfill began; `chunking` is JSON."""

    autoembed: int
    version: int
    model: str
    digest: str | None
    chunking: str | None

    @property
    def _names(self) -> dict[str, int]:
        return {"autoembed": self.autoembed, "version": self.version}

    def rows(self, read: Sequence[Sequence[str | None]]) -> list[Row]:
        """Rows to embed, of keys, texts, codes and errors as `read_range` gives them."""
        piece = Piece(0, 0, 1, self.autoembed, self.version, self.model, False, self.chunking, [], [], [], [])
        return [Row(piece, str(key), text, code, error) for key, text, code, error in read]


@dataclass(frozen=True, slots=True)
class Range:
    """Rows whose keys come after one (None: from the first on), up to and with another; so many when it was planned."""

    after: str | None
    last: str
    rows: int


@contextmanager
def session(parameters: Parameters) -> Iterator[Connection]:
    """A connection that finds the extension's functions."""
    with psycopg.connect(autocommit=True, fallback_application_name="pg_steadytext backfill", **parameters) as opened:
        opened.execute(SESSION_SQL["prepare_claims"], {"local": False})
        yield opened


def read_range(parameters: Parameters, target: Target, wanted: Range) -> list[tuple[str | None, ...]]:
    """Key, text, code and error of each row of a range that is still to be embedded."""
    return _patiently(lambda: _read(parameters, target, wanted))


def _read(parameters: Parameters, target: Target, wanted: Range) -> list[tuple[str | None, ...]]:
    with session(parameters) as connection:
        names = {**target._names, "after": wanted.after, "last": wanted.last}
        return connection.execute(SQL["read"], names).fetchall()


def write_range(parameters: Parameters, target: Target, rows: Sequence[Mapping[str, Any]]) -> int:
    """Write rows (key, digest, vector, code, error) whose text is still the one embedded; returns how many were."""
    return _patiently(lambda: _write(parameters, target, rows))


def _write(parameters: Parameters, target: Target, rows: Sequence[Mapping[str, Any]]) -> int:
    written = 0
    with session(parameters) as connection:
        for start in range(0, len(rows), WRITTEN_AT_ONCE):
            some = rows[start : start + WRITTEN_AT_ONCE]
            columns = {f"{name}s": [row[name] for row in some] for name in ("key", "digest", "vector", "code", "error")}
            found = connection.execute(SQL["write"], {**target._names, **columns}).fetchone()
            written += found[0] if found else 0
    return written


def _patiently(work: Callable[[], R]) -> R:
    """Do what may be repeated again while the server cannot be reached."""
    for attempt in range(TRIES - 1):
        try:
            return work()
        except psycopg.OperationalError as error:
            if not _is_out_of_reach(error):
                raise
            time.sleep(0.5 * 2**attempt)
    return work()


def _is_out_of_reach(error: psycopg.Error) -> bool:
    """Whether the server, and not what it was asked, is the matter: class 55 counts as operational too."""
    return error.sqlstate is None or error.sqlstate.startswith(("08", "57P"))


class Ticket:
    """The right to do a table's backfill, renewed by a thread while the block lasts.

    Raises psycopg.Error on entering where there is no such declaration, or where somebody else has the ticket.
    """

    def __init__(self, parameters: Parameters, table: str, destination: str | None) -> None:
        self._parameters = parameters
        self._names = {"table": table, "destination": destination, "lease": LEASE_SECONDS}
        self._lock = threading.Lock()
        self._over = threading.Event()
        self._refusal: psycopg.Error | None = None
        self._renewing = threading.Thread(target=self._renew, name="lease", daemon=True)

    def __enter__(self) -> Ticket:
        with psycopg.connect(autocommit=True, **self._parameters) as connection:
            relation = connection.execute(SQL["relation"], self._names).fetchone()
        with session(self._parameters) as connection:
            begun = connection.execute(SQL["begin"], {**self._names, "relation": relation and relation[0]}).fetchone()
        assert begun is not None
        self._number, *declared = begun
        self.target = Target(*declared)
        self._renewing.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._renewing.join()
        if not self._ended:
            self._end(complete=False)

    _ended = False

    def plan(self, range_rows: int) -> list[Range]:
        """What is left to do, in ranges of so many rows."""
        with session(self._parameters) as connection:
            names = {**asdict(self.target), "range_rows": range_rows}
            return [Range(*row) for row in connection.execute(SQL["plan"], names)]

    def keep(self, done_to: str | None = None) -> None:
        """Renew the lease; everything up to a key is done. Raises what the renewing thread has met."""
        if self._refusal is not None:
            raise self._refusal
        self._keep(done_to)

    def complete(self) -> None:
        """All ranges are done."""
        self._end(complete=True)

    def _keep(self, done_to: str | None) -> None:
        with self._lock, session(self._parameters) as connection:
            connection.execute(SQL["keep"], {**self._held, "lease": LEASE_SECONDS, "done_to": done_to})

    def _end(self, *, complete: bool) -> None:
        with session(self._parameters) as connection:
            connection.execute(SQL["end"], {**self._held, "complete": complete})
        self._ended = True

    def _renew(self) -> None:
        while not self._over.wait(LEASE_SECONDS / 4):
            try:
                self._keep(None)
            except psycopg.Error as error:
                if not _is_out_of_reach(error):
                    self._refusal = error
                    return

    @property
    def _held(self) -> dict[str, Any]:
        return {**asdict(self.target), "ticket": self._number}
