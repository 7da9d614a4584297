"""``pg-steadytext up`` and ``down``: the whole installation, started and shown, stopped."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated

import typer

from pg_steadytext import __version__
from pg_steadytext.cli import demo
from pg_steadytext.cli.console import console, speaks_plainly, step
from pg_steadytext.cluster import control, launch, locks, ports
from pg_steadytext.cluster.account import Account
from pg_steadytext.cluster.home import Home
from pg_steadytext.cluster.installation import Installation
from pg_steadytext.daemon.client import DaemonClient
from pg_steadytext.errors import DaemonUnavailable, SteadyTextError
from pg_steadytext.settings import Settings, own_environment

DAEMON_SECONDS = 120.0
MEMORY_SECONDS = 60.0
POLL_SECONDS = 0.1
MOVE_DAEMON = "pg-steadytext up --daemon-port {}"
OTHER_BUILD = "DROP EXTENSION pg_steadytext CASCADE and make up make it anew, without what it held."
SEARCH_SHOWN = "SELECT body FROM steadytext_demo.notes ORDER BY embedding <=> steadytext_embed('{}') LIMIT 3;"


@speaks_plainly
def up(
    port: Annotated[int | None, typer.Option(min=1, max=65535, help="PostgreSQL's port.")] = None,
    daemon_port: Annotated[int | None, typer.Option(min=1, max=65535, help="The daemon's port.")] = None,
    memory_port: Annotated[int | None, typer.Option(min=1, max=65535, help="The memory service's port.")] = None,
    show: Annotated[bool, typer.Option("--demo/--no-demo", help="Show an answer and a search.")] = True,
) -> None:
    """Start PostgreSQL and the services, and show them working; what already runs is left as it is."""
    home, account = _home()
    home.create(account)
    with _in_turn(home, account):
        here = Installation.prepare(pg_port=port, daemon_port=daemon_port, memory_port=memory_port)
        _bring_up(here)
        if show:
            _show(here)
    _say_how_to_connect(here)


@speaks_plainly
def down() -> None:
    """Stop the services, the supervisor and PostgreSQL."""
    with _in_turn(*_home()):
        here = Installation.load()
        with step("supervisor and its services"):
            supervised = launch.stop(here.home)
        with step("PostgreSQL"):
            served = here.cluster.stop()
    console.print("stopped" if supervised or served else "nothing was running")


def _home() -> tuple[Home, Account]:
    return Home.at(Settings.load(own_environment()).home), Account.service()


@contextmanager
def _in_turn(home: Home, account: Account) -> Iterator[None]:
    """Be the only ``up`` or ``down`` at work in the home; say whom that waits for."""

    def tell(pid: int | None) -> None:
        who = "another pg-steadytext up or down" + (f" (pid {pid})" if pid else "")
        console.print(
            f"  {who} is at work in {home.root}; waiting until it is done, Ctrl-C leaves",
            markup=False,
            soft_wrap=True,
        )

    with locks.in_turn(home.lock, account, tell):
        yield


def _bring_up(here: Installation) -> None:
    with step(f"PostgreSQL {here.cluster.binaries.major} on port {here.cluster.port}"):
        if not here.cluster.start():
            here.cluster.reload()
    with step(f"database {here.database} with extension pg_steadytext"):
        here.ensure_database()
        version = here.ensure_extension()
        here.configure_database()
    if here.is_other_build(version):
        console.print(
            f"  note: the database was made from another build of version {version}; {OTHER_BUILD}", soft_wrap=True
        )
    if here.settings.memory_port is not None:
        with step("the memory service's schema"):
            _bring_memory_up(here)
    with step(f"supervisor, daemon on port {here.settings.daemon_port}, worker"):
        launch.start(here.home, here.account)
        if _wait_for_daemon(here) != __version__:
            for service in launch.service_commands(here.settings):
                control.ask(here.home.supervisor_socket, "restart", service)
            _wait_for_daemon(here)
        here.sync_models()
    if here.settings.memory_port is not None:
        with step(f"memory service at {here.memory_url}"):
            _wait_for_memory(here)


def _wait_for_daemon(here: Installation) -> str:
    """Wait until this installation's own daemon answers and return its version."""
    give_up = time.monotonic() + DAEMON_SECONDS
    with DaemonClient(here.settings.daemon_endpoint, connect_ms=500) as daemon:
        while True:
            try:
                told = daemon.status(timeout_ms=1000)
            except SteadyTextError as error:
                problem = error.message
            else:
                own = control.ask(here.home.supervisor_socket, "status")["services"]["daemon"]
                if own["pid"] == told.get("pid"):
                    return str(told.get("version"))
                problem = f"port {here.settings.daemon_port} is taken by another daemon, pid {told.get('pid')}"
                if own["restarts"]:
                    raise DaemonUnavailable(
                        problem, hint=f"Stop it, or choose another port: {MOVE_DAEMON.format(ports.choose(()))}"
                    )
            if time.monotonic() >= give_up:
                raise DaemonUnavailable(
                    f"the daemon did not answer within {DAEMON_SECONDS:.0f} s: {problem}",
                    hint=f"Its log is {here.home.log / 'daemon.log'}; pg-steadytext doctor looks for the cause.",
                )
            time.sleep(POLL_SECONDS)


def _show(here: Installation) -> None:
    with here.cluster.connect(here.database) as connection:
        answer = demo.answer(connection)
        demo.prepare(connection)
        found = demo.search(connection)
        index = demo.index_used(connection)
    console.print(f"\n[bold]SELECT steadytext_generate('{demo.PROMPT}');[/bold]")
    console.print(f"  {answer.rows[0].strip()}", style="cyan", markup=False)
    console.print(_times(answer))
    console.print(f"\n[bold]{SEARCH_SHOWN.format(demo.QUERY)}[/bold]", soft_wrap=True)
    for body in found.rows:
        console.print(f"  {body}", style="cyan", markup=False)
    console.print(f"{_times(found)}; plan: {index or 'without the index'}", soft_wrap=True)


def _times(shown: demo.Shown) -> str:
    return f"  by the model {shown.cold * 1000:,.1f} ms, from the cache {shown.cached * 1000:,.2f} ms"


def _bring_memory_up(here: Installation) -> None:
    from pg_steadytext.memory.storage.migrate import migrate

    with here.cluster.connect(here.database) as connection:
        migrate(connection)
    here.ensure_memory_login()


def _wait_for_memory(here: Installation) -> None:
    import httpx2

    give_up = time.monotonic() + MEMORY_SECONDS
    while True:
        try:
            httpx2.get(f"{here.memory_url}/healthz", timeout=2).raise_for_status()
        except httpx2.HTTPError as error:
            problem = error
        else:
            return
        if time.monotonic() >= give_up:
            raise DaemonUnavailable(
                f"the memory service did not answer within {MEMORY_SECONDS:.0f} s: {problem}",
                hint=f"Its log is {here.home.log / 'memory.log'}; another port: pg-steadytext up --memory-port N",
            )
        time.sleep(POLL_SECONDS)


def _say_how_to_connect(here: Installation) -> None:
    command = f"{launch.script()} env"
    console.print("\nConnect:", f'  eval "$({command})" && psql', sep="\n", markup=False, soft_wrap=True)
    if here.settings.memory_port is not None:
        console.print(f"  {here.memory_url}/docs", markup=False, soft_wrap=True)
