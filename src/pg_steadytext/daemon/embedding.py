"""Dynamic batching of embeddings.

Texts of all callers wait in two lanes; whenever the model takes another batch, it is taken from the front, interactive
texts first. So that the batch lane never starves, it goes first in every eighth batch while both wait. A text that is
in flight already is computed once for all who asked for it. One batch is small, so that a large request never holds up
a single one for long.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import numpy as np

from pg_steadytext.daemon.lanes import BATCH_SHARE
from pg_steadytext.daemon.metrics import Metrics
from pg_steadytext.daemon.wire import Lane
from pg_steadytext.engines.protocol import Embedder, Vectors
from pg_steadytext.errors import Busy

BATCH_TEXTS = 64
BATCH_CHARACTERS = 16_384
"""What is at work at a time, in one batch or, where the model takes several beside each other, in several."""


class _Call:
    """One caller's texts and the rows that are ready."""

    __slots__ = ("answer", "missing", "vectors")

    def __init__(self, count: int, dimensions: int) -> None:
        self.vectors: Vectors = np.empty((count, dimensions), dtype=np.float32)
        self.missing = count
        self.answer: asyncio.Future[Vectors] = asyncio.get_running_loop().create_future()

    def take(self, row: int, vector: Vectors) -> None:
        self.vectors[row] = vector
        self.missing -= 1
        if not self.missing and not self.answer.done():
            self.answer.set_result(self.vectors)


class _Text:
    """A text to embed and the rows that wait for it."""

    __slots__ = ("rows", "started", "text")

    def __init__(self, text: str) -> None:
        self.text = text
        self.rows: list[tuple[_Call, int]] = []
        self.started = False

    @property
    def wanted(self) -> bool:
        return any(not call.answer.done() for call, _ in self.rows)


class EmbeddingBatcher:
    """Batches the texts for one embedding model. All methods are called in the event loop's thread."""

    def __init__(self, embedder: Embedder, metrics: Metrics, *, queue_limit: int) -> None:
        self.embedder = embedder
        self._metrics = metrics
        self._limit = queue_limit
        self._lanes: dict[Lane, deque[_Text]] = {"interactive": deque(), "batch": deque()}
        self._in_flight: dict[str, _Text] = {}
        self._threads = ThreadPoolExecutor(embedder.useful_calls, thread_name_prefix=f"embed-{embedder.name}")
        self._at_work = 0
        self._since_batch = 0
        self._alone: deque[_Text] = deque()

    async def embed(self, texts: Sequence[str], lane: Lane) -> Vectors:
        """One row a text. Raises Busy, and whatever the model raises; being cancelled drops the texts not yet begun."""
        if not texts:
            return np.empty((0, self.embedder.dimensions), dtype=np.float32)
        waiting = len(self._in_flight)
        if waiting and waiting + len(texts) > self._limit:
            raise Busy(f"{waiting} texts wait to be embedded, the limit is {self._limit}", hint="try again later")
        call = _Call(len(texts), self.embedder.dimensions)
        for row in sorted(range(len(texts)), key=lambda row: len(texts[row])):
            self._add(texts[row], call, row, lane)
        self._metrics.embedding_queue.set(len(self._in_flight))
        self._begin_batches()
        return await call.answer

    def _add(self, text: str, call: _Call, row: int, lane: Lane) -> None:
        item = self._in_flight.get(text)
        if item is None:
            item = self._in_flight[text] = _Text(text)
            self._lanes[lane].append(item)
        else:
            self._metrics.joined.inc()
            if lane == "interactive" and not item.started:
                self._lanes["interactive"].append(item)
        item.rows.append((call, row))

    def _begin_batches(self) -> None:
        while self._at_work < self.embedder.useful_calls and (batch := self._take()):
            self._at_work += 1
            self._metrics.batch_texts.observe(len(batch))
            done = asyncio.get_running_loop().run_in_executor(
                self._threads, self.embedder.embed, [item.text for item in batch]
            )
            done.add_done_callback(partial(self._finished, batch))

    def _take(self) -> list[_Text]:
        if self._alone:
            return [self._alone.popleft()]
        batch: list[_Text] = []
        characters = 0
        share = self.embedder.useful_calls
        for lane in self._order():
            while lane and len(batch) < BATCH_TEXTS // share and characters < BATCH_CHARACTERS // share:
                item = lane.popleft()
                if item.started:
                    continue
                item.started = True
                if not item.wanted:
                    self._in_flight.pop(item.text, None)
                    continue
                batch.append(item)
                characters += len(item.text)
        return batch

    def _order(self) -> list[deque[_Text]]:
        """The lanes, the one to be emptied first at the front."""
        lanes = [self._lanes["interactive"], self._lanes["batch"]]
        self._since_batch = self._since_batch + 1 if all(lanes) else 0
        if self._since_batch < BATCH_SHARE:
            return lanes
        self._since_batch = 0
        return lanes[::-1]

    def _finished(self, batch: list[_Text], future: asyncio.Future[Vectors]) -> None:
        self._at_work -= 1
        error = future.exception()
        if error is not None and len(batch) > 1:
            self._alone.extend(batch)  # one caller's text must not fail another's: find it by computing each alone
        else:
            for index, item in enumerate(batch):
                self._deliver(item, error or future.result()[index])
        self._metrics.embedding_queue.set(len(self._in_flight))
        self._begin_batches()

    def _deliver(self, item: _Text, found: BaseException | Vectors) -> None:
        self._in_flight.pop(item.text, None)
        for call, row in item.rows:
            if call.answer.done():
                continue
            if isinstance(found, BaseException):
                call.answer.set_exception(found)
            else:
                call.take(row, found)

    def close(self) -> None:
        """Let the threads end."""
        self._threads.shutdown(wait=False)
