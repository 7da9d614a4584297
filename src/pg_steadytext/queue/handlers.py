"""What the queue's own lanes do: generate, embed, rerank, each by the daemon."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import orjson

from pg_steadytext.errors import SteadyTextError
from pg_steadytext.queue.failures import is_of_daemon, judged
from pg_steadytext.queue.jobs import Answer, Context, Handler, Job, Outcome
from pg_steadytext.queue.streaming import stream

EMBED_ROWS = 512
EMBED_CHUNK = 256


def _milliseconds(began: float) -> int:
    return round(1000 * (time.monotonic() - began))


@dataclass(frozen=True, slots=True)
class Generate:
    """One text a run."""

    concurrency: int
    lane: str = "generate"
    batch: int = 1

    async def run(self, jobs: Sequence[Job], context: Context) -> Sequence[Outcome]:
        """Generate a text, streamed to whoever listens where that was asked for."""
        (job,) = jobs
        began = time.monotonic()
        if job.params.get("stream"):
            text, end = await stream(job, context)
            return [Answer(text, None, end.model, end.digest, _milliseconds(began))]
        found = await context.daemon.generate(job.prompt or "", lane="batch", **job.request)
        return [Answer(found.text, None, found.model, found.digest, _milliseconds(began))]


@dataclass(frozen=True, slots=True)
class Embed:
    """Many texts a run; a second run is claimed while the first is in the model."""

    concurrency: int = 2
    lane: str = "embed"
    batch: int = EMBED_ROWS

    async def run(self, jobs: Sequence[Job], context: Context) -> Sequence[Outcome]:
        """Embed the texts of all jobs, those with the same parameters together."""
        groups: dict[bytes, list[int]] = {}
        for place, job in enumerate(jobs):
            groups.setdefault(orjson.dumps(job.request, option=orjson.OPT_SORT_KEYS), []).append(place)
        chunks = [
            places[head : head + EMBED_CHUNK]
            for places in groups.values()
            for head in range(0, len(places), EMBED_CHUNK)
        ]
        found = await asyncio.gather(*(self._chunk([jobs[place] for place in places], context) for places in chunks))
        outcomes = {
            place: outcome
            for places, several in zip(chunks, found, strict=True)
            for place, outcome in zip(places, several, strict=True)
        }
        return [outcomes[place] for place in range(len(jobs))]

    async def _chunk(self, jobs: Sequence[Job], context: Context) -> Sequence[Outcome]:
        """Embed texts in one call. Where it fails, each is tried alone, so that one text fails for itself only."""
        began = time.monotonic()
        try:
            texts = [job.prompt or "" for job in jobs]
            found = await context.daemon.embed_batch(texts, lane="batch", **jobs[0].request)
        except SteadyTextError as error:
            if len(jobs) == 1 or is_of_daemon(error):
                return [judged(error)] * len(jobs)
            alone = await asyncio.gather(*(self._chunk([job], context) for job in jobs))
            return [outcome for (outcome,) in alone]
        took = _milliseconds(began)
        return [Answer(None, vector, found.model, found.digest, took) for vector in found.embeddings]


@dataclass(frozen=True, slots=True)
class Rerank:
    """One query with its documents a run."""

    concurrency: int
    lane: str = "rerank"
    batch: int = 1

    async def run(self, jobs: Sequence[Job], context: Context) -> Sequence[Outcome]:
        """Rank documents; the answer is the daemon's, as compact JSON."""
        (job,) = jobs
        began = time.monotonic()
        given = {**job.request, "query": job.prompt, "documents": job.prompts}
        ranked = await context.daemon.call("rerank", given, lane="batch")
        return [Answer(orjson.dumps(ranked).decode(), took_ms=_milliseconds(began))]


def handlers(concurrency: int) -> Mapping[str, Handler]:
    """The queue's own lanes; `concurrency` bounds the texts that are generated at once, and the rankings."""
    own: tuple[Handler, ...] = (Generate(concurrency), Embed(), Rerank(concurrency))
    return {handler.lane: handler for handler in own}
