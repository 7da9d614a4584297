"""The model catalogue: data about models, none of their code.

The catalogue that ships with the package (`catalogue.toml`) is read-only. What a machine adds to it (its own
files, digests learnt from a hub, other defaults) stands in `<model folder>/local.json`.
"""

from __future__ import annotations

import json
import os
import tempfile
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from importlib import resources
from pathlib import Path
from typing import Any, Literal, cast

from pg_steadytext.errors import InvalidArgument, ModelFailed, UnknownModel

Kind = Literal["generation", "embedding", "rerank"]
KINDS: tuple[Kind, ...] = ("generation", "embedding", "rerank")
LOCAL_FILE = "local.json"


@dataclass(frozen=True, slots=True)
class WheelSource:
    """A file inside a wheel on the Python package index."""

    distribution: str
    version: str
    path: str


@dataclass(frozen=True, slots=True)
class HubSource:
    """A file in a repository of a model hub."""

    repo: str
    filename: str


@dataclass(frozen=True, slots=True)
class ModelFile:
    """One file of a model; `source` None means that it was added by hand."""

    name: str
    sha256: str | None = None
    source: WheelSource | HubSource | None = None


@dataclass(frozen=True, slots=True)
class Model:
    """A catalogue entry. `dimensions` is set for embedding models, `context` is the window in tokens."""

    name: str
    kind: Kind
    engine: str
    context: int
    licence: str
    files: tuple[ModelFile, ...]
    aliases: tuple[str, ...] = ()
    dimensions: int | None = None
    pooling: str | None = None
    prefix: str = ""

    @property
    def weights(self) -> ModelFile:
        """The file that holds the model's weights."""
        return self.files[0]

    @property
    def repo(self) -> str | None:
        """The hub repository of the weights, if they come from one."""
        source = self.weights.source
        return source.repo if isinstance(source, HubSource) else None

    def folder(self, model_dir: Path) -> Path:
        """Where the model's files lie."""
        return model_dir / self.name

    def installed(self, model_dir: Path) -> bool:
        """Whether every file is there (their digests are checked when the model is loaded)."""
        return all((self.folder(model_dir) / file.name).is_file() for file in self.files)


@dataclass(slots=True)
class Catalogue:
    """Every model known on this machine, by name."""

    models: dict[str, Model]
    defaults: dict[str, str]
    model_dir: Path
    _names: dict[str, str] = field(init=False)

    def __post_init__(self) -> None:
        self._names = {name: name for name in self.models}
        for model in self.models.values():
            for alias in model.aliases:
                self._names.setdefault(alias, model.name)

    @classmethod
    def load(cls, model_dir: Path) -> Catalogue:
        """Read the shipped catalogue and this machine's additions. Raises ModelFailed for a damaged local.json."""
        shipped = tomllib.loads(resources.files(__package__).joinpath("catalogue.toml").read_text("utf-8"))
        models = {entry["name"]: _parse_model(entry) for entry in shipped["model"]}
        defaults = dict(shipped["defaults"])
        local = read_local(model_dir)
        for name, digests in local.get("digests", {}).items():
            if name in models:
                models[name] = _with_digests(models[name], digests)
        for entry in local.get("models", []):
            models[entry["name"]] = _parse_model(entry)
        defaults.update(local.get("defaults", {}))
        return cls(models, defaults, model_dir)

    def __iter__(self) -> Iterator[Model]:
        return iter(self.models.values())

    def find(self, name: str) -> Model:
        """The model of that name or alias. Raises UnknownModel."""
        try:
            return self.models[self._names[name]]
        except KeyError:
            raise UnknownModel(
                f'no model named "{name}" is in the catalogue',
                hint="pg-steadytext models list shows the names; pg-steadytext models add FILE adds one",
            ) from None

    def find_file(self, repo: str, filename: str) -> Model:
        """The model that a hub repository and a file name stand for. Raises UnknownModel."""
        for model in self:
            if model.repo == repo and model.weights.name == filename:
                return model
        raise UnknownModel(
            f'"{filename}" of "{repo}" is not in the catalogue',
            hint="an administrator can add its file with: pg-steadytext models add FILE",
        )

    def default(self, kind: Kind) -> Model:
        """The model used when a request names none. Raises UnknownModel where there is none of that kind."""
        if kind not in self.defaults:
            raise UnknownModel(f"no default {kind} model is set", hint="pg-steadytext models use NAME sets one")
        return self.find(self.defaults[kind])


