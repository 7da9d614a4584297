"""``pg-steadytext memory``: run the memory service, bring its schema up, make users and keys, and use it."""

from __future__ import annotations

import logging
from typing import Annotated

import psycopg
import typer

from pg_steadytext.cli import memory_notes
from pg_steadytext.cli.console import console, speaks_plainly
from pg_steadytext.errors import NotFound
from pg_steadytext.settings import Settings

app = typer.Typer(help="Run the memory service; make its users and keys; save and read memories.", no_args_is_help=True)
user_app = typer.Typer(help="The service's users.", no_args_is_help=True)
key_app = typer.Typer(help="The users' API keys.", no_args_is_help=True)
app.add_typer(user_app, name="user")
app.add_typer(key_app, name="key")
app.add_typer(memory_notes.app)


def _connect() -> psycopg.Connection:
    settings = Settings.load()
    return psycopg.connect(
        host=settings.pg_host, port=settings.pg_port, dbname=settings.pg_database, user=settings.pg_user,
        application_name="pg-steadytext memory", autocommit=True, connect_timeout=10, client_encoding="UTF8",
    )  # fmt: skip


@app.command()
@speaks_plainly
def mcp() -> None:
    """Speak the Model Context Protocol on standard input and output, for the user of STEADYTEXT_MEMORY_KEY."""
    from pg_steadytext.memory.client import MemoryClient

    try:
        from pg_steadytext.memory.mcp import create
    except ModuleNotFoundError as error:
        raise NotFound(f"{error.name} is not installed", hint="pip install 'pg-steadytext[mcp]'") from error
    # Said at once, and not first by a host that wonders why the server is gone.
    MemoryClient().close()
    create().run("stdio")


@app.command()
@speaks_plainly
def serve(
    host: Annotated[str | None, typer.Option(help="Address to listen on [default: 127.0.0.1]")] = None,
    port: Annotated[int | None, typer.Option(min=0, max=65535, help="Port, 0 for a free one [default: 8765]")] = None,
    workers: Annotated[int | None, typer.Option(min=1, max=64, help="Processes that share the port")] = None,
    migrate_first: Annotated[bool, typer.Option("--migrate", help="Bring the schema up first.")] = False,
) -> None:
    """Serve the HTTP API in the foreground, for the database that PG* or the home's settings name."""
    from pg_steadytext.memory import serve as server
    from pg_steadytext.memory.settings import MemorySettings
    from pg_steadytext.memory.storage.migrate import migrate as bring_up

    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s [%(process)d] %(message)s")
    settings = MemorySettings.load(host=host, port=port, workers=workers)
    if migrate_first:
        with _connect() as connection:
            bring_up(connection)
    server.run(settings)


@app.command()
@speaks_plainly
def migrate() -> None:
    """Bring the schema up to this version; repeat it as often as you like."""
    from pg_steadytext.memory.storage.migrate import migrate as bring_up

    with _connect() as connection:
        for migration in bring_up(connection):
            console.print(f"{migration.number:03} {migration.name}")
    console.print("the schema is up to date")


@user_app.command("add")
@speaks_plainly
def add_user(
    email: Annotated[str, typer.Argument(help="The user's e-mail address")],
    name: Annotated[str | None, typer.Option(help="What the user is called [default: the address]")] = None,
    password: Annotated[bool, typer.Option("--password", help="Ask for a password; else only keys work.")] = False,
    admin: Annotated[bool, typer.Option("--admin", help="An administrator.")] = False,
    plan: Annotated[str, typer.Option(help="free, pro or team")] = "free",
) -> None:
    """Make an account."""
    from pg_steadytext.memory import accounts

    secret = typer.prompt("Password", hide_input=True, confirmation_prompt=True) if password else None
    with _connect() as connection:
        entry = accounts.add_user(connection, email, name or email, secret, is_admin=admin, plan=plan)
    console.print(str(entry))


@key_app.command("create")
@speaks_plainly
def create_key(
    email: Annotated[str, typer.Argument(help="Whose key it is")],
    name: Annotated[str, typer.Option(help="What the key is for")] = "command line",
    scopes: Annotated[str, typer.Option(help="With commas between")] = "memories:read,memories:write",
) -> None:
    """Make an API key and print its secret, which is shown this once."""
    from pg_steadytext.memory import accounts

    with _connect() as connection:
        secret = accounts.add_key(connection, email, name, [scope.strip() for scope in scopes.split(",")])
    console.print(secret, markup=False, soft_wrap=True)
