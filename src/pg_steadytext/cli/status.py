"""``pg-steadytext status`` and ``env``: what runs here, and how to reach it."""

from __future__ import annotations

import os
import shlex
from typing import Annotated, Any

import typer
from rich.table import Table

from pg_steadytext.cli.console import console, error_console, speaks_plainly
from pg_steadytext.cluster import control, launch
from pg_steadytext.cluster.installation import Installation
from pg_steadytext.daemon.client import DaemonClient
from pg_steadytext.errors import DaemonUnavailable, SteadyTextError


@speaks_plainly
def status(as_json: Annotated[bool, typer.Option("--json", help="One JSON object.")] = False) -> None:
    """Show what runs; exit status 1 when something does not."""
    here = Installation.load()
    parts = {"postgresql": _server(here), **_services(here)}
    if as_json:
        console.print_json(data={"home": str(here.home.root), "services": parts})
    else:
        table = Table("service", "state", "pid", "restarts", "where", box=None, header_style="bold")
        for name, part in parts.items():
            cells = (part["state"], part.get("pid"), part.get("restarts"), part.get("where"))
            table.add_row(name, *("" if cell is None else str(cell) for cell in cells))
        console.print(table)
        console.print(f"home: {here.home.root}", soft_wrap=True)
    if any(part["state"] != "running" for part in parts.values()):
        raise typer.Exit(1)


@speaks_plainly
def env() -> None:
    """Print shell commands that lead psql, and any client of libpq, to this PostgreSQL: eval "$(pg-steadytext env)"."""
    here = Installation.load()
    if not here.home.settings_file.is_file():
        raise DaemonUnavailable(f"there is nothing at {here.home.root} yet", hint="Run make up.")
    for name, value in here.client_environment().items():
        typer.echo(f"export {name}={shlex.quote(value)}")
    if not os.access(here.home.pgpass, os.R_OK):
        error_console.print(f"You may not read {here.home.pgpass}: use the account that ran make up, or root.")


def _server(here: Installation) -> dict[str, Any]:
    pid = here.cluster.pid()
    where = f"port {here.cluster.port}, socket {here.home.run}, database {here.database}"
    return {"state": "running" if pid else "stopped", "pid": pid, "where": where}


def _services(here: Installation) -> dict[str, dict[str, Any]]:
    pid = launch.pid(here.home)
    parts: dict[str, dict[str, Any]] = {"supervisor": {"state": "running" if pid else "stopped", "pid": pid}}
    try:
        services: dict[str, dict[str, Any]] = control.ask(here.home.supervisor_socket, "status")["services"]
    except DaemonUnavailable:
        return parts | {name: {"state": "stopped"} for name in launch.service_commands(here.settings)}
    services["daemon"]["where"] = _daemon(here)
    if "memory" in services:
        services["memory"]["where"] = f"{here.memory_url}, documentation at /docs"
    return parts | services


def _daemon(here: Installation) -> str:
    try:
        with DaemonClient(here.settings.daemon_endpoint, connect_ms=1000) as daemon:
            told = daemon.status()
    except SteadyTextError as error:
        return f"{here.settings.daemon_endpoint}, {error.message}"
    model = told.get("default_generation_model")
    return f"{here.settings.daemon_endpoint}, version {told.get('version')}, default model {model}"
