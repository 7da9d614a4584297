"""Documents judged by a text model: how much likelier "yes" is than "no" as the first word of its answer.

The prompt is that of the Qwen3-Reranker models (https://huggingface.co/Qwen/Qwen3-Reranker-0.6B). They get it in their
own template, other models as a conversation by theirs. All of it up to the document is read once and kept in the
context (`llama_prefix`); the documents run over the slots that nobody else needs. The answers are weighed against each
other alone: a bias lifts them above the rest of the vocabulary, and their probabilities are taken after it.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from pg_steadytext.engines.llama import LlamaGenerator
from pg_steadytext.engines.llama_context import ChatContext
from pg_steadytext.engines.llama_errors import error_of
from pg_steadytext.engines.llama_prefix import Probe, Request, RequestFailed
from pg_steadytext.engines.protocol import Ranking, Stop
from pg_steadytext.errors import Cancelled, ModelFailed, SteadyTextError

SYSTEM = (
    "Judge whether the Document meets the requirements based on the Query and the Instruct provided. "
    'Note that the answer can only be "yes" or "no".'
)
OWN = (
    f"<|im_start|>system\n{SYSTEM}<|im_end|>\n<|im_start|>user\n",
    "<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n",
)
LIFT = 100.0
DOCUMENTS_A_CONTEXT = 4


class LogitsReranker:
    """Ranks with the contexts of a text model. `own_template` is for models that were trained with it."""

    def __init__(self, generator: LlamaGenerator, *, own_template: bool = False) -> None:
        self.name = generator.name
        self.digest = generator.digest
        self.context_length = generator.context_length
        self.slots = generator.slots
        self._generator = generator
        self._prompt = _own_prompt if own_template else _conversation
        yes, no = (("yes",), ("no",)) if own_template else (("yes", "Yes"), ("no", "No"))
        self._yes, self._no = self._tokens(yes), self._tokens(no)

    def _tokens(self, words: tuple[str, ...]) -> list[int]:
        spelled = [self._generator.vocabulary.spell(word) for word in words]
        found = [tokens[0] for tokens in spelled if len(tokens) == 1]
        if not found:
            raise ModelFailed(f'model "{self.name}" cannot rank documents: it has no token for "{words[0]}"')
        return found

    def rerank(self, ranking: Ranking, stop: Stop) -> list[float]:
        """One score in [0, 1] a document, in input order. Raises Cancelled, TextTooLong, ModelFailed."""
        probe = Probe(self._prompt(ranking, "."), self._prompt(ranking, "a"))
        run = _Run(self.name, ranking, probe, self._request, self._score, stop)
        pool = self._generator.pool
        helpers = min(pool.slots, pool.wide_threads, -(-run.left // DOCUMENTS_A_CONTEXT)) - 1
        with ThreadPoolExecutor(max(helpers, 1), thread_name_prefix=f"rerank-{self.name}") as threads:
            for _ in range(helpers):
                threads.submit(self._help, run)
            with pool.take(probe, wide=False) as context:
                run.work(context)
        return run.scores()

    def _help(self, run: _Run) -> None:
        pool = self._generator.pool
        with pool.spare(run.probe) as context:
            if context is not None:
                run.work(context, lambda: pool.crowded)

    def _request(self, ranking: Ranking, document: str) -> Request:
        answers = [*self._yes, *self._no]
        return {
            **self._prompt(ranking, document),
            "max_tokens": 1,
            "seed": 0,
            "logit_bias": [[token, LIFT] for token in answers],
            "samplers": ["top_k"],
            "top_k": len(answers),
            "repeat_penalty": 1.0,
            "n_probs": len(answers),
            "post_sampling_probs": True,
            "stream": True,
            "return_progress": True,
        }

    def _score(self, found: list[dict[str, Any]]) -> float:
        weights = {entry["id"]: float(entry["prob"]) for entry in found}
        yes = math.fsum(weights.get(token, 0.0) for token in self._yes)
        both = math.fsum([yes, *(weights.get(token, 0.0) for token in self._no)])
        if not both > 0:
            raise ModelFailed(f'model "{self.name}" answers neither yes nor no')
        return yes / both

    def close(self) -> None:
        """Free the model's contexts."""
        self._generator.close()


class _Run:
    """The documents of one ranking, each different one judged once, by whoever is free."""

    def __init__(
        self,
        model: str,
        ranking: Ranking,
        probe: Probe,
        request: Callable[[Ranking, str], Request],
        score: Callable[[list[dict[str, Any]]], float],
        stop: Stop,
    ) -> None:
        self._model = model
        self._ranking = ranking
        self._request = request
        self._score = score
        self._stop = stop
        self.probe = probe
        self._waiting = deque(dict.fromkeys(ranking.documents))
        self._found: dict[str, float | Exception] = {}

    @property
    def left(self) -> int:
        """How many documents nobody has taken."""
        return len(self._waiting)

    def work(self, context: ChatContext, leave: Stop = lambda: False) -> None:
        """Judge documents until none is left, one has failed, or `leave` says so."""
        while not leave():
            try:
                document = self._waiting.popleft()
            except IndexError:
                return
            try:
                self._found[document] = self._judge(context, document)
            except SteadyTextError as error:
                self._found[document] = error
                self._waiting.clear()

    def _judge(self, context: ChatContext, document: str) -> float:
        chunks: list[dict[str, Any]] = []

        def take(chunk: dict[str, Any]) -> bool:
            if chunk:
                chunks.append(chunk)
            return self._stop()

        try:
            context.complete(self._request(self._ranking, document), take, self.probe)
        except RequestFailed as failed:
            raise error_of(self._model, failed.error, "the query with its task") from None
        for chunk in chunks:
            if "error" in chunk:
                raise error_of(self._model, chunk["error"], f"{self._name(document)} with its query and task")
            for choice in chunk.get("choices", ()):
                if choice.get("logprobs"):
                    return self._score(choice["logprobs"]["content"][0]["top_probs"])
        if self._stop():
            raise Cancelled("the ranking was cancelled")
        raise ModelFailed(f'model "{self._model}" ended without an answer')

    def _name(self, document: str) -> str:
        return f"documents[{self._ranking.documents.index(document) + 1}]"

    def scores(self) -> list[float]:
        """One score a document, in input order. Raises what the first document failed with."""
        scores: list[float] = []
        for document in self._ranking.documents:
            found = self._found[document]
            if isinstance(found, Exception):
                raise found
            scores.append(found)
        return scores


def _instructed(ranking: Ranking, document: str) -> str:
    return f"<Instruct>: {ranking.task}\n<Query>: {ranking.query}\n<Document>: {document}"


def _own_prompt(ranking: Ranking, document: str) -> Request:
    before, after = OWN
    return {"prompt": f"{before}{_instructed(ranking, document)}{after}"}


def _conversation(ranking: Ranking, document: str) -> Request:
    return {
        "messages": [
            {"role": "system", "content": SYSTEM},
            {"role": "user", "content": _instructed(ranking, document)},
        ],
        "reasoning_format": "none",
        "chat_template_kwargs": {"enable_thinking": False},
    }
