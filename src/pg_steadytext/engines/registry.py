"""The models of this machine, each verified and loaded once, when first asked for."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pg_steadytext.engines.catalogue import LOCAL_FILE, Catalogue, Kind, Model
from pg_steadytext.engines.digests import stated_digest, verify
from pg_steadytext.engines.protocol import Embedder, Generator, Reranker
from pg_steadytext.errors import InvalidArgument, ModelFailed

Loaded = Generator | Embedder | Reranker
OnLoad = Callable[[str, float], None]
"""Called with a model's name and the seconds its loading took."""


@dataclass(frozen=True, slots=True)
class EngineOptions:
    """How engines use the machine; none of it changes a result. `memory` bounds the contexts of one model, in bytes."""

    threads: int
    slots: int
    memory: int
    socket_dir: Path

    @classmethod
    def for_machine(cls, socket_dir: Path, *, threads: int | None = None, slots: int | None = None) -> EngineOptions:
        """Options for the processors and memory that this process may use."""
        cores = threads or len(os.sched_getaffinity(0))
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
        return cls(cores, slots or min(max(2 * cores, 2), 8), memory // 4, socket_dir)


def _unnoticed(_name: str, _seconds: float) -> None:
    """An OnLoad that does nothing."""


class ModelRegistry:
    """Hands out loaded models by name. Safe to call from any thread; loading blocks the callers of that model only."""

    def __init__(self, model_dir: Path, options: EngineOptions, on_load: OnLoad = _unnoticed) -> None:
        self.model_dir = model_dir
        self._options = options
        self._on_load = on_load
        self._lock = threading.Lock()
        self._loading: dict[str, threading.Lock] = {}
        self._loaded: dict[str, Loaded] = {}
        self._rerankers: dict[str, Reranker] = {}
        self._catalogue: Catalogue | None = None
        self._catalogue_stamp: object = None

    @property
    def catalogue(self) -> Catalogue:
        """The catalogue, read again when this machine's additions have changed."""
        stamp = _stamp(self.model_dir / LOCAL_FILE)
        with self._lock:
            if self._catalogue is None or stamp != self._catalogue_stamp:
                self._catalogue = Catalogue.load(self.model_dir)
                self._catalogue_stamp = stamp
            return self._catalogue

    def resolve(self, kind: Kind, name: str | None) -> Model:
        """The entry for a name or alias, or the default of that kind. Raises UnknownModel, InvalidArgument."""
        if name is None:
            return self.catalogue.default(kind)
        model = self.catalogue.find(name)
        if model.kind != kind:
            raise InvalidArgument(f'model "{model.name}" is for {model.kind}, not for {kind}')
        return model

    def ranking_model(self, name: str | None) -> Model:
        """The entry for a name or alias, of any kind; without one the default to rerank by. Raises UnknownModel."""
        catalogue = self.catalogue
        if name is not None:
            return catalogue.find(name)
        return catalogue.default("rerank" if "rerank" in catalogue.defaults else "embedding")

    def loaded(self, name: str) -> Loaded | None:
        """The model of that catalogue name if it is loaded."""
        return self._loaded.get(name)

    def generator(self, model: Model) -> Generator:
        """The loaded text model. Raises ModelFailed."""
        found = self._get(model)
        if not isinstance(found, Generator):
            raise InvalidArgument(f'model "{model.name}" does not generate text')
        return found

    def embedder(self, model: Model) -> Embedder:
        """The loaded embedding model. Raises ModelFailed."""
        found = self._get(model)
        if not isinstance(found, Embedder):
            raise InvalidArgument(f'model "{model.name}" does not make embeddings')
        return found

    def reranker(self, model: Model) -> Reranker:
        """The loaded rerank model, or a text model that judges by its answers. Raises InvalidArgument, ModelFailed."""
        found = self._get(model)
        if isinstance(found, Reranker):
            return found
        from pg_steadytext.engines.llama import LlamaGenerator
        from pg_steadytext.engines.llama_rerank import LogitsReranker

        if not isinstance(found, LlamaGenerator):
            raise InvalidArgument(f'model "{model.name}" does not rank documents')
        return self._rerankers.setdefault(model.name, LogitsReranker(found))

    def describe(self) -> list[dict[str, Any]]:
        """What the catalogue holds and what of it is here, as plain data."""
        catalogue = self.catalogue
        return [self._describe(model, catalogue) for model in catalogue]

    def _describe(self, model: Model, catalogue: Catalogue) -> dict[str, Any]:
        loaded = self._loaded.get(model.name)
        return {
            "name": model.name,
            "aliases": list(model.aliases),
            "kind": model.kind,
            "digest": loaded.digest if loaded else stated_digest(model),
            "dimensions": model.dimensions,
            "context_length": model.context,
            "licence": model.licence,
            "repo": model.repo,
            "filename": model.weights.name,
            "installed": model.installed(self.model_dir),
            "loaded": loaded is not None,
            "default": catalogue.defaults.get(model.kind) == model.name,
        }

    def _get(self, model: Model) -> Loaded:
        found = self._loaded.get(model.name)
        if found is not None:
            return found
        with self._lock:
            loading = self._loading.setdefault(model.name, threading.Lock())
        with loading:
            found = self._loaded.get(model.name)
            if found is None:
                started = time.monotonic()
                found = self._loaded[model.name] = self._load(model)
                self._on_load(model.name, time.monotonic() - started)
        return found

    def _load(self, model: Model) -> Loaded:
        digest = verify(model, self.model_dir)
        folder = model.folder(self.model_dir)
        if model.engine == "minilm":
            from pg_steadytext.engines.minilm import MiniLm

            return MiniLm(
                model.name,
                folder,
                digest,
                dimensions=model.dimensions or 384,
                context=model.context,
                threads=self._options.threads,
            )
        if model.engine == "llama":
            return self._load_llama(model, folder / model.weights.name, digest)
        raise ModelFailed(f'model "{model.name}" needs the engine "{model.engine}", which this version has not')

    def _load_llama(self, model: Model, path: Path, digest: str) -> Loaded:
        from pg_steadytext.engines.gguf import read_header
        from pg_steadytext.engines.llama import LlamaGenerator
        from pg_steadytext.engines.llama_cross_encoder import CrossEncoder
        from pg_steadytext.engines.llama_embedding import LlamaEmbedder
        from pg_steadytext.engines.llama_rerank import LogitsReranker

        header = read_header(path)
        context = min(model.context, header.context_length or model.context)
        slots = max(1, min(self._options.slots, self._options.memory // max(1, header.cache_bytes(context)) - 1))
        if model.kind == "embedding":
            return LlamaEmbedder(
                model.name,
                path,
                digest,
                dimensions=model.dimensions or header.embedding_length,
                context=context,
                pooling=model.pooling or "mean",
                prefix=model.prefix,
                threads=self._options.threads,
                socket_dir=self._options.socket_dir,
            )
        options = self._options
        shared: dict[str, Any] = {"context": context, "threads": options.threads, "socket_dir": options.socket_dir}
        if model.kind == "rerank" and header.is_encoder:
            return CrossEncoder(model.name, path, digest, **shared)
        generator = LlamaGenerator(model.name, path, digest, slots=slots, **shared)
        return LogitsReranker(generator, own_template=True) if model.kind == "rerank" else generator

    def close(self) -> None:
        """Free every model."""
        with self._lock:
            models, self._loaded, self._rerankers = list(self._loaded.values()), {}, {}
        for model in models:
            model.close()


def _stamp(path: Path) -> object:
    try:
        status = path.stat()
    except FileNotFoundError:
        return None
    return (status.st_mtime_ns, status.st_size, status.st_ino)
