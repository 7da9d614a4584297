"""The queue's lane of memories to be embedded. See 83_embedding.sql for what each statement holds to."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

import psycopg

from pg_steadytext import statements
from pg_steadytext.errors import SteadyTextError
from pg_steadytext.memory.domain.embedding import MODEL, likely_tokens, most_tokens
from pg_steadytext.memory.domain.spending import (
    Guard,
    Tokens,
    UnaffordableError,
    UnknownUserError,
    UnpricedModelError,
)
from pg_steadytext.queue.failures import is_of_daemon, is_permanent, judged
from pg_steadytext.queue.jobs import Answer, Context, Failure, Job, Outcome, Postponed
from pg_steadytext.queue.sessions import Connect, Session

SQL: Mapping[str, bytes] = statements.load("pg_steadytext.memory.storage", "sql/embedding.sql")
PURPOSE = "embedding"
BATCH = 64
"""Memories of one run, and so of one writing, which keeps their owners from deleting them as long as it lasts."""
CONCURRENCY = 2
LOCKED_PAUSE = 0.05
FEW = 8
"""So few memories of one user are somebody's who waits for them; more are a batch."""


@dataclass(slots=True)
class Text:
    """A memory's text as it was read, and what became of it."""

    user_id: UUID
    id: UUID
    words: str
    digest: bytes
    vector: str | None = None
    outcome: Outcome | None = None


class MemoryEmbedding:
    """Many memories a run, each user's by a call of its own. See ``queue.jobs.Handler``."""

    lane = "memory_embed"
    batch = BATCH
    concurrency = CONCURRENCY

    def __init__(self, connect: Connect, guard: Guard, written: asyncio.Event | None = None) -> None:
        """Make the handler; ``written`` is set whenever vectors were written."""
        self._session = Session(connect, "memories", sql=SQL)
        self._guard = guard
        self._written = written

    async def run(self, jobs: Sequence[Job], context: Context) -> Sequence[Outcome]:
        """Embed memories; what was changed meanwhile is pending again, and comes back by itself."""
        began = time.monotonic()
        asked = [UUID(job.params["memory"]) for job in jobs]
        users = [UUID(job.params["user"]) for job in jobs]
        try:
            rows = await self._session.run("read", {"users": users, "ids": asked})
            texts = {row[1]: Text(*row) for row in rows}
            by_user: dict[UUID, list[Text]] = {}
            for text in texts.values():
                by_user.setdefault(text.user_id, []).append(text)
            await asyncio.gather(*(self._embed(user, several, context) for user, several in by_user.items()))
            await self._write([text for text in texts.values() if text.vector is not None])
        except psycopg.Error as error:
            code = error.sqlstate or "XX000"
            return [Failure(code, error.diag.message_primary or str(error), not is_permanent(code))] * len(jobs)
        took = round(1000 * (time.monotonic() - began))
        done = Answer(text="done", took_ms=took)
        gone = Answer(text="nothing to do", took_ms=took)
        return [(texts[entry].outcome or done) if entry in texts else gone for entry in asked]

    async def _embed(self, user: UUID, texts: Sequence[Text], context: Context) -> None:
        """Embed one user's texts in one call. Where it fails, each is tried alone, so that it fails for itself only."""
        words = [text.words for text in texts]

        async def ask() -> tuple[list[str], Tokens]:
            lane = "interactive" if len(words) <= FEW else "batch"
            found = await context.daemon.embed_batch(words, model=MODEL, lane=lane)  # type: ignore[arg-type]
            return found.embeddings, likely_tokens(words)

        try:
            vectors = await self._guard.call(PURPOSE, MODEL, user, most_tokens(words), ask)
        except UnaffordableError as error:
            await self._note(texts, "paused", error.reason, error.retry_at)
            for text in texts:
                text.outcome = Answer(text="paused")
            return
        except UnknownUserError:
            for text in texts:
                text.outcome = Answer(text="nothing to do")
            return
        except (SteadyTextError, UnpricedModelError, TimeoutError) as error:
            if len(texts) > 1 and isinstance(error, SteadyTextError) and not is_of_daemon(error):
                for text in texts:
                    await self._embed(user, [text], context)
                return
            outcome = judged(error)
            if isinstance(outcome, Failure):
                await self._note(texts, "failed", outcome.message, None)
            for text in texts:
                text.outcome = outcome
            return
        for text, vector in zip(texts, vectors, strict=True):
            text.vector = vector

    async def _write(self, texts: Sequence[Text]) -> None:
        if not texts:
            return
        vectors = [text.vector for text in texts]
        rows = await self._session.run("write", {**_which(texts), "vectors": vectors, "model": MODEL})
        if self._written is not None:
            self._written.set()
        locked = {row[0] for row in rows}
        for text in texts:
            text.outcome = Postponed(LOCKED_PAUSE) if text.id in locked else None

    async def _note(self, texts: Sequence[Text], status: str, error: str, retry_at: datetime | None) -> None:
        await self._session.run("note", {**_which(texts), "status": status, "error": error, "retry_at": retry_at})


def _which(texts: Sequence[Text]) -> dict[str, list[UUID] | list[bytes]]:
    return {
        "users": [text.user_id for text in texts],
        "ids": [text.id for text in texts],
        "digests": [text.digest for text in texts],
    }