def read_local(model_dir: Path) -> dict[str, Any]:
    """This machine's additions: {"models": [...], "digests": {...}, "defaults": {...}}, all optional."""
    path = model_dir / LOCAL_FILE
    try:
        found = json.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        return {}
    except ValueError as error:
        raise ModelFailed(f"{path} is not valid JSON: {error}", hint="repair the file or remove it") from error
    if not isinstance(found, dict):
        raise ModelFailed(f"{path} must hold a JSON object", hint="repair the file or remove it")
    return found


def _write_local(model_dir: Path, content: Mapping[str, Any]) -> None:
    model_dir.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=model_dir, prefix=LOCAL_FILE)
    with os.fdopen(handle, "w", encoding="utf-8") as file:
        json.dump(content, file, indent=2, sort_keys=True)
        file.write("\n")
    os.chmod(temporary, 0o644)
    os.replace(temporary, model_dir / LOCAL_FILE)


def record_digest(model_dir: Path, model: str, filename: str, sha256: str) -> None:
    """Remember the digest of a file that the shipped catalogue states none for."""
    local = read_local(model_dir)
    local.setdefault("digests", {}).setdefault(model, {})[filename] = sha256
    _write_local(model_dir, local)


def record_model(model_dir: Path, model: Model) -> None:
    """Add a model to this machine's catalogue, replacing an earlier addition of the same name."""
    local = read_local(model_dir)
    kept = [entry for entry in local.get("models", []) if entry["name"] != model.name]
    entry: dict[str, Any] = {
        "name": model.name,
        "kind": model.kind,
        "engine": model.engine,
        "context": model.context,
        "licence": model.licence,
        "aliases": list(model.aliases),
        "file": [{"name": file.name, "sha256": file.sha256} for file in model.files],
    }
    if model.dimensions is not None:
        entry["dimensions"] = model.dimensions
    if model.pooling is not None:
        entry["pooling"] = model.pooling
    local["models"] = [*kept, entry]
    _write_local(model_dir, local)


def record_default(model_dir: Path, model: Model) -> None:
    """Make `model` the one used when a request of its kind names none."""
    local = read_local(model_dir)
    local.setdefault("defaults", {})[model.kind] = model.name
    _write_local(model_dir, local)


def _with_digests(model: Model, digests: Mapping[str, str]) -> Model:
    files = tuple(replace(file, sha256=file.sha256 or digests.get(file.name)) for file in model.files)
    return replace(model, files=files)


def _parse_model(entry: Mapping[str, Any]) -> Model:
    if entry["kind"] not in KINDS:
        raise InvalidArgument(f'model "{entry["name"]}": kind must be one of {", ".join(KINDS)}')
    return Model(
        name=entry["name"],
        kind=cast(Kind, entry["kind"]),
        engine=entry["engine"],
        context=entry["context"],
        licence=entry["licence"],
        files=tuple(_parse_file(file) for file in entry["file"]),
        aliases=tuple(entry.get("aliases", ())),
        dimensions=entry.get("dimensions"),
        pooling=entry.get("pooling"),
        prefix=entry.get("prefix", ""),
    )


def _parse_file(entry: Mapping[str, Any]) -> ModelFile:
    source: WheelSource | HubSource | None = None
    if "wheel" in entry:
        source = WheelSource(**entry["wheel"])
    elif "hub" in entry:
        source = HubSource(repo=entry["hub"]["repo"], filename=entry["hub"].get("filename", entry["name"]))
    return ModelFile(entry["name"], entry.get("sha256"), source)
