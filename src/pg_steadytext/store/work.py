"""Claimed work: rows whose texts are to be embedded, and what became of them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson

from pg_steadytext.store.chunks import chunks

CHANGE = 5
"""The priority of a changed row; the backfill's is lower."""


@dataclass(slots=True)
class Piece:
    """Keys of one declaration under one lease, with the texts that they had when they were claimed."""

    work_id: int
    attempt: int
    priority: int
    autoembed_id: int
    version: int
    model: str
    is_remote: bool
    chunking: str | None
    keys: list[str]
    texts: list[str | None]
    codes: list[str | None]
    errors: list[str | None]

    @classmethod
    def of(cls, row: Sequence[Any]) -> Piece:
        """Make one of a row of the statement `claim`."""
        work, attempt, priority, autoembed, version, model, is_remote, chunking, keys, texts, codes, errors, _ = row
        return cls(
            work, attempt, priority, autoembed, version, model, is_remote, chunking,
            keys or [], texts or [], codes or [], errors or [],
        )  # fmt: skip


@dataclass(slots=True)
class Row:
    """One row of a piece: its text, and later its vector or what failed."""

    piece: Piece
    key: str
    text: str | None
    code: str | None
    error: str | None
    vector: str | None = None
    _parts: list[str] | None = None

    def cut(self) -> list[str]:
        """What the model is asked for: the text, or its chunks. Raises InvalidArgument."""
        if self._parts is None:
            text, chunking = self.text or "", self.piece.chunking
            self._parts = [text] if chunking is None else chunks(text, chunking, self.piece.model)
        return self._parts

    def take(self, vectors: Sequence[str]) -> None:
        """The vectors of what `cut` gave; chunks go to the database with theirs."""
        if self.piece.chunking is None:
            (self.vector,) = vectors
        else:
            pairs = [{"t": text, "v": vector} for text, vector in zip(self.cut(), vectors, strict=True)]
            self.vector = orjson.dumps(pairs).decode()

    @property
    def digest(self) -> str | None:
        """The text's SHA-256, by which the database tells whether the row still has it."""
        return None if self.text is None else hashlib.sha256(self.text.encode()).hexdigest()

    @property
    def waits(self) -> bool:
        """Whether the model is to be asked for it."""
        return self.text is not None and self.code is None


@dataclass(slots=True)
class Batch:
    """What one claim brought."""

    pieces: list[Piece]
    rows: list[Row] = field(init=False)

    def __post_init__(self) -> None:
        self.rows = [
            Row(piece, *values)
            for piece in self.pieces
            for values in zip(piece.keys, piece.texts, piece.codes, piece.errors, strict=True)
        ]

    @property
    def works(self) -> list[int]:
        """The numbers of its work."""
        return [piece.work_id for piece in self.pieces]

    def by_model(self) -> Iterator[tuple[str, bool, int, list[Row]]]:
        """Rows that one call to the daemon can embed: the same model, the same urgency."""
        groups: dict[tuple[str, bool, int], list[Row]] = {}
        for row in self.rows:
            if row.waits:
                piece = row.piece
                groups.setdefault((piece.model, piece.is_remote, piece.priority), []).append(row)
        for (model, is_remote, priority), rows in groups.items():
            yield model, is_remote, priority, rows

    def ends(self) -> Iterator[dict[str, Any]]:
        """What the statement `finish` is to be told, once for each declaration."""
        for autoembed, version in sorted({(piece.autoembed_id, piece.version) for piece in self.pieces}):
            pieces = [piece for piece in self.pieces if (piece.autoembed_id, piece.version) == (autoembed, version)]
            rows = [row for row in self.rows if row.piece.autoembed_id == autoembed and row.piece.version == version]
            yield {
                "autoembed": autoembed,
                "version": version,
                "works": [piece.work_id for piece in pieces],
                "attempts": [piece.attempt for piece in pieces],
                "key_works": [row.piece.work_id for row in rows],
                "keys": [row.key for row in rows],
                "digests": [row.digest for row in rows],
                "vectors": [row.vector for row in rows],
                "codes": [row.code for row in rows],
                "errors": [row.error for row in rows],
            }


def failed(rows: Iterable[Row], code: str, message: str) -> None:
    """Note for some rows that they could not be embedded."""
    for row in rows:
        row.code, row.error = code, message
