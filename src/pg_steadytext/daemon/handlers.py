"""What each method of the daemon does with a request."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import numpy as np

from pg_steadytext import __version__
from pg_steadytext.daemon import params as read
from pg_steadytext.daemon.embedding import EmbeddingBatcher
from pg_steadytext.daemon.generation import GenerationScheduler
from pg_steadytext.daemon.generation_set import complete_set
from pg_steadytext.daemon.metrics import Metrics, resident_memory
from pg_steadytext.daemon.options import DaemonOptions
from pg_steadytext.daemon.ranking import closeness, rerank, rerank_batch
from pg_steadytext.daemon.streams import Stream
from pg_steadytext.daemon.wire import PROTOCOL, Lane, Request, vector_numbers, vector_texts
from pg_steadytext.engines.catalogue import Model
from pg_steadytext.engines.constraints.compiled import compiled
from pg_steadytext.engines.protocol import Completion, Generator, Prompt, Ranking, Reranker, Vectors
from pg_steadytext.engines.registry import EngineOptions, ModelRegistry
from pg_steadytext.engines.remote import RemoteModels
from pg_steadytext.engines.text import check_text
from pg_steadytext.errors import InvalidArgument

MAX_GENERATION_THREADS = 128
MAX_INLINE_VECTORS = 256


class Runtime:
    """The models, the schedulers and the numbers of one daemon."""

    def __init__(self, options: DaemonOptions) -> None:
        self.options = options
        self.metrics = Metrics()
        engine = EngineOptions.for_machine(options.run_dir / "llama", threads=options.threads, slots=options.slots)
        self.registry = ModelRegistry(options.model_dir, engine, self.metrics.loaded)
        self.remote = RemoteModels.load(options.providers)
        self.started = time.monotonic()
        self._threads = ThreadPoolExecutor(MAX_GENERATION_THREADS, thread_name_prefix="generate")
        self.generation = GenerationScheduler(self._threads, self.metrics, queue_limit=options.generation_queue)
        self._batchers: dict[str, EmbeddingBatcher] = {}

    async def in_thread(self, function: Callable[..., Any], *arguments: object) -> Any:
        """Run something that blocks outside the event loop."""
        return await asyncio.get_running_loop().run_in_executor(self._threads, function, *arguments)

    async def generator(self, params: dict[str, Any]) -> Generator:
        """The generator that a request asks for, loaded. Raises UnknownModel, NotAllowed, ModelFailed."""
        choice = read.model_choice(params)
        if choice.remote:
            return self.remote.generator(choice.name or "")
        if choice.repo is not None:
            model = self.registry.catalogue.find_file(choice.repo, choice.filename or "")
        else:
            model = self.registry.resolve("generation", choice.name)
        loaded = self.registry.loaded(model.name)
        if isinstance(loaded, Generator):
            return loaded
        generator: Generator = await self.in_thread(self.registry.generator, model)
        return generator

    async def batcher(self, params: dict[str, Any]) -> EmbeddingBatcher:
        """The batcher of the embedding model that a request asks for, loaded."""
        choice = read.model_choice(params)
        if choice.remote:
            name = choice.name or ""
            if name not in self._batchers:
                self._add_batcher(name, self.remote.embedder(name))
            return self._batchers[name]
        model = self.registry.resolve("embedding", choice.name)
        if model.name not in self._batchers:
            await self._load_batcher(model)
        return self._batchers[model.name]

    async def scores(self, ranking: Ranking, params: dict[str, Any], lane: Lane) -> list[float]:
        """One score a document, by the model that a request asks for: a rerank, a text or an embedding model."""
        choice = read.model_choice(params)
        if choice.remote:
            reranker: Reranker = self.remote.reranker(choice.name or "")
        else:
            if choice.repo is not None:
                model = self.registry.catalogue.find_file(choice.repo, choice.filename or "")
            else:
                model = self.registry.ranking_model(choice.name)
            if model.kind == "embedding":
                return await closeness(await self.batcher({"model": model.name}), ranking, lane)
            reranker = await self.in_thread(self.registry.reranker, model)
        return await self.generation.work(reranker, lane, partial(reranker.rerank, ranking))

    async def _load_batcher(self, model: Model) -> None:
        embedder = await self.in_thread(self.registry.embedder, model)
        self._add_batcher(model.name, embedder)

    def _add_batcher(self, name: str, embedder: Any) -> None:
        if name not in self._batchers:
            self._batchers[name] = EmbeddingBatcher(embedder, self.metrics, queue_limit=self.options.embedding_queue)

    def close(self) -> None:
        """Let go of models and threads."""
        self._threads.shutdown(wait=False, cancel_futures=True)
        for batcher in self._batchers.values():
            batcher.close()
        self.remote.close()


Handler = Callable[[Runtime, Request], Awaitable[object]]


async def generate(runtime: Runtime, request: Request) -> object:
    """A whole text: for our clients with its model, digest and counts, for stock ones the text alone."""
    prompt = read.prompt(request.params)
    if prompt.constraint is not None:
        await runtime.in_thread(compiled, prompt.constraint)  # refuses what cannot be kept to before a slot is taken
    generator = await runtime.generator(request.params)
    completion = await runtime.generation.complete(generator, prompt, request.lane)
    if request.ours:
        return described(generator, completion)
    if prompt.logprobs:
        return {"text": completion.text, "logprobs": completion.logprobs}
    return completion.text


async def generate_batch(runtime: Runtime, request: Request) -> object:
    """One answer a text, in input order, each with its own error; what is wrong with all of them fails the request."""
    common = read.options(request.params)
    prompts = read.items(request.params, "prompts")
    if common.constraint is not None:
        await runtime.in_thread(compiled, common.constraint)
    generator = await runtime.generator(request.params)
    answers = await complete_set(runtime.generation, generator, common, prompts, request.lane)
    return {"model": generator.name, "digest": generator.digest, "answers": answers}


def described(generator: Generator, completion: Completion) -> dict[str, Any]:
    """A completion as our own clients see it."""
    found: dict[str, Any] = {
        "text": completion.text,
        "model": generator.name,
        "digest": generator.digest,
        "finish_reason": completion.finish_reason,
        "prompt_tokens": completion.prompt_tokens,
        "completion_tokens": completion.completion_tokens,
    }
    if completion.logprobs is not None:
        found["logprobs"] = completion.logprobs
    return found


async def run_stream(
    runtime: Runtime, request: Request, prompt: Prompt, stream: Stream
) -> tuple[Generator, Completion]:
    """Stream a text to its end."""
    generator = await runtime.generator(request.params)
    completion = await stream.run(runtime.generation, generator, prompt, request.lane, runtime.metrics)
    return generator, completion


async def embed(runtime: Runtime, request: Request) -> object:
    """SteadyText's embed: one vector; a list of texts gives the unit mean of theirs."""
    read.check_mode(request.params)
    given = request.params.get("text_input")
    texts = read.texts(request.params, "text_input") if isinstance(given, list) else [check_text(given, "text")]
    if not texts:
        raise InvalidArgument("text_input cannot be an empty list")
    batcher = await runtime.batcher(request.params)
    vectors = await batcher.embed(texts, request.lane)
    return vector_numbers(vectors[0] if len(texts) == 1 else unit_mean(vectors))


