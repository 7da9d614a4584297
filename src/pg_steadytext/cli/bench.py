"""``pg-steadytext bench``: every benchmark of the checkout, one table."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from pg_steadytext.cli.console import console, speaks_plainly
from pg_steadytext.cluster.installation import Installation
from pg_steadytext.errors import DaemonUnavailable, InvalidArgument

COLUMNS = ("benchmark", "claim", "unit", "ours", "peer", "ratio", "low", "high", "target", "met")


@speaks_plainly
def bench(
    names: Annotated[list[str] | None, typer.Argument(help="Benchmarks to run; all when none is named.")] = None,
    folder: Annotated[Path, typer.Option(help="Where the benchmarks are.")] = Path("bench"),
    out: Annotated[Path | None, typer.Option(help="Also write the rows here, one JSON object a line.")] = None,
) -> None:
    """Run the benchmarks against the running installation; exit status 1 when one fails or misses its target."""
    here = Installation.load()
    if here.cluster.pid() is None:
        raise DaemonUnavailable("the benchmarks need a running installation", hint="Run make up.")
    rows: list[dict[str, Any]] = []
    failed = []
    environment = {**os.environ, **here.client_environment()}
    for script in _choose(folder, names or []):
        console.rule(script.stem)
        began = time.monotonic()
        with tempfile.NamedTemporaryFile(suffix=".jsonl") as written:
            done = subprocess.run([sys.executable, script], env={**environment, "BENCH_OUT": written.name}, check=False)
            rows += [{"benchmark": script.stem, **json.loads(line)} for line in written.read().splitlines()]
        if done.returncode != 0:
            failed.append(script.stem)
        console.print(f"{script.stem}: {time.monotonic() - began:.0f} s")
    _show(rows)
    if out is not None:
        out.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    if failed:
        console.print(f"failed: {', '.join(failed)}", style="red")
    if failed or not all(_met(row) for row in rows):
        raise typer.Exit(1)


def _choose(folder: Path, names: list[str]) -> list[Path]:
    """Return the scripts that report rows; modules the others import have no main part."""
    scripts = {
        path.stem: path for path in sorted(folder.glob("*.py")) if "__main__" in path.read_text(encoding="utf-8")
    }
    if unknown := set(names) - set(scripts):
        raise InvalidArgument(
            f"no benchmark {', '.join(sorted(unknown))} in {folder}", hint=f"There are: {', '.join(scripts)}."
        )
    return [path for name, path in scripts.items() if not names or name in names]


def _met(row: dict[str, Any]) -> bool:
    sign, bound = row["target"].split()
    return bool(row["ratio"] >= float(bound) if sign == ">=" else row["ratio"] <= float(bound))


def _show(rows: list[dict[str, Any]]) -> None:
    table = Table(*COLUMNS, header_style="bold")
    for row in rows:
        cells = [*(row[column] for column in COLUMNS[:-1]), "yes" if _met(row) else "NO"]
        table.add_row(*(f"{cell:.4g}" if isinstance(cell, float) else str(cell) for cell in cells))
    console.print(table)
