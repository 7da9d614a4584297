"""What is asked for: the SQL function that queues it, and the arguments given.

Only what the caller gives is passed on, so that every default stands once, in SQL.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypedDict

from psycopg import sql
from psycopg.types.json import Jsonb

from pg_steadytext.client._statements import compose
from pg_steadytext.errors import InvalidArgument


class BatchOptions(TypedDict, total=False):
    """How a request stands in the queue.

    priority: 1 to 10, 5 by default; the highest is taken first, and none waits for ever.
    user_id: on whose behalf, for rate limits and statistics; the role by default.
    """

    priority: int
    user_id: str | None


class QueueOptions(BatchOptions, total=False):
    """How a single request stands in the queue.

    not_before: the earliest moment to begin; a datetime with a time zone.
    dedupe_key: while a request of the same role and key waits or runs, that one is returned instead of a new one.
    max_retries: attempts after the first; the configuration's ``queue_max_retries`` by default.
    """

    not_before: datetime | None
    dedupe_key: str | None
    max_retries: int | None


class GenerateOptions(QueueOptions, total=False):
    """The options of ``steadytext_generate``, and ``stream``: send the pieces as the model makes them."""

    max_tokens: int | None
    use_cache: bool
    seed: int
    eos_string: str
    model: str | None
    model_repo: str | None
    model_filename: str | None
    size: str | None
    unsafe_mode: bool
    thinking_mode: bool
    temperature: float
    stream: bool


class StructuredOptions(QueueOptions, total=False):
    """The options of ``steadytext_generate_json``, ``…_regex`` and ``…_choice``."""

    max_tokens: int | None
    use_cache: bool
    seed: int
    unsafe_mode: bool
    model: str | None


class EmbedOptions(QueueOptions, total=False):
    """The options of ``steadytext_embed``."""

    use_cache: bool
    seed: int
    model: str | None
    unsafe_mode: bool


class RerankOptions(QueueOptions, total=False):
    """The options of ``steadytext_rerank``; scores are always returned."""

    task: str
    seed: int
    model: str | None
    unsafe_mode: bool


class GenerateBatchOptions(BatchOptions, total=False):
    """The options that all texts of a batch share."""

    max_tokens: int | None
    use_cache: bool
    seed: int
    model: str | None


class EmbedBatchOptions(BatchOptions, total=False):
    """The options that all embeddings of a batch share."""

    use_cache: bool
    model: str | None


class RerankBatchOptions(BatchOptions, total=False):
    """The options that all queries of a batch share."""

    task: str
    seed: int
    model: str | None
    unsafe_mode: bool


@dataclass(frozen=True, slots=True)
class Submission:
    """A call of one of the extension's ``…_async`` functions, which returns one id or an array of them."""

    function: str
    arguments: Mapping[str, Any]

    @property
    def streamed(self) -> bool:
        """Whether the pieces of the answer are asked for too."""
        return bool(self.arguments.get("stream"))

    def statement(self, schema: str) -> sql.Composed:
        """Return the call by named arguments, to be executed with ``arguments``."""
        named = [sql.SQL("{} => {}").format(sql.Identifier(name), sql.Placeholder(name)) for name in self.arguments]
        return compose("submit", schema, function=sql.Identifier(self.function), arguments=sql.SQL(", ").join(named))


def _texts(name: str, values: Sequence[str]) -> list[str]:
    """The texts as a list. Raises InvalidArgument for one text, which is a sequence of texts by its characters."""
    if isinstance(values, str):
        raise InvalidArgument(f"{name} must be a list of texts, not one text")
    return list(values)


def generate(prompt: str, options: GenerateOptions) -> Submission:
    """Queue one text."""
    return Submission("steadytext_generate_async", {"prompt": prompt, **options})


def generate_json(prompt: str, schema: Mapping[str, Any], options: StructuredOptions) -> Submission:
    """Queue JSON that satisfies a schema."""
    return Submission("steadytext_generate_json_async", {"prompt": prompt, "schema": Jsonb(schema), **options})


def generate_regex(prompt: str, pattern: str, options: StructuredOptions) -> Submission:
    """Queue a text that a pattern matches whole."""
    return Submission("steadytext_generate_regex_async", {"prompt": prompt, "pattern": pattern, **options})


def generate_choice(prompt: str, choices: Sequence[str], options: StructuredOptions) -> Submission:
    """Queue the choice of one of several texts."""
    return Submission(
        "steadytext_generate_choice_async", {"prompt": prompt, "choices": _texts("choices", choices), **options}
    )


def embed(text: str, options: EmbedOptions) -> Submission:
    """Queue one embedding."""
    return Submission("steadytext_embed_async", {"text_input": text, **options})


def rerank(query: str, documents: Sequence[str], options: RerankOptions) -> Submission:
    """Queue the scoring of documents by a query."""
    return Submission(
        "steadytext_rerank_async", {"query": query, "documents": _texts("documents", documents), **options}
    )


def generate_batch(prompts: Sequence[str], options: GenerateBatchOptions) -> Submission:
    """Queue many texts in one statement."""
    return Submission("steadytext_generate_batch_async", {"prompts": _texts("prompts", prompts), **options})


def embed_batch(texts: Sequence[str], options: EmbedBatchOptions) -> Submission:
    """Queue many embeddings in one statement."""
    return Submission("steadytext_embed_batch_async", {"texts": _texts("texts", texts), **options})


def rerank_batch(queries: Sequence[str], documents: Sequence[str], options: RerankBatchOptions) -> Submission:
    """Queue the scoring of the same documents by each of many queries in one statement."""
    arguments = {"queries": _texts("queries", queries), "documents": _texts("documents", documents), **options}
    return Submission("steadytext_rerank_batch_async", arguments)
