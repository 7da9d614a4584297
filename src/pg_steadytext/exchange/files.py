"""Cache files: read as entries or as refusals with their reason, and written so that SteadyText opens them.

SteadyText's table knows neither the model nor the limit, the seed or the constraint of an answer. A file that this
package writes has them in a table of its own beside it, which SteadyText does not look at; so what is exported comes
back whole, with what SteadyText has added since.
"""

from __future__ import annotations

import math
import sqlite3
import struct
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pg_steadytext import statements
from pg_steadytext.errors import InvalidArgument
from pg_steadytext.exchange import keys, pickles

SQL = {name: body.decode() for name, body in statements.load("pg_steadytext.exchange", "sql/file.sql").items()}

Row = tuple[Any, ...]

LONGEST_VALUE = 64 * 1024 * 1024
MOST_COUNTED = 2**31 - 1


@dataclass(frozen=True, slots=True)
class Entry:
    """One answer. `params`, in JSON, are its key's where the file has them; times are microseconds since 1970."""

    label: str
    prompt: str
    access_count: int
    last_accessed: int
    response: str | None = None
    embedding: tuple[float, ...] | None = None
    eos_string: str = keys.NO_END
    temperature: float = 0.0
    params: str | None = None
    created_at: int | None = None
    took_ms: int | None = None
    is_foreign: bool = True

    @property
    def kind(self) -> str:
        """``embedding`` or ``generation``."""
        return "generation" if self.embedding is None else "embedding"


@dataclass(frozen=True, slots=True)
class Refused:
    """A row that is not imported, and why."""

    label: str
    reason: str


@dataclass(slots=True)
class Reader:
    """Reads one file; `mode` says which of SteadyText's embeddings are wanted, those as query or as passage."""

    path: Path
    mode: str = "query"
    now: float = field(default_factory=time.time)

    def __iter__(self) -> Iterator[Entry | Refused]:
        """Yield every row. Raises ``InvalidArgument`` where the file is no cache."""
        try:
            with closing(sqlite3.connect(f"{self.path.resolve().as_uri()}?mode=ro", uri=True)) as file:
                file.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, LONGEST_VALUE)
                file.text_factory = bytes
                file.execute(SQL["guard"])
                file.execute(SQL["guard_pages"])
                yield from self._rows(file)
        except sqlite3.Error as error:
            raise InvalidArgument(f"{self.path} cannot be read as a cache of SteadyText: {error}") from error

    def _rows(self, file: sqlite3.Connection) -> Iterator[Entry | Refused]:
        tables = {bytes(name) for (name,) in file.execute(SQL["tables"])}
        if b"cache" not in tables:
            raise InvalidArgument(
                f"{self.path} has no table cache", hint="SteadyText's are ~/.cache/steadytext/caches/*.db."
            )
        known: set[bytes] = set()
        if b"pg_steadytext" in tables:
            for row in file.execute(SQL["own_entries"]):
                known.add(row[0])
                yield _judged(_label(row[1]), self._own, row)
        for row in file.execute(SQL["entries"]):
            if row[0] not in known:
                yield _judged(_key_label(row[0]), self._stock, row)

    def _stock(self, row: Row) -> Entry:
        key, pickled, frequency, last_access = row
        if not isinstance(pickled, bytes):
            raise InvalidArgument("its value is none, or longer than 16 MB")
        count, moment = _count(frequency), self._moment(last_access)
        value = pickles.load(pickled)
        if isinstance(value, float):
            raise InvalidArgument("it is a number: scores of a reranker are not kept here")
        if isinstance(value, tuple):
            text = keys.embedded_text(_text(key), self.mode)
            return Entry(_shown(text), text, count, moment, embedding=_unit(value))
        asked = keys.Generation.of(_text(key))
        return Entry(
            _shown(asked.prompt),
            asked.prompt,
            count,
            moment,
            response=value,
            eos_string=asked.eos_string,
            temperature=asked.temperature,
        )

    def _own(self, row: Row) -> Entry:
        _, prompt, response, embedding, params, count, last_accessed, created_at, took_ms, is_foreign = row
        if embedding is not None and (not isinstance(embedding, bytes) or len(embedding) % 4):
            raise InvalidArgument("its embedding is none")
        return Entry(
            _label(prompt),
            _text(prompt),
            _count(count),
            self._moment(last_accessed),
            response=None if response is None else _text(response),
            embedding=None if embedding is None else _unit(struct.unpack(f"<{len(embedding) // 4}f", embedding)),
            params=_text(params),
            created_at=self._moment(created_at),
            took_ms=None if took_ms is None else min(MOST_COUNTED, abs(_whole(took_ms))),
            is_foreign=bool(is_foreign),
        )

    def _moment(self, microseconds: object) -> int:
        """A time of the past; what claims to be of the future was used just now."""
        return max(0, min(_whole(microseconds), int(self.now * 1_000_000)))


