"""``pg-steadytext daemon``: run the model daemon, and ask a running one."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from pg_steadytext.cli.console import console, speaks_plainly
from pg_steadytext.daemon.client import DaemonClient
from pg_steadytext.daemon.options import DaemonOptions, tcp_address
from pg_steadytext.errors import DaemonUnavailable
from pg_steadytext.settings import Settings

SPIN = "1000"

app = typer.Typer(help="Run the model daemon, or ask a running one.", no_args_is_help=True)


@app.command()
@speaks_plainly
def run(
    address: Annotated[
        str | None, typer.Option(help="ZeroMQ address, tcp://HOST:PORT or ipc://PATH [default: from the settings]")
    ] = None,
    metrics_port: Annotated[
        int | None, typer.Option(help="Loopback port of /metrics and /healthz, 0 for none [default: from the settings]")
    ] = None,
    threads: Annotated[int | None, typer.Option(min=1, help="Processor threads [default: all]")] = None,
    slots: Annotated[int | None, typer.Option(min=1, help="Generations at a time [default: by processors]")] = None,
    queue: Annotated[int, typer.Option(min=1, help="Generations that may wait in a lane before it is busy")] = 256,
    curve_secret: Annotated[Path | None, typer.Option(help="The server's CURVE secret key file")] = None,
    curve_clients: Annotated[Path | None, typer.Option(help="Folder with the public keys of allowed clients")] = None,
    providers: Annotated[Path | None, typer.Option(help="TOML file that names remote providers")] = None,
    grace: Annotated[float, typer.Option(min=0, help="Seconds to finish what is in flight when told to stop")] = 10.0,
    log_level: Annotated[str, typer.Option(help="debug, info, warning or error")] = "info",
) -> None:
    """Run the daemon in the foreground; it logs JSON lines to standard error and stops gracefully on SIGTERM.

    An address that other machines can reach needs CURVE keys, which `zmq.auth.create_certificates` makes.
    """
    import asyncio

    # Threads that wait for each other by spinning long are ruinous when other processes want the processors; libgomp
    # reads this once, when llama.cpp is loaded.
    os.environ.setdefault("GOMP_SPINCOUNT", SPIN)
    from pg_steadytext.daemon.logs import configure
    from pg_steadytext.daemon.server import run as serve

    settings = Settings.load()
    port = settings.metrics_port if metrics_port is None else metrics_port
    options = DaemonOptions(
        model_dir=settings.model_dir,
        run_dir=settings.run_dir,
        address=address or tcp_address(settings.daemon_host, settings.daemon_port),
        metrics_port=port or None,
        threads=threads or _from_environment("STEADYTEXT_THREADS"),
        slots=slots or _from_environment("STEADYTEXT_SLOTS"),
        generation_queue=queue,
        grace_seconds=grace,
        curve_secret=curve_secret,
        curve_clients=curve_clients,
        providers=providers or settings.home / "providers.toml",
    )
    configure(log_level)
    asyncio.run(serve(options))


def _from_environment(name: str) -> int | None:
    value = os.environ.get(name, "")
    return int(value) if value.isdigit() and int(value) > 0 else None


def _client(address: str | None, timeout_ms: int = 5000) -> DaemonClient:
    settings = Settings.load()
    chosen = address or tcp_address(settings.daemon_host, settings.daemon_port)
    return DaemonClient(chosen, timeout_ms=timeout_ms, connect_ms=min(timeout_ms, 1000))


Address = Annotated[str | None, typer.Option(help="The daemon's address [default: from the settings]")]


@app.command()
@speaks_plainly
def stop(address: Address = None) -> None:
    """Ask the daemon to finish what is in flight and end."""
    with _client(address) as client:
        client.shutdown()
    console.print("the daemon is stopping")


@app.command()
@speaks_plainly
def ping(address: Address = None) -> None:
    """Ask whether the daemon answers; the exit status tells."""
    with _client(address) as client:
        if not client.ping():
            raise DaemonUnavailable("the daemon gave a wrong answer")
    console.print("pong")


@app.command()
@speaks_plainly
def status(address: Address = None) -> None:
    """Show the daemon's version, models and numbers."""
    with _client(address) as client:
        found = client.status()
        numbers = client.stats()
    table = Table(show_header=False, box=None)
    for key, value in found.items():
        table.add_row(key, ", ".join(value) if isinstance(value, list) else str(value))
    table.add_row("requests_in_flight", str(int(numbers["steadytext_requests_in_flight"]) - 1))
    console.print(table)
