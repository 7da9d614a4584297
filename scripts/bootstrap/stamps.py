"""What was made from what: a digest of a step's inputs, kept beside its result."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path


def digest(paths: Iterable[Path], *more: str) -> str:
    """Return a digest over files, names and contents, and over further texts."""
    total = hashlib.sha256()
    for text in more:
        total.update(text.encode() + b"\0")
    for path in sorted(paths):
        total.update(str(path).encode() + b"\0" + hashlib.sha256(path.read_bytes()).digest())
    return total.hexdigest()


def holds(stamp: Path, value: str) -> bool:
    """Tell whether the stamp says that its step was done with this digest."""
    return stamp.is_file() and stamp.read_text(encoding="ascii").strip() == value


def write(stamp: Path, value: str) -> None:
    """Record that the step was done with this digest."""
    stamp.write_text(value + "\n", encoding="ascii")
