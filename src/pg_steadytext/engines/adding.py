"""Adding a file of one's own to the catalogue of this machine."""

from __future__ import annotations

import re
from pathlib import Path

from pg_steadytext.engines.catalogue import Catalogue, Kind, Model, ModelFile, record_model
from pg_steadytext.engines.gguf import GgufHeader, read_header
from pg_steadytext.engines.sources import Progress, copy_in, no_progress
from pg_steadytext.engines.trial import RANK, trial_load
from pg_steadytext.errors import InvalidArgument

NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,62}")
MAX_CONTEXT = 32_768


def add_gguf(
    file: Path,
    model_dir: Path,
    *,
    name: str | None = None,
    kind: Kind = "generation",
    context: int | None = None,
    pooling: str | None = None,
    licence: str = "unknown",
    progress: Progress = no_progress,
) -> Model:
    """Check a GGUF file, load it on trial, copy it to the model folder and record it.

    Raises InvalidArgument for a wrong name or kind, ModelFailed for a file that does not work.
    """
    header = read_header(file)
    chosen = name or re.sub(r"[^a-z0-9._-]+", "-", file.stem.lower()).strip("-.")
    if not NAME.fullmatch(chosen):
        raise InvalidArgument(
            f'"{chosen}" cannot be a model name: lower-case letters, digits, dot, dash and underscore, at most 63',
            hint="give one with --name",
        )
    shipped = Catalogue.load(model_dir).models.get(chosen)
    if shipped is not None and shipped.weights.source is not None:
        raise InvalidArgument(f'"{chosen}" is a model of the shipped catalogue', hint="give another name with --name")
    if kind == "embedding" and pooling not in (None, "mean", "cls", "last"):
        raise InvalidArgument(f"pooling must be mean, cls or last, not {pooling}")
    trial_load(file, pooling=_pooling_on_trial(kind, header, pooling))
    target = model_dir / chosen / file.name
    model = Model(
        name=chosen,
        kind=kind,
        engine="llama",
        context=context or min(header.context_length or MAX_CONTEXT, MAX_CONTEXT),
        licence=licence,
        files=(ModelFile(file.name, copy_in(file, target, progress)),),
        dimensions=header.embedding_length if kind == "embedding" else None,
        pooling=(pooling or "mean") if kind == "embedding" else None,
    )
    record_model(model_dir, model)
    return model


def _pooling_on_trial(kind: Kind, header: GgufHeader, pooling: str | None) -> str | None:
    """How a file is tried: as an embedding model, as a cross-encoder, or as one that writes (None)."""
    if kind == "embedding":
        return pooling or "mean"
    return RANK if kind == "rerank" and header.is_encoder else None
