"""The progress of one batch, until it is done."""

from __future__ import annotations

import time
from collections.abc import Iterator
from uuid import UUID

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskProgressColumn, TextColumn

from pg_steadytext.cli.console import console
from pg_steadytext.cli.queue_session import QueueSession, Row, plural, span

BRIEFEST = 0.1
"""Least seconds between two looks: results that come by the thousand are one change."""

REST = 4.0
"""A look that took t, as at a batch of millions, is followed by a rest of at least this many t."""

INTERRUPTED = 130


def watch(session: QueueSession, request_id: UUID, interval: float, seconds: float | None) -> int:
    """Show the batch of a request until it is done, or for so many seconds; return how many requests have failed."""
    session.listen()
    try:
        last = (_draw if console.is_terminal else _print_changes)(_looks(session, request_id, interval, seconds))
    except KeyboardInterrupt:
        console.print("the batch goes on")
        raise typer.Exit(INTERRUPTED) from None
    failed: int = last["failed"]
    if last["done"] < last["total"]:
        console.print(f"after {seconds:g} s it is not done")
        raise typer.Exit(1)
    return failed


def _looks(session: QueueSession, request_id: UUID, interval: float, seconds: float | None) -> Iterator[Row]:
    """Look when something has ended, at the latest after ``interval`` seconds."""
    until = None if seconds is None else time.monotonic() + seconds
    while True:
        began = time.monotonic()
        row = session.row("progress", id=request_id)
        yield row
        if row["done"] >= row["total"] or (until is not None and time.monotonic() >= until):
            return
        time.sleep(max(BRIEFEST, REST * (time.monotonic() - began)))
        session.wait(interval)


def _draw(looks: Iterator[Row]) -> Row:
    columns = (
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TaskProgressColumn(),
        TextColumn("{task.fields[told]}"),
    )  # fmt: skip
    last: Row = {}
    with Progress(*columns, console=console) as bars:
        task = bars.add_task("batch", total=None, told="")
        for last in looks:
            bars.update(task, total=last["total"], completed=last["done"], told=tell(last))
    return last


def _print_changes(looks: Iterator[Row]) -> Row:
    last: Row = {}
    counted: object = None
    for last in looks:
        counts = (last["done"], last["failed"], last["cancelled"], last["processing"])
        if counts != counted:
            console.print(f"{last['done']:,} of {plural(last['total'], 'request')}, {tell(last)}", soft_wrap=True)
            counted = counts
    return last


def tell(row: Row) -> str:
    """Say what the bar does not show: failures, how fast it goes, when it will be done."""
    parts = [f"{row['failed']:,} failed"]
    if row["cancelled"]:
        parts.append(f"{row['cancelled']:,} cancelled")
    if row["done"] < row["total"]:
        parts.append(f"{row['processing']:,} running")
        if row["rate"]:
            parts.append(f"{row['rate']:,.1f}/s")
        if row["left"] is not None:
            parts.append(f"done in {span(row['left'])}")
    else:
        parts.append("done")
    return ", ".join(parts)
