"""``pg-steadytext queue dead-letter``: requests that have failed for good, and their way back."""

from __future__ import annotations

from typing import Annotated

import typer

from pg_steadytext.cli.console import console, speaks_plainly
from pg_steadytext.cli.queue_session import confirm, one_line, plural, queue_session, show, span, table

app = typer.Typer(help="See requests that have failed for good, and put them back.", no_args_is_help=True)

Lane = Annotated[str | None, typer.Option(help="generate, embed or rerank")]


@app.command("list", epilog="Example: pg-steadytext queue dead-letter list --lane embed")
@speaks_plainly
def list_dead_letters(
    lane: Lane = None,
    limit: Annotated[int, typer.Option(min=1, help="How many, the latest first.")] = 20,
    as_json: Annotated[bool, typer.Option("--json", help="JSON, with every attempt's error.")] = False,
) -> None:
    """List dead letters with their last error."""
    with queue_session() as session:
        found = session.rows("dead_letters", lane=lane, limit=limit)
    if as_json:
        console.print_json(data=found, default=str)
        return
    listed = table("request", "lane", "owner", "failed", "tries", "code", text="error")
    for row in found:
        listed.add_row(
            row["request_id"], row["lane"], row["owner"], f"{span(row['age'])} ago", str(row["attempts"] or ""),
            row["code"], one_line(row["error"]),
        )  # fmt: skip
    show(listed)


@app.command(epilog="Example: pg-steadytext queue dead-letter requeue --lane generate --older-than '10 minutes' --yes")
@speaks_plainly
def requeue(
    lane: Lane = None,
    older_than: Annotated[str | None, typer.Option(help="Failed longer ago than this, as '1 hour'.")] = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
) -> None:
    """Put dead letters back into the queue, with all their retries."""
    with queue_session() as session:
        number = session.row("count_dead_letters", lane=lane, older_than=older_than)["requests"]
        if not number:
            console.print("there is no such dead letter")
            return
        chosen = (f" of lane {lane}" if lane else "") + (
            f" that failed more than {older_than} ago" if older_than else ""
        )
        confirm(f"{plural(number, 'dead letter')}{chosen} will be put back into the queue.", yes=yes)
        requeued = session.row("requeue", lane=lane, older_than=older_than)["requests"]
        console.print(f"{plural(requeued, 'request')} back in the queue")
