"""The commands of ``pg-steadytext memory`` for a user's memories, over HTTP."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal
from uuid import UUID

import typer

from pg_steadytext.cli.console import console, error_console, speaks_plainly
from pg_steadytext.errors import InvalidArgument
from pg_steadytext.settings import Settings

if TYPE_CHECKING:
    from pg_steadytext.memory.client import Memory, MemoryClient
    from pg_steadytext.memory.client._types_more import ReminderFields

app = typer.Typer()

Url = Annotated[
    str | None,
    typer.Option(envvar="STEADYTEXT_MEMORY_URL", help="Where the service is; without it, this installation's"),
]
Key = Annotated[str | None, typer.Option(envvar="STEADYTEXT_MEMORY_KEY", help="The user's API key")]
Which = Annotated[str, typer.Argument(help="The memory's id")]
AsJson = Annotated[bool, typer.Option("--json", help="JSON, a memory a line.")]

LINE = 80
_CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


class Form(StrEnum):
    """How an export is written."""

    jsonl = "jsonl"
    markdown = "markdown"


def _client(url: str | None, key: str | None) -> MemoryClient:
    from pg_steadytext.memory.client import MemoryClient

    port = Settings.load().memory_port
    return MemoryClient(url or (f"http://127.0.0.1:{port}" if port is not None else None), key)


def _id(text: str) -> UUID:
    try:
        return UUID(text)
    except ValueError:
        raise InvalidArgument(f"{text!r} is no memory's id", hint="pg-steadytext memory list shows them.") from None


def _plain(value: object) -> str:
    return value.isoformat() if isinstance(value, datetime) else str(value)


def _line(memory: Memory) -> str:
    return json.dumps(asdict(memory), default=_plain, ensure_ascii=False)


def _say(text: str) -> None:
    console.print(text, markup=False, soft_wrap=True)


def _harmless(text: str) -> str:
    # What others wrote must not steer the terminal.
    return _CONTROLS.sub("\ufffd", text)


@app.command()
@speaks_plainly
def save(
    body: Annotated[str, typer.Argument(help="The text; - reads it from standard input")],
    title: Annotated[str | None, typer.Option()] = None,
    category: Annotated[str | None, typer.Option()] = None,
    tag: Annotated[list[str] | None, typer.Option(help="May be repeated")] = None,
    source: Annotated[str | None, typer.Option(help="Where it comes from")] = None,
    pinned: Annotated[bool, typer.Option("--pinned")] = False,
    force: Annotated[bool, typer.Option("--force", help="Save it although the same text is there.")] = False,
    url: Url = None, key: Key = None,
) -> None:  # fmt: skip
    """Save a memory and print its id; one of the same text keeps the id it has."""
    text = sys.stdin.read() if body == "-" else body
    with _client(url, key) as client:
        saved = client.save(
            text, title=title, category=category, tags=tag or [], source=source, pinned=pinned, force=force
        )
    _say(str(saved.id))


@app.command()
@speaks_plainly
def search(
    query: Annotated[str, typer.Argument(help="What is looked for; quotes and -word as in a web search")],
    limit: Annotated[int, typer.Option(min=1, max=100, help="How many at most")] = 10,
    mode: Annotated[
        Literal["hybrid", "semantic", "keyword"], typer.Option(help="By meaning and by words, or by one of them")
    ] = "hybrid",
    tag: Annotated[list[str] | None, typer.Option(help="May be repeated; any of them will do")] = None,
    category: Annotated[str | None, typer.Option()] = None,
    source: Annotated[str | None, typer.Option()] = None,
    as_json: AsJson = False, url: Url = None, key: Key = None,
) -> None:  # fmt: skip
    """Find memories, the best first; where meaning cannot be had, by words alone, and it says so."""
    with _client(url, key) as client:
        found = client.search(
            query, mode=mode, limit=limit, tag=tag or (), category=category, source=source, highlight=False
        )
    if found.degraded_because:
        error_console.print(f"by words alone: {found.degraded_because}", markup=False)
    for one in found.items:
        _say(_line(one.memory) if as_json else _shortly(one.memory))


@app.command()
@speaks_plainly
def remind(
    what: Annotated[str, typer.Argument(help="What to be reminded of")],
    when: Annotated[str, typer.Argument(help="A moment in words: tomorrow at 9")],
    rule: Annotated[str | None, typer.Option(help="Recur by a rule of RFC 5545: FREQ=WEEKLY;BYDAY=MO")] = None,
    memory: Annotated[str | None, typer.Option(help="The id of a memory that it is about")] = None,
    url: Url = None, key: Key = None,
) -> None:  # fmt: skip
    """Make a reminder, and print its id and what was understood."""
    more: ReminderFields = {"when": when}
    if rule:
        more["rrule"] = rule
    if memory:
        more["memory_id"] = _id(memory)
    with _client(url, key) as client:
        made = client.remind(what, **more)
    _say(f"{made.id}  {made.due_local} {made.time_zone}")


@app.command("list")
@speaks_plainly
def list_all(
    limit: Annotated[int, typer.Option(min=1, help="How many at most")] = 20,
    tag: Annotated[str | None, typer.Option()] = None,
    category: Annotated[str | None, typer.Option()] = None,
    trash: Annotated[bool, typer.Option("--trash", help="What is in the trash.")] = False,
    as_json: AsJson = False, url: Url = None, key: Key = None,
) -> None:  # fmt: skip
    """List memories, the newest first."""
    filters: dict[str, Any] = {"tag": tag, "category": category, "trash": trash}
    with _client(url, key) as client:
        for number, memory in enumerate(client.list(page_size=min(limit, 200), **filters)):
            if number == limit:
                break
            _say(_line(memory) if as_json else _shortly(memory))


def _shortly(memory: Memory) -> str:
    text = " ".join(memory.body.split())
    # A short text says more than a title, which a model may have made.
    shown = f"{memory.title}: {text}" if memory.title and len(text) > LINE else text
    tags = "".join(f" #{tag}" for tag in memory.tags)
    return _harmless(f"{memory.id}  {memory.created_at:%Y-%m-%d}  {shown[:LINE]}{tags}")


@app.command()
@speaks_plainly
def show(which: Which, as_json: AsJson = False, url: Url = None, key: Key = None) -> None:
    """Show a memory, also one in the trash."""
    with _client(url, key) as client:
        memory = client.get(_id(which), trash=True)
    if as_json:
        _say(_line(memory))
        return
    for name in ("title", "category", "tags", "source", "created_at", "updated_at", "expires_at", "deleted_at"):
        if value := getattr(memory, name):
            _say(_harmless(f"{name}: {', '.join(value) if isinstance(value, list) else _plain(value)}"))
    _say(_harmless(f"\n{memory.body}"))


@app.command()
@speaks_plainly
def delete(
    which: Which,
    permanent: Annotated[bool, typer.Option("--permanent", help="For good, and not to the trash.")] = False,
    url: Url = None, key: Key = None,
) -> None:  # fmt: skip
    """Put a memory into the trash, or delete it for good."""
    with _client(url, key) as client:
        client.delete(_id(which), permanent=permanent)


@app.command()
@speaks_plainly
def restore(which: Which, url: Url = None, key: Key = None) -> None:
    """Take a memory out of the trash."""
    with _client(url, key) as client:
        client.restore(_id(which))


@contextmanager
def _files() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise InvalidArgument(f"{error.filename}: {error.strerror}" if error.filename else str(error)) from error


@app.command("import")
@speaks_plainly
def import_all(
    file: Annotated[Path, typer.Argument(help="What the export wrote, or Markdown; - reads standard input")],
    form: Annotated[
        Form | None, typer.Option("--format", help="How it is written [default: by the name: .md is Markdown]")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Save texts that are there already, too.")] = False,
    url: Url = None, key: Key = None,
) -> None:  # fmt: skip
    """Import memories, all or none of them, and say how many were new."""
    is_markdown = form is Form.markdown if form else file.suffix.lower() in (".md", ".markdown")
    with _files():
        text = sys.stdin.buffer.read() if str(file) == "-" else file.read_bytes()
    with _client(url, key) as client:
        done = client.import_all(text, "markdown" if is_markdown else "jsonl", force=force)
    _say(f"{done.created} imported, {done.duplicates} there already")


@app.command()
@speaks_plainly
def export(
    form: Annotated[Form, typer.Option("--format", help="How it is written")] = Form.jsonl,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="A file [default: standard output]")] = None,
    url: Url = None, key: Key = None,
) -> None:  # fmt: skip
    """Write every memory that is not in the trash, in a form that the import reads."""
    with _client(url, key) as client, _files():
        pieces = client.export("markdown" if form is Form.markdown else "jsonl")
        if output is None:
            for piece in pieces:
                sys.stdout.write(piece)
            return
        # Asked first, so that a refusal leaves the file as it was.
        first = next(pieces, "")
        with output.open("w", encoding="utf-8") as file:
            file.write(first)
            file.writelines(pieces)
