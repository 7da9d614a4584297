"""Cross-encoders in GGUF files with llama.cpp: a query and a document go in together, one number comes out.

Each document is computed alone in a context with one slot, so that its score does not depend on a batch. The number is
a logit; its sigmoid is the score.
"""

from __future__ import annotations

import math
import threading
from pathlib import Path

from pg_steadytext.engines.llama_context import LlamaContext
from pg_steadytext.engines.llama_errors import pooling_error_of
from pg_steadytext.engines.protocol import Ranking, Stop
from pg_steadytext.errors import Cancelled

POOLING = "rank"


class CrossEncoder:
    """A cross-encoder in a GGUF file. The task has no say: the model knows one."""

    slots = 1

    def __init__(self, name: str, path: Path, digest: str, *, context: int, threads: int, socket_dir: Path) -> None:
        self.name = name
        self.digest = digest
        self.context_length = context
        self._lock = threading.Lock()
        self._context = LlamaContext(path, context=context, threads=threads, socket_dir=socket_dir, pooling=POOLING)

    def rerank(self, ranking: Ranking, stop: Stop) -> list[float]:
        """One score in [0, 1] a document, in input order. Raises Cancelled, TextTooLong, ModelFailed."""
        found: dict[str, float] = {}
        with self._lock:
            for place, document in enumerate(ranking.documents):
                if stop():
                    raise Cancelled("the ranking was cancelled")
                if document not in found:
                    found[document] = self._score(ranking.query, document, place)
        return [found[document] for document in ranking.documents]

    def _score(self, query: str, document: str, place: int) -> float:
        answer = self._context.server.handle_rerank({"query": query, "documents": [document]})
        if "error" in answer:
            what = f"documents[{place + 1}] with its query"
            raise pooling_error_of(self.name, self.context_length, answer["error"], what)
        return sigmoid(float(answer["results"][0]["relevance_score"]))

    def close(self) -> None:
        """Nothing to free: the context goes with the object."""


def sigmoid(logit: float) -> float:
    """1 / (1 + exp(-logit)), for any logit."""
    return 1 / (1 + math.exp(-logit)) if logit >= 0 else math.exp(logit) / (1 + math.exp(logit))
