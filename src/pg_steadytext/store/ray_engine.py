"""The backfill of one table by Ray Data, for tables that one machine would take too long for.

A task reads a range of rows, an actor that holds the model embeds them, another task writes the vectors. Nothing but
ranges and vectors passes through Ray. A lost task or actor is run again: to embed a row twice does no harm.
"""

from __future__ import annotations

import logging
import os
import socket
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pg_steadytext.daemon.wire import vector_texts
from pg_steadytext.engines.registry import EngineOptions, ModelRegistry
from pg_steadytext.engines.text import check_text
from pg_steadytext.errors import InvalidArgument, ModelFailed, SteadyTextError
from pg_steadytext.settings import Settings
from pg_steadytext.store.ranges import Parameters, Range, Target, Ticket, read_range, write_range
from pg_steadytext.store.work import Row, failed

if TYPE_CHECKING:
    import pyarrow as pa

OBJECT_STORE_BYTES = 512 * 2**20
"""Of a Ray that is started for this alone: some ranges and their vectors at a time."""
CONNECT_SECONDS = 10.0
NOTED_EACH = 1.0
"""Least seconds between two notes of how far the backfill is."""

OnProgress = Callable[[int, int], None]
"""Called with the rows that are done and those that there are."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """Rows that were read, and vectors that were written."""

    rows: int
    written: int


def backfill(
    parameters: Parameters,
    table: str,
    destination: str | None = None,
    *,
    address: str | None = None,
    actors: int | None = None,
    range_rows: int = 1024,
    on_progress: OnProgress = lambda _done, _all: None,
) -> Outcome:
    """Embed what a declared table still lacks, on a Ray cluster: of an address, of RAY_ADDRESS, or one of its own.

    Raises InvalidArgument without Ray, psycopg.Error for what the database refuses, ModelFailed without a cluster or
    when Ray gives up.
    """
    ray = _ray()
    with Ticket(parameters, table, destination) as ticket:
        ranges = ticket.plan(range_rows)
        outcome = Outcome(0, 0)
        if ranges:
            with _cluster(ray, address, actors):
                try:
                    outcome = _run(ray, parameters, ticket, ranges, actors, on_progress)
                except ray.exceptions.RayError as error:
                    raise ModelFailed(f"Ray has given up: {_cause(error)}", hint="What is embedded stays.") from error
        ticket.complete()
    return outcome


def _ray() -> Any:
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")  # else it writes to this terminal; what fails is raised
    try:
        import ray
        import ray.data
    except ImportError as error:
        raise InvalidArgument(
            f"Ray is not installed here: {error}", hint="pip install 'pg-steadytext[ray]', here and on every node."
        ) from error
    return ray


class _cluster:  # noqa: N801 (used as a function is)
    """Ray within a block; left running where it ran before."""

    def __init__(self, ray: Any, address: str | None, actors: int | None) -> None:
        self._ray = ray
        self._address = address or os.environ.get("RAY_ADDRESS") or "local"
        self._actors = actors or len(os.sched_getaffinity(0))
        self._is_mine = False

    def __enter__(self) -> None:
        if self._ray.is_initialized():
            return
        _knock(self._address)
        own = {"num_cpus": self._actors, "include_dashboard": False, "object_store_memory": OBJECT_STORE_BYTES}
        logging.getLogger("ray.data").setLevel(logging.ERROR)
        try:
            self._ray.init(
                address=self._address,
                log_to_driver=False,
                logging_level=logging.ERROR,
                **(own if self._address == "local" else {}),
            )
        except (ConnectionError, RuntimeError, ValueError, self._ray.exceptions.RayError) as error:
            raise ModelFailed(
                f"no Ray cluster at {self._address}: {_cause(error)}",
                hint="Where it asks for a token: RAY_AUTH_MODE=token, and the token in ~/.ray/auth_token.",
            ) from error
        self._is_mine = True

    def __exit__(self, *_: object) -> None:
        if self._is_mine:
            self._ray.shutdown()


def _knock(address: str) -> None:
    """Find out at once what Ray finds out after minutes, and ends the process for: that nobody listens there."""
    host, _, port = address.rpartition("://")[2].rpartition(":")
    if not port.isdigit():
        return
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=CONNECT_SECONDS).close()
    except (OSError, OverflowError) as error:
        raise ModelFailed(
            f"no Ray cluster at {address}: {error}", hint="Its head listens on port 6379 unless told otherwise."
        ) from error


def _run(
    ray: Any, parameters: Parameters, ticket: Ticket, ranges: Sequence[Range], actors: int | None, told: OnProgress
) -> Outcome:
    left, done_to, noted = Counter[int](), 0, time.monotonic()
    rows = written = 0
    of = sum(one.rows for one in ranges)
    told(0, of)
    for ended in _ended(ray, parameters, ticket.target, ranges, actors or int(ray.cluster_resources()["CPU"])):
        rows, written = rows + ended["rows"], written + ended["written"]
        left[ended["range"]] += ended["of"] - ended["parts"] if ended["range"] not in left else -ended["parts"]
        first = done_to
        while done_to < len(ranges) and done_to in left and left[done_to] == 0:
            done_to += 1
        told(rows, max(of, rows))
        if done_to > first and time.monotonic() >= noted + NOTED_EACH:
            ticket.keep(ranges[done_to - 1].last)
            noted = time.monotonic()
    ticket.keep(ranges[done_to - 1].last if done_to else None)
    if done_to < len(ranges):
        raise ModelFailed(f"{len(ranges) - done_to} of {len(ranges)} ranges have not come back from Ray")
    return Outcome(rows, written)


def _ended(
    ray: Any, parameters: Parameters, target: Target, ranges: Sequence[Range], actors: int
) -> Iterator[dict[str, int]]:
    """What became of each range, in any order."""
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.execution_options.preserve_order = False
    items = [{"range": n, "after": one.after, "last": one.last} for n, one in enumerate(ranges)]
    # Readers and writers wait for the database and take no processor from the actors. One of each feeds several.
    batches: dict[str, Any] = {"batch_size": None, "batch_format": "pyarrow"}
    tasks: dict[str, Any] = {**batches, "num_cpus": 0, "compute": ray.data.TaskPoolStrategy(max(1, actors // 2))}
    pool = ray.data.ActorPoolStrategy(size=actors)
    data = (
        ray.data.from_items(items, override_num_blocks=len(items))
        .map_batches(read, fn_args=(parameters, target), **tasks)
        .map_batches(Embedding, fn_constructor_args=(target,), compute=pool, num_cpus=1, **batches)
        .map_batches(write, fn_args=(parameters, target), **tasks)
    )
    for table in data.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=0):
        yield from table.to_pylist()


def read(ranges: pa.Table, parameters: Parameters, target: Target) -> Iterator[pa.Table]:
    """The rows of some ranges. A row more, without a key, stands for a range in which there is nothing to do."""
    for one in ranges.to_pylist():
        rows = read_range(parameters, target, Range(one["after"], one["last"], 0))
        yield _table(
            [
                {"range": one["range"], "of": len(rows) + 1, "key": key, "text": text, "code": code, "error": error}
                for key, text, code, error in [*rows, (None, None, None, None)]
            ],
            ("key", "text", "code", "error"),
        )


class Embedding:
    """An actor: one loaded model of this node's catalogue."""

    def __init__(self, target: Target) -> None:
        self._target = target
        options = EngineOptions.for_machine(Path(tempfile.mkdtemp(prefix="steadytext-")), threads=1)
        registry = ModelRegistry(Settings.load().model_dir, options)
        self._model = registry.embedder(registry.resolve("embedding", target.model))
        if target.digest is not None and self._model.digest != target.digest:
            raise ModelFailed(
                f'model "{target.model}" of this node is not the one that the table was declared with',
                hint="Install the same files on every node.",
            )

    def __call__(self, given: pa.Table) -> pa.Table:
        """Digest and vector of each row, or what failed."""
        columns = given.to_pylist()
        kept = [one for one in columns if one["key"] is not None]
        rows = self._target.rows([(one["key"], one["text"], one["code"], one["error"]) for one in kept])
        self._embed([row for row in rows if row.waits])
        made = [
            {"range": one["range"], "of": one["of"], "key": row.key, "digest": row.digest, "vector": row.vector,
             "code": row.code, "error": row.error}
            for one, row in zip(kept, rows, strict=True)
        ]  # fmt: skip
        names = ("key", "digest", "vector", "code", "error")
        made += [{"range": one["range"], "of": one["of"]} for one in columns if one["key"] is None]
        return _table(made, names)

    def _embed(self, rows: Sequence[Row]) -> None:
        try:
            texts = [check_text(part, "text") for row in rows for part in row.cut()]
            vectors = iter(vector_texts(self._model.embed(texts)))
        except SteadyTextError as error:
            if len(rows) == 1:
                failed(rows, error.sqlstate, error.message)
            else:
                for row in rows:
                    self._embed([row])
            return
        for row in rows:
            row.take(list(islice(vectors, len(row.cut()))))


def write(made: pa.Table, parameters: Parameters, target: Target) -> pa.Table:
    """Write what was embedded; a row for each range tells how much of it this was."""
    import pyarrow as pa

    parts: dict[int, list[dict[str, Any]]] = {}
    for row in made.to_pylist():
        parts.setdefault(row["range"], []).append(row)
    ended = []
    for number, part in parts.items():
        rows = [row for row in part if row["key"] is not None]
        ended.append({
            "range": number, "of": part[0]["of"], "parts": len(part), "rows": len(rows),
            "written": write_range(parameters, target, rows),
        })  # fmt: skip
    return pa.Table.from_pylist(ended)


def _table(rows: Sequence[dict[str, Any]], texts: Sequence[str]) -> pa.Table:
    import pyarrow as pa

    fields = [("range", pa.int64()), ("of", pa.int64()), *((name, pa.large_string()) for name in texts)]
    return pa.Table.from_pylist(list(rows), schema=pa.schema(fields))


def _cause(error: BaseException) -> str:
    """The last line of what a task has met."""
    inner = getattr(error, "cause", None) or error
    inner = inner.__cause__ or inner
    return str(inner).strip().rpartition("\n")[2]
