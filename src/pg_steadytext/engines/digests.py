"""SHA-256 of model files, computed once per version of a file.

Hashing 100 MB on every start is wasteful, so a digest is remembered together with the file's size, modification
time, inode and change time; a file for which any of them differs is hashed anew.
"""

from __future__ import annotations

import hashlib
import json
import os
import threading
from collections.abc import Mapping
from pathlib import Path

from pg_steadytext.engines.catalogue import Model
from pg_steadytext.errors import ModelFailed

CACHE_FILE = ".digests.json"
_lock = threading.Lock()


def sha256_of(path: Path) -> str:
    """Hex SHA-256 of a file's content, read now."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def combined(digests: Mapping[str, str]) -> str:
    """One digest for a model of several files: SHA-256 over the sorted lines "name sha256\\n"; of one file, its own."""
    if len(digests) == 1:
        return next(iter(digests.values()))
    lines = "".join(f"{name} {digest}\n" for name, digest in sorted(digests.items()))
    return hashlib.sha256(lines.encode()).hexdigest()


def stated_digest(model: Model) -> str | None:
    """The digest the catalogue states for a model, or None while one of its files has none."""
    stated = {file.name: file.sha256 for file in model.files if file.sha256 is not None}
    return combined(stated) if len(stated) == len(model.files) else None


def verify(model: Model, model_dir: Path, *, rehash: bool = False) -> str:
    """Check every file of a model against the catalogue and return the model's digest.

    `rehash` ignores what is remembered. Raises ModelFailed for a file that is missing or differs.
    """
    found: dict[str, str] = {}
    for file in model.files:
        path = model.folder(model_dir) / file.name
        if not path.is_file():
            raise ModelFailed(
                f'model "{model.name}" is not installed: {path} does not exist',
                hint=f"pg-steadytext models pull {model.name}",
            )
        digest = sha256_of(path) if rehash else _remembered(path, model_dir)
        if file.sha256 is not None and digest != file.sha256:
            raise ModelFailed(
                f'model "{model.name}" is damaged: {path} has sha256 {digest}, expected {file.sha256}',
                hint=f"pg-steadytext models pull {model.name} fetches it again",
            )
        found[file.name] = digest
    return combined(found)


def _stamp(path: Path) -> list[int]:
    status = path.stat()
    return [status.st_size, status.st_mtime_ns, status.st_ino, status.st_ctime_ns]


def _remembered(path: Path, model_dir: Path) -> str:
    key = os.path.relpath(path, model_dir)
    with _lock:
        known = _read(model_dir)
        stamp = _stamp(path)
        entry = known.get(key)
        if isinstance(entry, dict) and entry.get("stamp") == stamp:
            return str(entry["sha256"])
        digest = sha256_of(path)
        known[key] = {"stamp": stamp, "sha256": digest}
        _write(model_dir, known)
    return digest


def _read(model_dir: Path) -> dict[str, object]:
    try:
        found = json.loads((model_dir / CACHE_FILE).read_text("utf-8"))
    except (FileNotFoundError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _write(model_dir: Path, known: Mapping[str, object]) -> None:
    if not os.access(model_dir, os.W_OK):
        return
    temporary = model_dir / f"{CACHE_FILE}.{os.getpid()}"
    temporary.write_text(json.dumps(known, indent=1), "utf-8")
    os.replace(temporary, model_dir / CACHE_FILE)
