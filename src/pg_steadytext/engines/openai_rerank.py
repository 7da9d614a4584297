"""Reranking by servers that offer /v1/rerank beside OpenAI's protocol (llama-server, vLLM, Jina, Cohere).

Most answer with probabilities, llama-server with a cross-encoder's logits; the providers file says which.
API: https://jina.ai/reranker/
"""

from __future__ import annotations

import math
from typing import Any

import httpx2

from pg_steadytext.engines.llama_cross_encoder import sigmoid
from pg_steadytext.engines.openai import REMOTE_DIGEST, error_of, unreachable
from pg_steadytext.engines.protocol import Ranking, Stop
from pg_steadytext.errors import Cancelled, ModelFailed


class OpenAiReranker:
    """A rerank model behind an endpoint. The task has no say: the protocol knows none."""

    digest = REMOTE_DIGEST

    def __init__(self, name: str, client: httpx2.Client, *, slots: int, logits: bool) -> None:
        self.name = name
        self.slots = slots
        self._model = name.partition(":")[2]
        self._client = client
        self._logits = logits

    def rerank(self, ranking: Ranking, stop: Stop) -> list[float]:
        """One score in [0, 1] a document, in input order, of one call. Raises what the server reports."""
        if stop():
            raise Cancelled("the ranking was cancelled")
        if not ranking.documents:
            return []
        body = {"model": self._model, "query": ranking.query, "documents": list(ranking.documents)}
        try:
            response = self._client.post("rerank", json=body)
        except httpx2.HTTPError as error:
            raise unreachable(self.name, error) from error
        if response.status_code != httpx2.codes.OK:
            raise error_of(self.name, response)
        return self._scores(response, len(ranking.documents))

    def _scores(self, response: httpx2.Response, count: int) -> list[float]:
        try:
            results: list[dict[str, Any]] = response.json()["results"]
            found = {int(entry["index"]): float(entry["relevance_score"]) for entry in results}
        except (ValueError, KeyError, TypeError) as error:
            raise ModelFailed(f'"{self.name}" answered something that is no ranking: {error!r}') from error
        if set(found) != set(range(count)) or not all(map(math.isfinite, found.values())):
            raise ModelFailed(f'"{self.name}" did not answer one score a document')
        scores = [sigmoid(found[place]) if self._logits else found[place] for place in range(count)]
        if not all(0 <= score <= 1 for score in scores):
            raise ModelFailed(
                f'"{self.name}" answered a score outside 0 and 1',
                hint='a server that answers with logits needs rerank_scores = "logits" in the providers file',
            )
        return scores

    def close(self) -> None:
        """Nothing to free: the client is shared."""
