"""A worker whose embedding lane does nothing: what a queue costs without a model.

Works until it is told to stop. Answers with the moment at which work began, and keeps the number of its answers, eight
bytes, in the file that ``NOOP_COUNT`` names.
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from pg_steadytext.queue.jobs import Answer, Context, Job, Outcome
from pg_steadytext.queue.options import WorkerOptions, own_name
from pg_steadytext.queue.worker import serve
from pg_steadytext.settings import Settings


@dataclass(frozen=True, slots=True)
class Noop:
    """Answers at once."""

    lane: str = "embed"
    batch: int = 1000
    concurrency: int = 2
    count: list[int] = field(default_factory=lambda: [0])
    told: int | None = None

    async def run(self, jobs: Sequence[Job], context: Context) -> Sequence[Outcome]:  # noqa: ARG002
        """Answer with the present moment, in seconds since 1970."""
        self.count[0] += len(jobs)
        if self.told is not None:
            os.pwrite(self.told, self.count[0].to_bytes(8), 0)  # in one piece: who reads meanwhile finds no empty file
        return [Answer(repr(time.time()))] * len(jobs)


if __name__ == "__main__":
    logging.basicConfig(level=logging.WARNING)
    path = os.environ.get("NOOP_COUNT")
    noop = Noop(told=os.open(path, os.O_WRONLY | os.O_CREAT) if path else None)
    asyncio.run(serve(Settings.load(), WorkerOptions(own_name(), {"embed": noop})))
