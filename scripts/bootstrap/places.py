"""Where the virtual environment and the state go: in the checkout, unless the service account cannot enter it."""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from bootstrap.console import CannotGoOnError, say
from bootstrap.system import is_root, service_output

OUTSIDE = Path("/var/lib/pg_steadytext")
BYTES_NEEDED = 2_000_000_000


@dataclass(frozen=True)
class Places:
    """The checkout, its virtual environment and its home; ``shared``: the service account can read the checkout."""

    checkout: Path
    venv: Path
    home: Path
    shared: bool

    @property
    def command(self) -> Path:
        """The installed ``pg-steadytext``."""
        return self.venv / "bin" / "pg-steadytext"


@contextmanager
def in_turn(checkout: Path) -> Iterator[None]:
    """Have the checkout to oneself while things are installed in it; who comes second says so and waits."""
    folder = os.open(checkout, os.O_RDONLY)
    try:
        try:
            fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say(f"    another make is at work in {checkout}: waiting for it")
            fcntl.flock(folder, fcntl.LOCK_EX)
        yield
    finally:
        os.close(folder)


def find(checkout: Path) -> Places:
    """Decide where things go, and make the folders and links."""
    checkout = checkout.resolve()
    shared = (
        not is_root() or service_output(["test", "-r", checkout / "src" / "pg_steadytext" / "__init__.py"]) is not None
    )
    home, venv = checkout / ".local", checkout / ".venv"
    if not shared:
        outside = OUTSIDE / hashlib.sha256(os.fsencode(checkout)).hexdigest()[:12]
        outside.mkdir(parents=True, exist_ok=True)
        _link(home, outside / "home")
        _link(venv, outside / "venv")
    if named := os.environ.get("STEADYTEXT_HOME"):
        home = Path(named).absolute()
    _make(home)
    return Places(checkout, venv.resolve(), home.resolve(), shared)


def check_space(places: Places) -> None:
    """Refuse to fill the disk."""
    free = shutil.disk_usage(places.home).free
    if not places.venv.exists() and free < BYTES_NEEDED:
        raise CannotGoOnError(
            f"{free // 1_000_000} MB are free at {places.home}, and about {BYTES_NEEDED // 1_000_000} MB are needed",
            "Make room, or set STEADYTEXT_HOME to a folder on another disk.",
        )


def _make(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise CannotGoOnError(
            f"cannot create {folder}: {error.strerror}", "Run as the owner of the checkout, or as root."
        ) from error


def _link(link: Path, target: Path) -> None:
    target.mkdir(exist_ok=True)
    if link.is_symlink():
        if link.readlink() == target:
            return
        link.unlink()
    elif link.exists():
        raise CannotGoOnError(
            f"{link} is in the way of a link to {target}: the account that runs PostgreSQL cannot enter {link.parent}",
            f"Remove {link}, or move the checkout to a folder that everybody may enter.",
        )
    say(f"    {link.name} -> {target} (the account that runs PostgreSQL cannot enter {link.parent})")
    link.symlink_to(target)
