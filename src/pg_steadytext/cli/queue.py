"""``pg-steadytext queue``: see the queue, tend it, watch it."""

from __future__ import annotations

from typing import Annotated
from uuid import UUID

import psycopg
import typer
from rich.table import Table

from pg_steadytext.cli import queue_dead_letters, queue_progress, queue_watch
from pg_steadytext.cli.console import console, error_console, speaks_plainly
from pg_steadytext.cli.queue_session import Row, confirm, one_line, plural, queue_session, show, span, table
from pg_steadytext.errors import InvalidArgument

STATES = ("pending", "processing", "completed", "failed", "cancelled")
PURGE_BATCH = 10_000

app = typer.Typer(
    help="See the queue, tend it, watch it; of the database that PG* or the home's settings name.",
    no_args_is_help=True,
)
app.add_typer(queue_dead_letters.app, name="dead-letter")

Ids = Annotated[list[UUID], typer.Argument(help="Request ids.", metavar="REQUEST_ID...")]
AsJson = Annotated[bool, typer.Option("--json", help="JSON instead of a table.")]


@app.command(epilog="Example: pg-steadytext queue status --json")
@speaks_plainly
def status(as_json: AsJson = False) -> None:
    """Count requests by lane and state, and show the workers with their leases."""
    with queue_session() as session:
        counts, workers = session.rows("status"), session.rows("workers")
    if as_json:
        console.print_json(data={"requests": counts, "workers": workers})
        return
    show(queue_watch.lanes_table(counts))
    console.print()
    if workers:
        show(queue_watch.workers_table(workers))
    else:
        console.print("no worker is at work")


@app.command("list", epilog="Example: pg-steadytext queue list --status failed --lane embed --limit 50")
@speaks_plainly
def list_requests(
    status: Annotated[str | None, typer.Option(help=", ".join(STATES))] = None,
    lane: Annotated[str | None, typer.Option(help="generate, embed or rerank")] = None,
    owner: Annotated[str | None, typer.Option(help="The role that asked.")] = None,
    limit: Annotated[int, typer.Option(min=1, help="How many, the latest first.")] = 20,
    as_json: AsJson = False,
) -> None:
    """List requests, the latest first. Without the role steadytext_admin: one's own."""
    if status is not None and status not in STATES:
        raise InvalidArgument(f"--status must be one of {', '.join(STATES)}, not {status}")
    with queue_session() as session:
        found = session.rows("list", status=status, lane=lane, owner=owner, limit=limit)
    if as_json:
        console.print_json(data=found, default=str)
    else:
        show(_requests_table(found))


def _requests_table(found: list[Row]) -> Table:
    listed = table("request", "lane", "status", "prio", "owner", "age", text="text")
    for row in found:
        listed.add_row(
            row["request_id"], row["lane"], row["status"], str(row["priority"]), row["owner"], span(row["age"]),
            one_line(row["error"] or row["prompt"]),
        )  # fmt: skip
    return listed


@app.command(epilog="Example: pg-steadytext queue retry 018f6b0e-7c1c-4f5e-9d57-3c1b0c1f2a3b")
@speaks_plainly
def retry(request_ids: Ids) -> None:
    """Put failed or cancelled requests back into the queue, with all their retries."""
    _each("retry", request_ids, done="back in the queue", left="neither failed nor cancelled")


@app.command(epilog="Example: pg-steadytext queue cancel 018f6b0e-7c1c-4f5e-9d57-3c1b0c1f2a3b")
@speaks_plainly
def cancel(request_ids: Ids) -> None:
    """Cancel requests that wait or run; they are never completed afterwards."""
    _each("cancel", request_ids, done="cancelled", left="had ended already")


def _each(statement: str, request_ids: list[UUID], *, done: str, left: str) -> None:
    """Do it for each id and say how it went; exit status 1 when one was not done."""
    missed = 0
    with queue_session() as session:
        for request_id in request_ids:
            try:
                was_done = session.row(statement, id=request_id)["done"]
            except psycopg.errors.NoDataFound as error:
                missed += 1
                error_console.print(error.diag.message_primary, style="red", markup=False, soft_wrap=True)
                continue
            missed += not was_done
            console.print(f"{request_id} {done if was_done else left}", markup=False, soft_wrap=True)
    if missed:
        raise typer.Exit(1)


@app.command(epilog="Example: pg-steadytext queue purge --older-than '1 day' --yes")
@speaks_plainly
def purge(
    older_than: Annotated[
        str | None, typer.Option(help="An interval, as '12 hours'; queue_retention_days by default.")
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
) -> None:
    """Forget finished requests with their results: completed, failed and cancelled ones beyond an age."""
    with queue_session() as session:
        age = session.row("retention", older_than=older_than)["age"]
        number = session.row("count_finished", older_than=age)["requests"]
        what = f"{plural(number, 'finished request')} older than {age}"
        if not number:
            console.print(what, markup=False)
            return
        confirm(f"{what} will be forgotten, their results and dead letters too.", yes=yes)
        purged = 0
        while (batch := session.row("purge", older_than=age, batch=PURGE_BATCH)["requests"]) > 0:
            purged += batch
        console.print(f"{plural(purged, 'request')} forgotten")


@app.command(
    epilog="Examples: pg-steadytext queue watch\n\n"
    "pg-steadytext queue watch 018f6b0e-7c1c-4f5e-9d57-3c1b0c1f2a3b && echo all of it is done"
)
@speaks_plainly
def watch(
    request_id: Annotated[
        UUID | None, typer.Argument(help="A batch, or any request of it.", metavar="BATCH_OR_REQUEST_ID")
    ] = None,
    interval: Annotated[float, typer.Option(min=0.1, help="Seconds between two looks.")] = 1.0,
    seconds: Annotated[float | None, typer.Option(min=0, help="Stop after so many seconds.")] = None,
) -> None:
    """Watch the whole queue, or a batch until it is done; without a terminal, one line for each change.

    Of a batch: exit status 0 when all of it is completed or cancelled, 1 when a request of it has failed.
    """
    with queue_session() as session:
        if request_id is None:
            queue_watch.watch(session, interval, seconds)
        elif queue_progress.watch(session, request_id, interval, seconds):
            raise typer.Exit(1)
