"""``pg-steadytext store``: see what is embedded and how far layers are, and take over tables of the older schema."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from pg_steadytext import statements
from pg_steadytext.cli.console import console, speaks_plainly
from pg_steadytext.cli.queue_session import QueueSession, Row, queue_session, show, span, table
from pg_steadytext.cli.store_progress import follow, who_embeds
from pg_steadytext.store import PgaiStoreFactory

SQL = statements.load("pg_steadytext.cli", "sql/store.sql")

app = typer.Typer(
    help="See what is embedded and how far layers are; of the database that PG* or the home's settings name.",
    no_args_is_help=True,
)

AsJson = Annotated[bool, typer.Option("--json", help="JSON instead of tables.")]
ConfigFile = Annotated[Path | None, typer.Option("--config", help="A file in the shape of config/store/pgai.yaml.")]


@app.command(epilog="Example: pg-steadytext store status --json")
@speaks_plainly
def status(as_json: AsJson = False) -> None:
    """Show each embedded table, each layer, and whether somebody works on them; leaves with status 1 if nobody does."""
    with queue_session() as session:
        tables, layers, health = (
            session.connection.execute(SQL[name]).fetchall() for name in ("tables", "layers", "health")
        )
    if as_json:
        console.print_json(data={"tables": tables, "layers": layers, "health": health[0]}, default=str)
    else:
        _show(tables, layers, health[0])
    if not health[0]["overall_healthy"]:
        raise typer.Exit(1)


def _show(tables: list[Row], layers: list[Row], health: Row) -> None:
    if not tables:
        console.print("no table is embedded")
    else:
        show(_tables(tables))
    if layers:
        console.print()
        show(_layers(layers))
    console.print()
    console.print(
        f"daemon {'answers' if health['daemon_healthy'] else 'does not answer'}, workers: {health['active_workers']}, "
        f"rows waiting: {health['queue_size']}, failed: {health['failed']}"
    )


def _tables(rows: list[Row]) -> Table:
    listed = table(
        "table", "into", "mode", "embedded", "of", "waiting", "oldest", "failed", "rows/s", "index", text="state"
    )
    for row in rows:
        listed.add_row(
            row["table_name"], row["destination"], row["mode"], _count(row["with_embeddings"]), _count(row["total"]),
            _count(row["waiting"]), span(row["oldest_seconds"] or None), _count(row["failed"]), f"{row['rate']:.1f}",
            row["index_state"],
            row["reason"] or row["state"],
        )  # fmt: skip
    return listed


def _layers(rows: list[Row]) -> Table:
    listed = table("layer", "of", "completed", "pending", "processing", "failed", text="asks")
    for row in rows:
        listed.add_row(
            row["layer"], row["source"], _count(row["completed"]), _count(row["pending"]), _count(row["processing"]),
            _count(row["failed"]), row["model"] or row["ask"],
        )  # fmt: skip
    return listed


def _count(number: Any) -> str:
    return "?" if number is None else f"{number:,}"


TableName = Annotated[str, typer.Argument(metavar="TABLE", help="An embedded table, as SQL names it.")]
Destination = Annotated[str | None, typer.Option(help="Which of its embeddings, where it has several.")]
Throttle = Annotated[int | None, typer.Option(min=0, help="Most rows a second; 0 takes the limit away.")]
Watch = Annotated[bool, typer.Option("--watch", help="Show the progress until it is done; leaving does not end it.")]


@app.command(epilog="Example: pg-steadytext store backfill articles --throttle 200 --watch")
@speaks_plainly
def backfill(
    table_name: TableName,
    destination: Destination = None,
    throttle: Throttle = None,
    everything: Annotated[bool, typer.Option("--all", help="Also rows that have a vector.")] = False,
    watch: Watch = False,
) -> None:
    """Have workers embed the rows that have no vector yet; goes on from where it is if that is under way."""
    chosen = {"table": table_name, "destination": destination}
    with queue_session() as session:
        session.connection.execute(SQL["backfill"], {**chosen, "everything": everything, "rate": throttle})
        _say_or_watch(session, chosen, watch, None)


@app.command(epilog="Example: pg-steadytext store reembed articles --model jina-v2-small --watch")
@speaks_plainly
def reembed(
    table_name: TableName,
    model: Annotated[str | None, typer.Option(help="Another embedding model; the same one unless given.")] = None,
    destination: Destination = None,
    throttle: Throttle = None,
    cancel: Annotated[bool, typer.Option("--cancel", help="Give it up: the table keeps its vectors.")] = False,
    watch: Watch = False,
) -> None:
    """Embed a table anew beside its vectors, which are searched until the new ones come in their place."""
    chosen = {"table": table_name, "destination": destination}
    with queue_session() as session:
        if cancel:
            row = session.connection.execute(SQL["cancel"], chosen).fetchone()
            told = "given up" if row and row["was_under_way"] else "nothing was under way"
            console.print(f"{table_name}: {told}", markup=False)
            return
        with session.connection.transaction():
            if throttle is not None:
                session.connection.execute(SQL["pace"], {**chosen, "rate": throttle})
            begun = session.connection.execute(SQL["reembed"], {**chosen, "model": model}).fetchone()
        _say_or_watch(session, chosen, watch, begun["id"] if begun else None)


def _say_or_watch(session: QueueSession, chosen: dict[str, str | None], watch: bool, anew: int | None) -> None:
    found = session.connection.execute(SQL["workers"], chosen).fetchone()
    console.print(who_embeds(found or {}), markup=False, soft_wrap=True)
    if watch:
        follow(lambda: session.connection.execute(SQL["progress"], {**chosen, "anew": anew}).fetchone(), anew)


@app.command(epilog="Example: pg-steadytext store migrate m0_messages --into m0_raw")
@speaks_plainly
def migrate(
    old: Annotated[str, typer.Argument(help="The table of the older schema.")] = "m0_messages",
    into: Annotated[str, typer.Option(help="Its new name.")] = "m0_raw",
    back: Annotated[bool, typer.Option("--back", help="The way back: the old name, no automatic embedding.")] = False,
    config: ConfigFile = None,
) -> None:
    """Take over a table of the older schema with its rows, in one transaction."""

    async def run() -> None:
        store = PgaiStoreFactory.create_store(config, table_name=into)
        try:
            await (store.undo_migration(old) if back else store.migrate(old))
        finally:
            await store.close()

    asyncio.run(run())
    console.print(
        f"{into} is {old} again" if back else f"{old} is {into}, and its rows are being embedded", markup=False
    )
