"""Streaming a queued generation to whoever listens on the request's channel.

Each payload is JSON: ``o``, the offset in characters at which ``t``, the next part of the text, stands. So a listener
that came late, or sees a second attempt begin anew, knows what it has. The end is told like any other request's.
"""

from __future__ import annotations

import asyncio
from contextlib import aclosing

import orjson

from pg_steadytext.daemon.calls import StreamEnd
from pg_steadytext.errors import ModelFailed
from pg_steadytext.queue.jobs import Context, Job

PAUSE = 0.05
PAYLOAD_BYTES = 7500
PART_CHARACTERS = 1000
"""So long a part fits a payload even where JSON writes each character in six bytes."""


def channel(request_id: str) -> str:
    """The NOTIFY channel of a request."""
    return "st_" + request_id.replace("-", "")


def payloads(offset: int, text: str) -> list[str]:
    """A piece of text as payloads of fewer than PAYLOAD_BYTES."""
    return [
        orjson.dumps({"o": offset + head, "t": text[head : head + PART_CHARACTERS]}).decode()
        for head in range(0, len(text), PART_CHARACTERS)
    ]


class Announcer:
    """Sends the pieces of one text, at most every PAUSE."""

    def __init__(self, job: Job, context: Context) -> None:
        self._channel = channel(job.request_id)
        self._context = context
        self._text = ""
        self._told = 0
        self._more = asyncio.Event()
        self._sending = asyncio.Lock()

    def add(self, piece: str) -> None:
        """More of the text."""
        self._text += piece
        self._more.set()

    async def run(self) -> None:
        """Send what comes, until cancelled."""
        while True:
            await self._more.wait()
            self._more.clear()
            await self.flush()
            await asyncio.sleep(PAUSE)

    async def flush(self) -> None:
        """Send what was not sent yet."""
        async with self._sending:
            fresh = payloads(self._told, self._text[self._told :])
            self._told = len(self._text)
            for payload in fresh:
                await self._context.announce(self._channel, payload)


async def stream(job: Job, context: Context) -> tuple[str, StreamEnd]:
    """Generate a job's text and announce it as it grows; returns the whole of it."""
    announcer = Announcer(job, context)
    announcing = asyncio.create_task(announcer.run())
    parts: list[str] = []
    try:
        async with aclosing(context.daemon.stream(job.prompt or "", lane="batch", **job.request)) as pieces:
            async for piece in pieces:
                if isinstance(piece, StreamEnd):
                    await announcer.flush()
                    return "".join(parts), piece
                parts.append(piece)
                announcer.add(piece)
    finally:
        announcing.cancel()
    raise ModelFailed("the stream ended before the text did")