class Writer:
    """Writes a new file that SteadyText opens."""

    def __init__(self, path: Path) -> None:
        if path.exists():
            raise InvalidArgument(f"{path} exists already", hint="An export writes a new file.")
        try:
            self._file = sqlite3.connect(path)
            self._file.executescript(SQL["create"])
        except sqlite3.Error as error:
            raise InvalidArgument(f"{path} cannot be written: {error}") from error

    def add(self, entry: Entry, key: str | None) -> None:
        """Add an entry; with a key, SteadyText finds it, where no entry before it has the same."""
        numbers = None if entry.embedding is None else struct.pack(f"<{len(entry.embedding)}f", *entry.embedding)
        if key is not None:
            value = pickles.dump_text(entry.response or "") if numbers is None else pickles.dump_array(numbers)
            row = (key, value, entry.access_count, entry.last_accessed, len(value))
            self._file.execute(SQL["add"], row)
        own = (
            *(key, entry.prompt, entry.response, numbers, entry.params, entry.access_count),
            *(entry.last_accessed, entry.created_at, entry.took_ms, entry.is_foreign),
        )
        self._file.execute(SQL["add_own"], own)

    def close(self) -> None:
        """Finish the file."""
        self._file.commit()
        self._file.close()


def _judged(label: str, read: Callable[[Row], Entry], row: Row) -> Entry | Refused:
    try:
        entry = read(row)
    except InvalidArgument as error:
        return Refused(label, error.message)
    text = entry.prompt + (entry.response or "")
    try:
        text.encode()
    except UnicodeEncodeError:
        return Refused(entry.label.encode(errors="replace").decode(), "it holds half a character")
    if "\0" in text:
        return Refused(entry.label, "it holds a null character, which PostgreSQL cannot store")
    return entry


def _text(value: object) -> str:
    if not isinstance(value, bytes):
        raise InvalidArgument("it has no text where one is wanted")
    try:
        return value.decode()
    except UnicodeDecodeError as error:
        raise InvalidArgument("its text is not UTF-8") from error


def _whole(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise InvalidArgument("it has no whole number where one is wanted")
    return value


def _count(value: object) -> int:
    return max(1, min(_whole(value), MOST_COUNTED))


def _unit(numbers: tuple[float, ...]) -> tuple[float, ...]:
    length = math.sqrt(math.fsum(number * number for number in numbers))
    if not 0.99 < length < 1.01:
        raise InvalidArgument("its embedding has not unit length, as a failed one of zeros has not")
    return numbers


def _shown(text: str) -> str:
    return f"{text[:60]}…" if len(text) > 60 else text


def _key_label(raw: object) -> str:
    try:
        return _shown(keys.decode(_text(raw))[-1])
    except InvalidArgument:
        return _label(raw)


def _label(raw: object) -> str:
    return _shown(raw.decode(errors="replace")) if isinstance(raw, bytes) else "?"
