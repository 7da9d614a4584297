"""The queue's lane of the layers: a row of a layer's source, read, asked about and put into the layer."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

import orjson
import psycopg

from pg_steadytext import statements
from pg_steadytext.queue.failures import is_permanent
from pg_steadytext.queue.jobs import Answer, Context, Failure, Job, Outcome, Postponed
from pg_steadytext.queue.sessions import Connect, Session

SQL: Mapping[str, bytes] = statements.load("pg_steadytext.store", "sql/layer_work.sql")
CONCURRENCY = 4
LOCKED, LOCKED_PAUSE = "55P03", 0.5
"""A table that somebody has locked is no fault of the row."""
TOO_SLOW, CANCELLED = "ST002", "57014"
"""The layer's owner's code was cancelled. It would be so again."""


class Layers:
    """One row a run. No transaction is open while the daemon is asked."""

    lane = "layer"
    batch = 1
    concurrency = CONCURRENCY

    def __init__(self, connect: Connect) -> None:
        self._session = Session(connect, "layers", sql=SQL)

    async def run(self, jobs: Sequence[Job], context: Context) -> Sequence[Outcome]:
        """Work on a row. What PostgreSQL says against it is the row's failure, as is what the daemon says."""
        (job,) = jobs
        began = time.monotonic()
        row = {"layer": job.params["layer"], "key": job.params["key"]}
        try:
            ask, request, answer, digest = (await self._session.run("read", row))[0]
            if ask != "nothing":
                answer = await _asked(context, ask, orjson.loads(request))
            put = {**row, "digest": digest, "answer": answer, "request": job.request_id}
            ((state,),) = await self._session.run("put", put)
        except psycopg.Error as error:
            code = error.sqlstate or "XX000"
            if code == LOCKED:
                return [Postponed(LOCKED_PAUSE)]
            if code == TOO_SLOW:
                return [Failure(CANCELLED, error.diag.message_primary or str(error), False)]
            return [Failure(code, error.diag.message_primary or str(error), not is_permanent(code))]
        return [Answer(text=state, took_ms=round(1000 * (time.monotonic() - began)))]


async def _asked(context: Context, ask: str, request: dict[str, Any]) -> str:
    if ask == "generate":
        return (await context.daemon.generate(request.pop("prompt"), lane="batch", **request)).text
    return (await context.daemon.embed_batch(request.pop("texts"), lane="batch", **request)).embeddings[0]
