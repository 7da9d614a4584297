"""Streaming a text piece by piece at its reader's pace.

The model runs at most WINDOW pieces ahead of what the reader acknowledged. Past that it is stopped and its slot freed;
when the reader catches up, the text is computed again from its start, which gives the same bytes, and what was
already sent is skipped. So a reader that went away costs a window at most, whatever way it went.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable

from pg_steadytext.daemon.generation import GenerationScheduler
from pg_steadytext.daemon.metrics import Metrics
from pg_steadytext.daemon.wire import Lane
from pg_steadytext.engines.protocol import Completion, Generator, Prompt
from pg_steadytext.errors import Cancelled

WINDOW = 64
RESUME_BELOW = 16


class Stream:
    """One reader's stream. `send` puts a piece on the wire; in lock-step, only once the last one was acknowledged."""

    def __init__(self, send: Callable[[str], None], *, lock_step: bool) -> None:
        self._send = send
        self._lock_step = lock_step
        self._loop = asyncio.get_running_loop()
        self._pieces: deque[str] = deque()
        self._produced = 0
        self._characters = 0
        self._sent = 0
        self._acknowledged = 0
        self._progress = asyncio.Event()

    @property
    def ahead(self) -> int:
        """Pieces made that the reader has not acknowledged."""
        return self._produced - self._acknowledged

    def acknowledge(self, pieces: int) -> None:
        """The reader has taken `pieces` more pieces."""
        self._acknowledged = min(self._acknowledged + pieces, self._sent)
        self._pump()
        self._progress.set()

    async def run(
        self, scheduler: GenerationScheduler, generator: Generator, prompt: Prompt, lane: Lane, metrics: Metrics
    ) -> Completion:
        """Stream the whole text; returns when everything was sent (and, in lock-step, acknowledged)."""
        while True:
            try:
                completion = await scheduler.stream(generator, prompt, lane, self._producer())
                break
            except Cancelled:
                await self._until(lambda: self.ahead <= RESUME_BELOW)
                metrics.stream_restarts.inc()
        await asyncio.sleep(0)
        await self._until(lambda: not self._pieces)
        if self._lock_step:
            await self._until(lambda: self._acknowledged >= self._sent)
        return completion

    def _producer(self) -> Callable[[str], bool]:
        """Called in the engine's thread: hands new pieces over and stops the model at the window's end."""
        skip = self._characters
        seen = 0
        produced = self._produced

        def on_text(piece: str) -> bool:
            nonlocal seen, produced
            if not piece:
                return False
            seen += len(piece)
            if seen <= skip:
                return False
            produced += 1
            self._loop.call_soon_threadsafe(self._take, piece[max(0, len(piece) - (seen - skip)) :])
            return produced - self._acknowledged >= WINDOW

        return on_text

    def _take(self, piece: str) -> None:
        self._pieces.append(piece)
        self._produced += 1
        self._characters += len(piece)
        self._pump()

    def _pump(self) -> None:
        while self._pieces and not (self._lock_step and self._sent > self._acknowledged):
            self._send(self._pieces.popleft())
            self._sent += 1
        self._progress.set()

    async def _until(self, done: Callable[[], bool]) -> None:
        while not done():
            self._progress.clear()
            await self._progress.wait()
