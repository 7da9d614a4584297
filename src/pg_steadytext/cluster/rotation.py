"""A log file that never grows past a size: full, it becomes NAME.1, and NAME.1 becomes NAME.2."""

from __future__ import annotations

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

    def write(self, data: bytes) -> None:
        """Append; what does not end a line is never cut from the rest of it by a rotation."""
        self._file.write(data)
        self._size += len(data)
        if self._size >= self._limit and data.endswith(b"\n"):
            self._rotate()

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _rotate(self) -> None:
        self._file.close()
        for number in range(self._kept - 1, 0, -1):
            older = self.path.with_name(f"{self.path.name}.{number}")
            if older.exists():
                older.replace(self.path.with_name(f"{self.path.name}.{number + 1}"))
        self.path.replace(self.path.with_name(f"{self.path.name}.1"))
        self._file = self.path.open("ab", buffering=0)
        self._size = 0
