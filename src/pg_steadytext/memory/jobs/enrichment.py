"""The queue's lane of memories to be described by a model. See 87_enrichment.sql for what each statement holds to."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

import orjson
import psycopg

from pg_steadytext import statements
from pg_steadytext.errors import Busy, DaemonLost, DaemonUnavailable, ModelFailed, SteadyTextError
from pg_steadytext.memory.domain import embedding, enrichment
from pg_steadytext.memory.domain.enrichment import Description
from pg_steadytext.memory.domain.spending import (
    CallFailedError,
    Guard,
    Tokens,
    UnaffordableError,
    UnknownUserError,
    UnpricedModelError,
)
from pg_steadytext.queue.failures import is_permanent, judged
from pg_steadytext.queue.jobs import Answer, Context, Failure, Job, Outcome, Postponed
from pg_steadytext.queue.sessions import Connect, Session

SQL: Mapping[str, bytes] = statements.load("pg_steadytext.memory.storage", "sql/enrichment.sql")
PURPOSE = "enrichment"
CONCURRENCY = 2
DAEMON_PAUSE = 1.0


@dataclass(frozen=True, slots=True)
class Text:
    """A memory's text as it was read."""

    user_id: UUID
    id: UUID
    body: str
    digest: bytes
    category: str | None = None


class Describing:
    """Has a memory described, whoever brings its ids: the extension's queue or a broker."""

    def __init__(self, connect: Connect, guard: Guard, model: str = enrichment.MODEL) -> None:
        self.session = Session(connect, "enrichment", sql=SQL)
        self._guard = guard
        self._model = model
        self._stand_for: list[str] = []
        self._vectors: list[list[float]] = []

    async def describe(self, user: UUID, memory: UUID, context: Context, digest: bytes | None = None) -> Outcome:
        """Describe a memory, if it still says what the digest was made of; the answer's text says what was done.

        One that was changed meanwhile is pending again, and comes back by itself.
        """
        began = time.monotonic()
        try:
            rows = await self.session.run("read_to_enrich", {"user": user, "id": memory})
            if not rows or digest not in (None, rows[0][1]):
                return Answer(text="nothing to do")
            outcome = await self._enrich(Text(user, memory, *rows[0]), context)
        except psycopg.Error as error:
            code = error.sqlstate or "XX000"
            return Failure(code, error.diag.message_primary or str(error), not is_permanent(code))
        if isinstance(outcome, str):
            return Answer(text=outcome, took_ms=round(1000 * (time.monotonic() - began)))
        return outcome

    async def give_up(self, user: UUID, memory: UUID, digest: bytes, error: str) -> None:
        """Note that no further attempt is made."""
        await self._note(Text(user, memory, "", digest), "failed", error, None)

    async def _enrich(self, text: Text, context: Context) -> Outcome | str:
        try:
            found = await self._ask(text, context)
        except UnaffordableError as error:
            await self._note(text, "paused", error.reason, error.retry_at)
            return "paused"
        except UnknownUserError:
            return "nothing to do"
        except CallFailedError:
            # Not for_daemon, which waits by itself: it is the breaker that waits, and all processes with it.
            return Postponed(DAEMON_PAUSE)
        except (SteadyTextError, UnpricedModelError, TimeoutError) as error:
            outcome = judged(error)
            if isinstance(outcome, Failure):
                await self._note(text, "failed", outcome.message, None)
            return outcome
        if found is None:
            return "nothing to do"
        params = {**_which(text), "model": self._model, "found": found.spelled()}
        ((is_written,),) = await self.session.run("write_enrichment", params)
        return "done" if is_written else "nothing to do"

    async def _ask(self, text: Text, context: Context) -> Description | None:
        """Have it classified, and then described; None when it is not to be described any more."""
        category = text.category
        if category is None and (categories := await self.session.run("categories")):
            category = categories[await self._classify(text, [words for _, words in categories], context)][0]
            params = {**_which(text), "model": embedding.MODEL, "category": category}
            ((is_written,),) = await self.session.run("write_category", params)
            if not is_written:
                return None
        asked = enrichment.question(text.body)
        schema = enrichment.schema(category)

        async def ask() -> tuple[Description, Tokens]:
            try:
                answer = await context.daemon.generate(
                    asked, prefix=enrichment.BEGINNING, lane="batch", model=self._model, schema=schema,
                    seed=enrichment.SEED, max_new_tokens=enrichment.MOST_WRITTEN_TOKENS,
                )  # fmt: skip
            except DaemonLost:
                raise
            except (DaemonUnavailable, Busy) as error:
                raise CallFailedError(error.message, Tokens(0)) from error
            try:
                found = enrichment.read(answer.text, text.body)
            except (ValueError, KeyError, TypeError, AttributeError) as error:
                raise ModelFailed(f"the model's answer is not of the form that was asked for: {error!r}") from None
            return found, Tokens(answer.prompt_tokens, answer.completion_tokens)

        return await self._guard.call(PURPOSE, self._model, text.user_id, enrichment.most_tokens(asked), ask)

    async def _classify(self, text: Text, stand_for: list[str], context: Context) -> int:
        """Return the place of the words that are nearest to a text in meaning."""
        others = self._vectors if stand_for == self._stand_for else []
        words = [text.body, *([] if others else stand_for)]

        async def ask() -> tuple[list[list[float]], Tokens]:
            try:
                found = await context.daemon.embed_batch(words, model=embedding.MODEL, lane="interactive")
            except DaemonLost:
                raise
            except (DaemonUnavailable, Busy) as error:
                raise CallFailedError(error.message, Tokens(0)) from error
            return [orjson.loads(vector) for vector in found.embeddings], embedding.likely_tokens(words)

        most = embedding.most_tokens(words)
        vector, *fresh = await self._guard.call("embedding", embedding.MODEL, text.user_id, most, ask)
        if fresh:
            self._stand_for, self._vectors = stand_for, fresh
        return enrichment.nearest(vector, others or fresh)

    async def _note(self, text: Text, status: str, error: str, retry_at: datetime | None) -> None:
        params = {**_which(text), "status": status, "error": error, "retry_at": retry_at}
        await self.session.run("note_enrichment", params)


def _which(text: Text) -> dict[str, UUID | bytes]:
    return {"user": text.user_id, "id": text.id, "digest": text.digest}


class MemoryEnrichment:
    """One generation a memory. See ``queue.jobs.Handler``."""

    lane = "memory_enrich"
    batch = 1
    concurrency = CONCURRENCY

    def __init__(self, describing: Describing) -> None:
        self._describing = describing

    async def run(self, jobs: Sequence[Job], context: Context) -> Sequence[Outcome]:
        """Describe a memory."""
        (job,) = jobs
        return [await self._describing.describe(UUID(job.params["user"]), UUID(job.params["memory"]), context)]
