"""Embeddings from GGUF files with llama.cpp.

Each text is computed alone in a context with one slot, so that its vector does not depend on a batch.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from pg_steadytext.engines.llama_context import LlamaContext
from pg_steadytext.engines.llama_errors import pooling_error_of
from pg_steadytext.engines.protocol import Vectors


class LlamaEmbedder:
    """An embedding model in a GGUF file. `dimensions` may be fewer than the model's own: the leading ones are kept."""

    def __init__(
        self,
        name: str,
        path: Path,
        digest: str,
        *,
        dimensions: int,
        context: int,
        pooling: str,
        prefix: str,
        threads: int,
        socket_dir: Path,
    ) -> None:
        self.name = name
        self.digest = digest
        self.dimensions = dimensions
        self.context_length = context
        self.useful_calls = 1
        self._prefix = prefix
        self._lock = threading.Lock()
        self._context = LlamaContext(path, context=context, threads=threads, socket_dir=socket_dir, pooling=pooling)

    def embed(self, texts: Sequence[str]) -> Vectors:
        """One unit-length float32 row a text, in input order. Raises TextTooLong, ModelFailed."""
        return np.stack([self._embed_one(self._prefix + text) for text in texts])

    def _embed_one(self, text: str) -> Vectors:
        with self._lock:
            answer = self._context.server.handle_embeddings({"input": text})
        if "error" in answer:
            raise pooling_error_of(self.name, self.context_length, answer["error"])
        vector = np.asarray(answer["data"][0]["embedding"], dtype=np.float64)[: self.dimensions]
        unit: Vectors = (vector / np.sqrt(np.square(vector).sum())).astype(np.float32)
        return unit

    def close(self) -> None:
        """Nothing to free: the context goes with the object."""
