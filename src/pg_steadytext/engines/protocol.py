"""What the daemon asks of an engine.

Engines block; the daemon calls them from threads. A generator runs at most `slots` completions at a time and
promises that the text of a request does not depend on what else runs beside it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from pg_steadytext.engines.constraints.constraint import Constraint

FinishReason = Literal["stop", "length"]
Vectors = NDArray[np.float32]

OnPiece = Callable[[str], bool]
"""Called with each new piece of text (empty while the prompt is still being read); True stops the model."""


@dataclass(frozen=True, slots=True)
class Prompt:
    """Everything that decides the text of a completion, besides the model itself.

    `stop` ends the text and is not part of it; None means that only the model's own end does.
    `temperature` 0 is greedy. `thinking` lets models that can reason aloud do so.
    `constraint` is what the text must satisfy; an engine answers with such a text or raises.
    `prefix` comes before `text`: a beginning that many prompts share, which an engine may keep.
    `crowd` says that others like it run beside it; it decides how fast an answer comes, never which.
    """

    text: str
    max_tokens: int = 512
    seed: int = 42
    temperature: float = 0.0
    stop: str | None = None
    thinking: bool = False
    logprobs: bool = False
    constraint: Constraint | None = None
    prefix: str = ""
    crowd: bool = field(default=False, compare=False)

    @property
    def content(self) -> str:
        """All that the model is to read."""
        return self.prefix + self.text


@dataclass(frozen=True, slots=True)
class Completion:
    """A finished text; `finish_reason` is "length" when max_tokens or the context window cut it off."""

    text: str
    finish_reason: FinishReason
    prompt_tokens: int
    completion_tokens: int
    logprobs: list[dict[str, Any]] | None = None


@runtime_checkable
class Generator(Protocol):
    """A loaded text model; `useful_slots` at work at once is as fast as it gets."""

    name: str
    digest: str
    context_length: int
    slots: int
    useful_slots: int

    def generate(self, prompt: Prompt, on_piece: OnPiece) -> Completion:
        """Run one completion. Raises Cancelled once `on_piece` returned True, TextTooLong, ModelFailed."""
        ...

    def close(self) -> None:
        """Free the model."""
        ...


Stop = Callable[[], bool]
"""Asked now and then while a model works; True stops it."""

TASK = "Given a web search query, retrieve relevant passages that answer the query"


@dataclass(frozen=True, slots=True)
class Ranking:
    """Documents to be judged by how well they answer a query; `task` says what answering means."""

    query: str
    documents: tuple[str, ...]
    task: str = TASK


@runtime_checkable
class Reranker(Protocol):
    """A loaded model that judges documents; a document's score depends on the query, the task and itself alone."""

    name: str
    digest: str
    slots: int

    def rerank(self, ranking: Ranking, stop: Stop) -> list[float]:
        """One score in [0, 1] a document, in input order. Raises Cancelled, TextTooLong, ModelFailed."""
        ...

    def close(self) -> None:
        """Free the model."""
        ...


@runtime_checkable
class Embedder(Protocol):
    """A loaded embedding model: texts in, unit vectors out, bit-equal alone or in any batch.

    `useful_calls` at work at once are as fast as it gets.
    """

    name: str
    digest: str
    dimensions: int
    context_length: int
    useful_calls: int

    def embed(self, texts: Sequence[str]) -> Vectors:
        """One unit-length float32 row a text, in input order. Raises ModelFailed."""
        ...

    def close(self) -> None:
        """Free the model."""
        ...
