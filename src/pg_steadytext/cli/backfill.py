"""``pg-steadytext backfill``: embed a declared table's rows by an engine other than the queue's workers."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from typing import Annotated

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from pg_steadytext.cli.console import console, speaks_plainly
from pg_steadytext.client import connection_parameters
from pg_steadytext.store.ray_engine import OnProgress
from pg_steadytext.store.ray_engine import backfill as by_ray

LINE_SECONDS = 5.0
"""Between two lines of progress where there is no terminal."""


class Engine(StrEnum):
    """Who embeds."""

    ray = "ray"


ENGINES = {Engine.ray: by_ray}


@speaks_plainly
def backfill(
    table: Annotated[str, typer.Argument(help="A table that steadytext_autoembed() has declared.")],
    engine: Annotated[Engine, typer.Option(help="Who embeds: Ray Data, on one machine or many.")],
    destination: Annotated[str | None, typer.Option(help="Which declaration, if the table has several.")] = None,
    address: Annotated[
        str | None, typer.Option(help="A Ray cluster; by default RAY_ADDRESS, or a Ray of its own.")
    ] = None,
    actors: Annotated[int | None, typer.Option(min=1, help="Loaded models; by default one a processor.")] = None,
    range_rows: Annotated[int, typer.Option(min=1, help="Rows of one task.")] = 1024,
) -> None:
    """Embed what a table still lacks; stopped at any moment, it goes on from there, by this command or by a worker."""
    began = time.monotonic()
    with _progress() as told:
        done = ENGINES[engine](
            connection_parameters(), table, destination,
            address=address, actors=actors, range_rows=range_rows, on_progress=told,
        )  # fmt: skip
    took = time.monotonic() - began
    console.print(f"{done.rows:,} rows read, {done.written:,} vectors written, {done.rows / took:.0f} rows/s")
    if done.written < done.rows:
        console.print("the others have no text, were changed or locked meanwhile, or failed: the workers see to these")


@contextmanager
def _progress() -> Iterator[OnProgress]:
    if not console.is_terminal:
        yield _Lines()
        return
    columns = (TextColumn("embedded"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[rate]}"))
    with Progress(*columns, TimeRemainingColumn(), console=console) as bars:
        task = bars.add_task("embedded", total=None, rate="")
        began = time.monotonic()

        def told(done: int, of: int) -> None:
            bars.update(
                task, completed=done, total=of, rate=f"{done / max(0.001, time.monotonic() - began):.0f} rows/s"
            )

        yield told


class _Lines:
    """Progress where nobody watches: a line now and then."""

    def __init__(self) -> None:
        self._next = 0.0

    def __call__(self, done: int, of: int) -> None:
        if time.monotonic() >= self._next or done == of:
            console.print(f"{done:,} of {of:,} rows")
            self._next = time.monotonic() + LINE_SECONDS
