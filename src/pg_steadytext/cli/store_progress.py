"""The progress of a backfill, until it is done."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskProgressColumn, TextColumn

from pg_steadytext.cli.console import console
from pg_steadytext.cli.queue_progress import INTERRUPTED
from pg_steadytext.cli.queue_session import Row, span
from pg_steadytext.errors import Cancelled, NotFound

PAUSE = 0.5
"""Seconds between two looks, each of which counts the table's rows; and at least this many times what a look takes:"""
REST = 4.0


HINDRANCES = {
    "paused": "the table is paused: steadytext_autoembed_resume() lets workers go on",
    "manual": "the table is embedded by hand: steadytext_autoembed_run() embeds the rows",
    "broken": "the declaration is broken: pg-steadytext store status says why",
}
STATUS = "pg-steadytext store status shows how far they are"


def who_embeds(found: Row) -> str:
    """Say who does what was asked for, or that nobody does now."""
    if found.get("hindrance"):
        return HINDRANCES[found["hindrance"]]
    if not found.get("workers"):
        return "the rows wait: no worker is at work; pg-steadytext worker starts one"
    if not found["daemon_healthy"]:
        return "the rows wait: the daemon does not answer; pg-steadytext doctor says more"
    return f"workers embed the rows; {STATUS}"


def follow(look: Callable[[], Row | None], anew: int | None = None) -> None:
    """Show what a look finds until it is done: a bar at a terminal, elsewhere a line for each change.

    `anew` is the declaration that is to replace the table's present one.
    """
    try:
        (_draw if console.is_terminal else _print_changes)(_looks(look, anew))
    except KeyboardInterrupt:
        console.print(f"not watched any more: the work goes on in the queue; {STATUS}", soft_wrap=True)
        raise typer.Exit(INTERRUPTED) from None


def _looks(look: Callable[[], Row | None], anew: int | None) -> Iterator[Row]:
    while True:
        began = time.monotonic()
        row = look()
        if row is None:
            raise NotFound("the table is not embedded any more")
        if anew is not None and row["id"] != anew:
            raise Cancelled(
                f"embedding {row['table_name']} anew was given up", hint="The table has the vectors that it had."
            )
        yield row
        if row["done"]:
            return
        time.sleep(max(PAUSE, REST * (time.monotonic() - began)))


def _draw(looks: Iterator[Row]) -> None:
    columns = (
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TaskProgressColumn(),
        TextColumn("{task.fields[told]}"),
    )  # fmt: skip
    with Progress(*columns, console=console) as bars:
        task = bars.add_task("", total=None, told="")
        for row in looks:
            bars.update(task, description=row["table_name"], total=row["total"], completed=row["rows"], told=tell(row))


def _print_changes(looks: Iterator[Row]) -> None:
    said = None
    for row in looks:
        if (counts := (row["rows"], row["total"], row["failed"], row["done"], row["state"], row["reason"])) != said:
            console.print(f"{row['rows']:,} of {row['total']:,} rows, {tell(row)}", markup=False, soft_wrap=True)
            said = counts


def tell(row: Row) -> str:
    """Say what the bar does not show: how fast it goes, when it will be done, what fails or hinders."""
    parts = [f"{row['failed']:,} failed"] if row["failed"] else []
    if row["done"]:
        parts.append("done")
    elif row["state"] != "active":
        parts.append(row["state"])
    elif row["rows"] >= row["total"] and row["reason"]:
        parts.append(row["reason"])
    else:
        parts.append(f"{row['rate']:,.1f}/s")
        if row["left"] is not None:
            parts.append(f"done in {span(max(0.0, row['left']))}")
    return ", ".join(parts)
