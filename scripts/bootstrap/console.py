"""What the bootstrap says while it works, and how it says that it cannot go on."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager


class CannotGoOnError(Exception):
    """Something is missing that the bootstrap cannot get; ``remedy`` is what a person can do."""

    def __init__(self, message: str, remedy: str) -> None:
        super().__init__(message)
        self.remedy = remedy


def say(text: str) -> None:
    """Print one line at once."""
    print(text, flush=True)


@contextmanager
def step(what: str) -> Iterator[None]:
    """Say what is being done, and how long it took."""
    began = time.monotonic()
    print(f"==> {what} …", flush=True)
    yield
    print(f"    done in {time.monotonic() - began:.0f} s", flush=True)


def complain(error: CannotGoOnError) -> None:
    """Print an error and its remedy."""
    print(f"\nerror: {error}\nhint:  {error.remedy}", file=sys.stderr, flush=True)
