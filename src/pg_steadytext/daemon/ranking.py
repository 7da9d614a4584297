"""Reranking by the kind of model that was named: a rerank model, a text model's yes or no, or embeddings."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import numpy as np

from pg_steadytext.daemon import params as read
from pg_steadytext.daemon.embedding import EmbeddingBatcher
from pg_steadytext.daemon.wire import Lane, Request
from pg_steadytext.engines.protocol import TASK, Ranking
from pg_steadytext.engines.text import check_text
from pg_steadytext.errors import InvalidArgument

if TYPE_CHECKING:
    from pg_steadytext.daemon.handlers import Runtime

TOGETHER = 8


async def rerank(runtime: Runtime, request: Request) -> object:
    """Documents with their scores in [0, 1], best first, ties in input order."""
    query = check_text(request.params.get("query"), "query")
    return (await _rank(runtime, request, [query]))[0]


async def rerank_batch(runtime: Runtime, request: Request) -> object:
    """The same documents ranked by each of several queries, some of them at once."""
    queries = read.texts(request.params, "queries", what="query")
    if not queries:
        raise InvalidArgument("queries cannot be empty")
    return await _rank(runtime, request, queries)


async def _rank(runtime: Runtime, request: Request, queries: list[str]) -> list[object]:
    params = request.params
    given = params.get("documents")
    documents = (
        [check_text(given, "document")] if isinstance(given, str) else read.texts(params, "documents", what="document")
    )
    purpose = TASK if params.get("task") is None else check_text(params["task"], "task")
    read.optional(params, "seed", int, "a whole number")
    bare = read.optional(params, "return_scores", bool, "true or false") is False
    rankings = [Ranking(query, tuple(documents), purpose) for query in queries]
    turns = asyncio.Semaphore(TOGETHER)

    async def scored(ranking: Ranking) -> object:
        async with turns:
            scores = await runtime.scores(ranking, params, request.lane)
        order = sorted(range(len(documents)), key=lambda index: -scores[index])
        return [documents[index] if bare else [documents[index], scores[index]] for index in order]

    tasks = [asyncio.create_task(scored(ranking)) for ranking in rankings]
    try:
        return await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()


async def closeness(batcher: EmbeddingBatcher, ranking: Ranking, lane: Lane) -> list[float]:
    """The cosine between the embeddings of the query and of each document, brought to [0, 1]."""
    vectors = (await batcher.embed([ranking.query, *ranking.documents], lane)).astype(np.float64)
    return [min(1.0, max(0.0, (1.0 + float((vectors[0] * row).sum())) / 2.0)) for row in vectors[1:]]
