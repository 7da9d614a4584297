"""A log file that never grows past a size: full, it becomes NAME.1, and NAME.1 becomes NAME.2.

A full disk costs lines and nothing else: the next line that finds room is preceded by how many were lost, and why.
"""

from __future__ import annotations

import os
from pathlib import Path

DEFAULT_BYTES = 10 * 1024 * 1024
DEFAULT_KEPT = 3


class RotatingLog:
    """Appends bytes to a file and rotates it at a line's end once it holds ``limit`` bytes."""

    def __init__(self, path: Path, *, limit: int = DEFAULT_BYTES, kept: int = DEFAULT_KEPT) -> None:
        self.path = path
        self._limit = limit
        self._kept = kept
        self._file = path.open("ab", buffering=0)
        self._size = self._file.tell()
        self._at_line_start = True
        self._lost = 0
        self._why: str | None = None
        self._in_lost_line = False

    def write(self, data: bytes) -> None:
        """Append, or count the lines as lost; what does not end a line is never cut from its rest by a rotation."""
        try:
            if self._size >= self._limit and self._at_line_start:
                self._rotate()
            if self._lost:
                self._tell_what_was_lost()
            if self._in_lost_line:
                data = self._after_lost_line(data)
            self._append(data)
        except OSError as error:
            self._lose(data, error)

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _append(self, data: bytes) -> None:
        """Write all of it, or nothing and raise ``OSError``: half a line would run into whatever comes next."""
        written = 0
        try:
            while written < len(data):
                written += self._file.write(data[written:])
        except OSError:
            if written:
                os.ftruncate(self._file.fileno(), os.fstat(self._file.fileno()).st_size - written)
            raise
        self._size += len(data)
        if data:
            self._at_line_start = data.endswith(b"\n")

    def _lose(self, data: bytes, error: OSError) -> None:
        ends_line = data.endswith(b"\n")
        self._lost += data.count(b"\n") + (not ends_line) - self._in_lost_line
        self._in_lost_line = not ends_line
        self._why = error.strerror

    def _tell_what_was_lost(self) -> None:
        lines = "line" if self._lost == 1 else "lines"
        told = f"{self._lost} {lines} lost: {self._why}\n"
        self._append(told.encode() if self._at_line_start else f"\n{told}".encode())
        self._lost = 0

    def _after_lost_line(self, data: bytes) -> bytes:
        _, end, rest = data.partition(b"\n")
        self._in_lost_line = not end
        return rest

    def _rotate(self) -> None:
        fresh = self.path.with_name(f"{self.path.name}.new")
        file = fresh.open("wb", buffering=0)
        try:
            for number in range(self._kept, 0, -1):
                older = self.path.with_name(f"{self.path.name}.{number - 1}") if number > 1 else self.path
                if older.exists():
                    older.replace(self.path.with_name(f"{self.path.name}.{number}"))
            fresh.replace(self.path)
        except OSError:
            file.close()
            raise
        self._file.close()
        self._file = file
        self._size = 0