def unit_mean(vectors: Vectors) -> Vectors:
    """The mean of some vectors, scaled to unit length."""
    mean = vectors.mean(axis=0, dtype=np.float64)
    unit: Vectors = (mean / np.sqrt(np.square(mean).sum())).astype(np.float32)
    return unit


async def embed_batch(runtime: Runtime, request: Request) -> object:
    """One vector a text, in input order, each in pgvector's text form."""
    texts = read.texts(request.params, "texts")
    batcher = await runtime.batcher(request.params)
    vectors = await batcher.embed(texts, request.lane)
    many = len(vectors) > MAX_INLINE_VECTORS
    written = await runtime.in_thread(vector_texts, vectors) if many else vector_texts(vectors)
    return {
        "model": batcher.embedder.name,
        "digest": batcher.embedder.digest,
        "dimensions": batcher.embedder.dimensions,
        "embeddings": written,
    }


async def check(runtime: Runtime, request: Request) -> object:
    """Refuse a constraint that `generate` would refuse, without a model or a text."""
    constraint = read.constraint(request.params)
    if constraint is not None:
        await runtime.in_thread(compiled, constraint)
    return "ok"


async def ping(_runtime: Runtime, _request: Request) -> object:
    """Answer at once."""
    return "pong"


async def models(runtime: Runtime, _request: Request) -> object:
    """The catalogue, with what of it is installed and loaded."""
    return await runtime.in_thread(runtime.registry.describe)


async def stats(runtime: Runtime, _request: Request) -> object:
    """Every metric, as plain data."""
    return runtime.metrics.snapshot()


async def status(runtime: Runtime, _request: Request) -> object:
    """Who this daemon is, and what it would use by default."""
    catalogue = runtime.registry.catalogue
    return {
        "version": __version__,
        "protocol": PROTOCOL,
        "pid": os.getpid(),
        "uptime_s": round(time.monotonic() - runtime.started, 3),
        **{f"default_{kind}_model": catalogue.defaults.get(kind) for kind in ("generation", "embedding")},
        "default_rerank_model": runtime.registry.ranking_model(None).name,
        "models_loaded": [entry["name"] for entry in runtime.registry.describe() if entry["loaded"]],
        "threads": len(os.sched_getaffinity(0)),
        "memory_mb": resident_memory() // 2**20,
        "connections": runtime.metrics.count_connections(),
    }


HANDLERS: dict[str, Handler] = {
    "generate": generate,
    "generate_batch": generate_batch,
    "embed": embed,
    "embed_batch": embed_batch,
    "rerank": rerank,
    "rerank_batch": rerank_batch,
    "check": check,
    "ping": ping,
    "models": models,
    "stats": stats,
    "status": status,
}
