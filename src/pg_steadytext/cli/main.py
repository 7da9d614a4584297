"""The ``pg-steadytext`` command: one small module a sub-command, put together here."""

from __future__ import annotations

from typing import Annotated

import typer

from pg_steadytext import __version__
from pg_steadytext.cli import cache, daemon, memory, models, queue, store
from pg_steadytext.cli.backfill import backfill
from pg_steadytext.cli.bench import bench
from pg_steadytext.cli.doctor import doctor
from pg_steadytext.cli.status import env, status
from pg_steadytext.cli.supervise import supervise
from pg_steadytext.cli.up import down, up
from pg_steadytext.cli.worker import worker

app = typer.Typer(
    name="pg-steadytext",
    help="Deterministic text generation and embeddings in PostgreSQL.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

for command in (up, down, status, env, doctor, supervise, worker, backfill, bench):
    app.command()(command)
app.add_typer(cache.app, name="cache")
app.add_typer(daemon.app, name="daemon")
app.add_typer(models.app, name="models")
app.add_typer(queue.app, name="queue")
app.add_typer(memory.app, name="memory")
app.add_typer(store.app, name="store")


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"pg-steadytext {__version__}")
        raise typer.Exit


@app.callback()
def main(
    version: Annotated[
        bool, typer.Option("--version", help="Show the version and leave.", callback=_show_version, is_eager=True)
    ] = False,
) -> None:
    """Deterministic text generation and embeddings in PostgreSQL."""
