"""``pg-steadytext models``: see, fetch, check and add the models of this machine."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.progress import BarColumn, DownloadColumn, Progress, TaskID, TextColumn, TransferSpeedColumn
from rich.table import Column, Table

from pg_steadytext.cli.console import console, speaks_plainly
from pg_steadytext.engines.adding import add_gguf
from pg_steadytext.engines.catalogue import KINDS, Catalogue, Kind, Model, record_default
from pg_steadytext.engines.digests import verify as verify_model
from pg_steadytext.engines.sources import pull as pull_model
from pg_steadytext.errors import InvalidArgument, ModelFailed, SteadyTextError
from pg_steadytext.settings import Settings

app = typer.Typer(help="See, fetch, check and add models.", no_args_is_help=True)


def _catalogue() -> Catalogue:
    return Catalogue.load(Settings.load().model_dir)


@app.command("list")
@speaks_plainly
def list_models(
    installed: Annotated[bool, typer.Option("--installed", help="Only those that are on this machine")] = False,
) -> None:
    """List the catalogue: what each model is for, its size and licence, and whether it is here."""
    catalogue = _catalogue()
    table = Table(
        Column("name", no_wrap=True), "aliases", "kind", "dimensions", "context", "licence", "here", "default", box=None
    )
    for model in catalogue:
        here = model.installed(catalogue.model_dir)
        if here or not installed:
            table.add_row(
                model.name,
                ", ".join(model.aliases),
                model.kind,
                str(model.dimensions or ""),
                str(model.context),
                model.licence,
                "yes" if here else "",
                "yes" if catalogue.defaults.get(model.kind) == model.name else "",
            )
    console.print(table)


@app.command()
@speaks_plainly
def pull(
    names: Annotated[list[str] | None, typer.Argument(help="Names or aliases [default: the default models]")] = None,
) -> None:
    """Fetch models and check their digests; files that are here and right are kept."""
    catalogue = _catalogue()
    for model in [catalogue.find(name) for name in names] if names else _defaults(catalogue):
        digest = _pull_with_progress(model, catalogue.model_dir)
        console.print(f"{model.name} {digest}", soft_wrap=True)


def _defaults(catalogue: Catalogue) -> list[Model]:
    return [catalogue.default(kind) for kind in KINDS if kind in catalogue.defaults]


def _pull_with_progress(model: Model, model_dir: Path) -> str:
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Progress(*columns, console=console, transient=True) as bars:
        tasks: dict[str, TaskID] = {}

        def show(name: str, done: int, total: int | None) -> None:
            if name not in tasks:
                tasks[name] = bars.add_task(f"{model.name}/{name}", total=total)
            bars.update(tasks[name], completed=done, total=total)

        return pull_model(model, model_dir, show)


@app.command()
@speaks_plainly
def verify(
    names: Annotated[list[str] | None, typer.Argument(help="Names or aliases [default: all that are here]")] = None,
) -> None:
    """Read the model files and compare their digests with the catalogue; exit status 1 if one differs."""
    catalogue = _catalogue()
    models = (
        [catalogue.find(name) for name in names]
        if names
        else [model for model in catalogue if model.installed(catalogue.model_dir)]
    )
    if not models:
        raise ModelFailed(f"there is no model in {catalogue.model_dir}", hint="pg-steadytext models pull")
    wrong = 0
    for model in models:
        try:
            console.print(f"{model.name} ok {verify_model(model, catalogue.model_dir, rehash=True)}", soft_wrap=True)
        except SteadyTextError as error:
            wrong += 1
            console.print(f"{model.name} WRONG: {error.message}", style="red", markup=False, soft_wrap=True)
    if wrong:
        raise typer.Exit(1)


@app.command()
@speaks_plainly
def add(
    file: Annotated[Path, typer.Argument(help="A GGUF file", exists=True, dir_okay=False)],
    name: Annotated[str | None, typer.Option(help="The model's name [default: from the file's name]")] = None,
    kind: Annotated[str, typer.Option(help="generation, embedding or rerank")] = "generation",
    context: Annotated[
        int | None, typer.Option(min=1, help="Window in tokens [default: the model's own, 32768 at most]")
    ] = None,
    pooling: Annotated[str | None, typer.Option(help="For embedding models: mean, cls or last")] = None,
    licence: Annotated[str, typer.Option(help="The model's licence, for the record")] = "unknown",
) -> None:
    """Add a file of your own to this machine's catalogue: it is checked, loaded once on trial, and copied."""
    if kind not in KINDS:
        raise InvalidArgument(f"kind must be one of {', '.join(KINDS)}, not {kind}")
    chosen: Kind = next(known for known in KINDS if known == kind)
    model = add_gguf(
        file, Settings.load().model_dir, name=name, kind=chosen, context=context, pooling=pooling, licence=licence
    )
    console.print(f"{model.name} {model.weights.sha256}", soft_wrap=True)


@app.command()
@speaks_plainly
def use(name: Annotated[str, typer.Argument(help="Name or alias of a model that is here")]) -> None:
    """Make a model the default of its kind; a running daemon uses it from its next request on."""
    catalogue = _catalogue()
    model = catalogue.find(name)
    verify_model(model, catalogue.model_dir)
    record_default(catalogue.model_dir, model)
    console.print(f"{model.name} is now the default {model.kind} model")
