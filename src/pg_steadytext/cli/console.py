"""What a command shows: one console, one way to say an error, one way to show progress."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from typing import NoReturn, ParamSpec, TypeVar

import psycopg
import typer
from rich.console import Console

from pg_steadytext.errors import ModelFailed, SteadyTextError

P = ParamSpec("P")
R = TypeVar("R")

PIPED_COLUMNS = 200
"""What reads a table from a pipe wants its names whole."""

console = Console(highlight=False, width=None if sys.stdout.isatty() or "COLUMNS" in os.environ else PIPED_COLUMNS)
error_console = Console(stderr=True, highlight=False)


def fail(error: SteadyTextError) -> NoReturn:
    """Say what was wrong and what to do, and leave with status 1."""
    error_console.print(f"error: {error.message}", style="red", markup=False, soft_wrap=True)
    if error.hint:
        error_console.print(f"hint:  {error.hint}", markup=False, soft_wrap=True)
    raise typer.Exit(1)


def speaks_plainly(command: Callable[P, R]) -> Callable[P, R]:
    """Turn the errors that pg_steadytext raises on purpose, and PostgreSQL's, into a message and exit status 1."""

    @wraps(command)
    def run(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return command(*args, **kwargs)
        except SteadyTextError as error:
            fail(error)
        except psycopg.Error as error:
            told = error.diag.message_primary or str(error).strip()
            fail(ModelFailed(f"PostgreSQL: {told}", hint=error.diag.message_hint))

    return run


@contextmanager
def step(what: str) -> Iterator[None]:
    """Say what is being done, and how long it took when it is done."""
    began = time.monotonic()
    sys.stdout.flush()
    console.print(f"  {what} …", end="", markup=False, soft_wrap=True)
    try:
        yield
    except BaseException:
        console.print(" failed", style="red")
        raise
    console.print(f" {time.monotonic() - began:.1f} s", style="green")
