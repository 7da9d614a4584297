"""Locks on files of a home, each with its holder's process id in it.

The kernel takes such a lock back from a process that ends, however it ends; what that process started does not have it.
The number in the file is only believed while the lock is held, and by the process of that number.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from pg_steadytext.cluster.account import Account
from pg_steadytext.errors import NotAllowed

PATIENCE_SECONDS = 1.0
"""How long a lock may be taken before that is worth a word; ``holder`` takes it for an instant to see if it can."""

POLL_SECONDS = 0.02


@contextlib.contextmanager
def only_one(path: Path) -> Iterator[None]:
    """Hold the lock of a home's one supervisor.

    Raises ``NotAllowed`` when another process has it.
    """
    with _opened(path) as file:
        if not _take_soon(file):
            raise NotAllowed(
                f"another supervisor (pid {holder(path) or 'unknown'}) already has this home: {path.parent}",
                hint="pg-steadytext status shows it; pg-steadytext down stops it.",
            )
        _sign(file)
        yield


@contextlib.contextmanager
def in_turn(path: Path, account: Account, tell: Callable[[int | None], None]) -> Iterator[None]:
    """Hold the lock of what changes a home, after whoever has it; ``tell`` hears whom a longer wait is for.

    A home that does not exist has no lock and nothing to change. Raises ``NotAllowed`` for another account's.
    """
    if not path.parent.is_dir():
        yield
        return
    with contextlib.ExitStack() as opened:
        try:
            file = opened.enter_context(_opened(path))
            account.own(path)
        except PermissionError as error:
            raise NotAllowed(
                f"you may not change the installation at {path.parent}",
                hint="Use the account that ran make up, or root; or set STEADYTEXT_HOME to a folder of your own.",
            ) from error
        if not _take_soon(file):
            tell(holder(path))
            fcntl.flock(file, fcntl.LOCK_EX)
        with contextlib.suppress(OSError):  # a full disk keeps nobody from stopping the servers on it
            _sign(file)
        yield


def holder(path: Path) -> int | None:
    """Return the process id of who holds the lock, or None when nobody does or the caller may not know."""
    try:
        file = os.open(path, os.O_RDONLY)
    except OSError:
        return None
    try:
        if _take(file, fcntl.LOCK_SH):
            return None
        number = int(os.read(file, 32))
        return number if _has_open(number, os.fstat(file)) else None
    except ValueError:
        return None
    finally:
        os.close(file)


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[int]:
    file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
    try:
        yield file
    finally:
        os.close(file)


def _take_soon(file: int) -> bool:
    give_up = time.monotonic() + PATIENCE_SECONDS
    while not _take(file, fcntl.LOCK_EX):
        if time.monotonic() >= give_up:
            return False
        time.sleep(POLL_SECONDS)
    return True


def _take(file: int, kind: int) -> bool:
    try:
        fcntl.flock(file, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _sign(file: int) -> None:
    # Written over what is there: that needs no room on the disk, and leaves no moment without a number.
    written = os.pwrite(file, f"{os.getpid()}\n".encode(), 0)
    os.ftruncate(file, written)


def _has_open(number: int, status: os.stat_result) -> bool:
    descriptors = Path("/proc", str(number), "fd")
    try:
        return any(_is_same(descriptor, status) for descriptor in descriptors.iterdir())
    except PermissionError:  # a container's root may not look: the lock is held, and the file says by whom
        return True
    except FileNotFoundError:
        return False


def _is_same(path: Path, status: os.stat_result) -> bool:
    try:
        return os.path.samestat(path.stat(), status)
    except FileNotFoundError:
        return False
