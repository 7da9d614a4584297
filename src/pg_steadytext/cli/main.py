"""The ``pg-steadytext`` command: one small module a sub-command, put together here.

A command's module is imported when it is asked for: to import them all takes longer than most commands do.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Annotated, Any

import typer
from typer.core import TyperGroup
from typer.main import get_command, get_group

from pg_steadytext import __version__
from pg_steadytext.cli.outermost import Outermost

COMMANDS = {
    "up": "up",
    "down": "up",
    "status": "status",
    "env": "status",
    "doctor": "doctor",
    "supervise": "supervise",
    "worker": "worker",
    "backfill": "backfill",
    "bench": "bench",
    "cache": "cache",
    "daemon": "daemon",
    "models": "models",
    "queue": "queue",
    "memory": "memory",
    "store": "store",
}
"""The module of each: it has a function of the command's name, or an ``app`` with commands of its own."""


class Commands(TyperGroup):
    """Finds commands by name, and imports them then."""

    def list_commands(self, ctx: Any) -> list[str]:  # noqa: ARG002 (the signature is typer's)
        """Return the names, in the order of the help."""
        return list(COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """Return a command, or None where there is none of that name."""
        if cmd_name in COMMANDS and cmd_name not in self.commands:
            module = import_module(f"pg_steadytext.cli.{COMMANDS[cmd_name]}")
            found = get_group(module.app) if hasattr(module, "app") else _single(getattr(module, cmd_name))
            found.name = cmd_name
            self.add_command(found)
        return super().get_command(ctx, cmd_name)


def _single(function: Callable[..., object]) -> Any:
    single = typer.Typer(add_completion=False)
    single.command()(function)
    return get_command(single)


app = Outermost(
    name="pg-steadytext",
    cls=Commands,
    help="Deterministic text generation and embeddings in PostgreSQL.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


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
