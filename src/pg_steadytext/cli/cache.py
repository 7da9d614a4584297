"""``pg-steadytext cache``: answers from SteadyText's own cache files, and back into them."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import islice
from pathlib import Path
from typing import Annotated, Any

import typer
from psycopg.types.json import Jsonb

from pg_steadytext import statements
from pg_steadytext.cli.console import console, error_console, speaks_plainly
from pg_steadytext.cli.queue_session import QueueSession, Row, plural, queue_session
from pg_steadytext.errors import InvalidArgument, ModelFailed, UnknownModel
from pg_steadytext.exchange import keys
from pg_steadytext.exchange.files import Entry, Reader, Refused, Writer

SQL = statements.load("pg_steadytext.cli", "sql/cache.sql")
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MICROSECOND = timedelta(microseconds=1)
BATCH = 100
OPERATIONS = {"generation": "generate", "embedding": "embed"}

app = typer.Typer(
    help="Exchange answers with SteadyText's own cache files; of the database that PG* or the home's settings name.",
    no_args_is_help=True,
)


@app.command(
    "import",
    epilog="Example: pg-steadytext cache import ~/.cache/steadytext/caches/generation_cache.db --model qwen3-4b",
)
@speaks_plainly
def import_file(
    file: Annotated[
        Path, typer.Argument(help="A SQLite file of SteadyText, or of cache export.", exists=True, dir_okay=False)
    ],
    model: Annotated[
        str | None, typer.Option(help="The model that made the answers; SteadyText's files do not know it.")
    ] = None,
    max_tokens: Annotated[
        int | None, typer.Option(min=1, help="The limit they were made with [default: default_max_tokens]")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="The seed they were made with.")] = 42,
    mode: Annotated[str, typer.Option(help="Which embeddings: those as query or as passage.")] = "query",
) -> None:
    """Add a file's answers to the cache, with their counts; what is there already stays as it is.

    No pickle is run: they are read as data, and what is neither text nor an array of numbers is refused. Exit status 1
    when something was refused.
    """
    if mode not in keys.MODES:
        raise InvalidArgument(f"--mode must be one of {', '.join(keys.MODES)}, not {mode}")
    done: Counter[str] = Counter()
    with queue_session() as session, session.connection.transaction():
        made = {"model": None if model is None else _weighed(session, model), "max_tokens": max_tokens, "seed": seed}
        rows = iter(Reader(file, mode))
        while batch := list(islice(rows, BATCH)):
            for label, outcome in _import_batch(session, batch, made):
                done[outcome if outcome in {"imported", "present"} else "refused"] += 1
                if outcome not in {"imported", "present"}:
                    error_console.print(f"refused: {label!r}: {outcome}", style="red", markup=False, soft_wrap=True)
    console.print(
        f"{plural(done['imported'], 'answer')} imported, {done['present']:,} there already, {done['refused']:,} refused"
    )
    if done["refused"]:
        raise typer.Exit(1)


def _find(session: QueueSession, model: str) -> Row:
    row = session.connection.execute(SQL["model"], {"model": model}).fetchone()
    if row is None:
        raise UnknownModel(f"there is no model {model}", hint="The models are the rows of steadytext_models.")
    return row


def _weighed(session: QueueSession, model: str) -> str:
    """Return the name of a model whose weights are known."""
    row = _find(session, model)
    if row["digest"] is None:
        raise ModelFailed(
            f"the weights of {row['name']} are not known, and they are part of an answer's key",
            hint="pg-steadytext models pull fetches them, steadytext_models_sync() makes them known.",
        )
    return str(row["name"])


def _import_batch(
    session: QueueSession, batch: list[Entry | Refused], made: dict[str, Any]
) -> Iterator[tuple[str, str]]:
    """Import what can be, and yield each row's label with what became of it."""
    entries = [row for row in batch if isinstance(row, Entry)]
    wanted = [_as_json(entry, made) for entry in entries]
    outcomes = session.connection.execute(SQL["import"], {"entries": Jsonb(wanted)}).fetchall()
    for refused in batch:
        if isinstance(refused, Refused):
            yield refused.label, refused.reason
    for entry, row in zip(entries, outcomes, strict=True):
        yield entry.label, row["outcome"]


def _as_json(entry: Entry, made: dict[str, Any]) -> dict[str, Any]:
    if entry.params is None and made["model"] is None:
        raise InvalidArgument(
            f"the file does not say which {entry.kind} model made its answers",
            hint="--model NAME names it; the models are the rows of steadytext_models.",
        )
    return {
        **made,
        "prompt": entry.prompt,
        "response": entry.response,
        "embedding": entry.embedding and [json.loads(f"{number:.9g}") for number in entry.embedding],
        "eos_string": entry.eos_string,
        "temperature": entry.temperature,
        "params": entry.params,
        "access_count": entry.access_count,
        "last_accessed": _moment(entry.last_accessed),
        "created_at": None if entry.created_at is None else _moment(entry.created_at),
        "took_ms": entry.took_ms,
        "is_foreign": entry.is_foreign,
    }


def _moment(microseconds: int) -> str:
    return (EPOCH + microseconds * MICROSECOND).isoformat()


@app.command("export", epilog="Example: pg-steadytext cache export generation_cache.db")
@speaks_plainly
def export_file(
    file: Annotated[Path, typer.Argument(help="The file to write; it must not exist.")],
    kind: Annotated[str, typer.Option(help=" or ".join(OPERATIONS))] = "generation",
    model: Annotated[
        str | None, typer.Option(help="Whose answers SteadyText is to find [default: the default model of the kind]")
    ] = None,
) -> None:
    """Write the cache's texts, or its embeddings, to a file that SteadyText opens and cache import takes back whole.

    SteadyText finds the answers of one model that no constraint was put on; the file keeps the others beside them.
    """
    if kind not in OPERATIONS:
        raise InvalidArgument(f"--kind must be one of {', '.join(OPERATIONS)}, not {kind}")
    with queue_session() as session:
        chosen = model or session.connection.execute(SQL["default_model"], {"kind": kind}).fetchall()[0]["name"]
        wanted = {"operation": OPERATIONS[kind], "model": _find(session, chosen)["name"]}
        writer = Writer(file)
        number = 0
        try:
            with session.connection.transaction(), session.connection.cursor("cache_export") as rows:
                rows.execute(SQL["export"], wanted)
                for row in rows:
                    entry = _entry(row)
                    writer.add(entry, _stock_key(entry) if row["stock"] else None)
                    number += 1
        except BaseException:
            file.unlink()
            raise
        finally:
            writer.close()
    console.print(f"{plural(number, 'answer')} exported to {file}", markup=False, soft_wrap=True)


def _entry(row: Row) -> Entry:
    return Entry(
        row["prompt"][:60],
        row["prompt"],
        row["access_count"],
        (row["last_accessed"] - EPOCH) // MICROSECOND,
        response=row["response"],
        embedding=row["embedding"] and tuple(json.loads(row["embedding"])),
        eos_string=row["eos_string"] or keys.NO_END,
        temperature=row["temperature"],
        params=row["params"],
        created_at=(row["created_at"] - EPOCH) // MICROSECOND,
        took_ms=row["took_ms"],
        is_foreign=row["is_foreign"],
    )


def _stock_key(entry: Entry) -> str:
    if entry.kind == "embedding":
        return keys.embedding_key(entry.prompt)
    return keys.Generation(entry.prompt, entry.eos_string, entry.temperature).key()
