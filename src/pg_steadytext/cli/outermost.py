"""What is around every command: streams that can be used, and plain words where one cannot be written any more."""

from __future__ import annotations

import errno
import os
import sys
from typing import Any, NoReturn

import typer

UNWRITABLE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)
STREAMS = (("stdin", "r"), ("stdout", "w"), ("stderr", "w"))


class Outermost(typer.Typer):
    """An app that is called in a process of its own."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Carry out the command of the process's arguments, and leave."""
        open_closed_streams()
        try:
            try:
                return super().__call__(*args, **kwargs)
            finally:
                sys.stdout.flush()
        except BrokenPipeError:
            drop_output()
            sys.exit(1)  # nobody reads any more, which its reader knows
        except OSError as error:
            if error.errno not in UNWRITABLE:
                raise
            drop_output()
            leave(f"cannot write: {error.strerror}")
        except UnicodeEncodeError as error:
            refused = error.object[error.start : error.end]
            if not all("\udc80" <= character <= "\udcff" for character in refused):
                raise
            leave(f"an argument or a setting is no UTF-8: it has the bytes {os.fsencode(refused)!r}")


def open_closed_streams() -> None:
    """Have what was closed lead nowhere: a connection that got its number would be written to."""
    for number, (name, mode) in enumerate(STREAMS):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # gets the lowest number that is free
        if getattr(sys, name) is None:
            setattr(sys, name, open(number, mode, encoding="utf-8", closefd=False))  # noqa: SIM115 (the process's)


def drop_output() -> None:
    """What was not written must not be tried again when the process ends."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)


def leave(message: str) -> NoReturn:
    """Say what was wrong, and end the process."""
    print(f"error: {message}", file=sys.stderr)
    sys.exit(1)
