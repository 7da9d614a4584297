"""The two lanes of embeddings: who goes first, and that the other does not wait for ever."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import numpy as np

from pg_steadytext.daemon.embedding import BATCH_TEXTS, EmbeddingBatcher
from pg_steadytext.daemon.lanes import BATCH_SHARE
from pg_steadytext.daemon.metrics import Metrics
from pg_steadytext.engines.protocol import Vectors

MANY = 4 * BATCH_SHARE


class Recorder:
    """An embedding model of no meaning, which notes its batches."""

    name = "recorder"
    digest = "digest"
    dimensions = 1
    context_length = 256
    useful_calls = 1

    def __init__(self) -> None:
        self.batches: list[list[str]] = []

    def embed(self, texts: Sequence[str]) -> Vectors:
        """One row a text."""
        self.batches.append(list(texts))
        return np.zeros((len(texts), 1), dtype=np.float32)

    def close(self) -> None:
        """Nothing to free."""


def batches_of(batch_texts: int) -> list[list[str]]:
    """The batches that are made while more interactive texts wait than fit in one, of `MANY` of their batches."""
    model = Recorder()

    async def run() -> None:
        batcher = EmbeddingBatcher(model, Metrics(), queue_limit=100_000)
        interactive = [f"interactive {number}" for number in range(MANY * BATCH_TEXTS)]
        calls = [
            batcher.embed(interactive[head : head + 500], "interactive") for head in range(0, len(interactive), 500)
        ]
        calls.append(batcher.embed([f"batch {number}" for number in range(batch_texts)], "batch"))
        await asyncio.gather(*calls)
        batcher.close()

    asyncio.run(run())
    return model.batches


def of_the_batch_lane(batches: list[list[str]]) -> list[int]:
    return [place for place, batch in enumerate(batches) if any(text.startswith("batch") for text in batch)]


def test_a_text_of_the_batch_lane_waits_for_a_few_batches_of_the_other_at_most() -> None:
    (place,) = of_the_batch_lane(batches_of(1))
    assert 0 < place <= BATCH_SHARE


def test_the_batch_lane_takes_no_more_than_its_share_while_both_wait() -> None:
    places = of_the_batch_lane(batches_of(100 * BATCH_TEXTS))
    assert [place for place in places if place < MANY] == list(range(BATCH_SHARE, MANY, BATCH_SHARE))
