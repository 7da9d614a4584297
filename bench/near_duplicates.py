"""How well near duplicates are told: precision and recall over the pairs of tests/data/near_duplicates.txt.

    python bench/near_duplicates.py [--all]

Prints both, for likeness alone and with what must agree, and the pairs that were judged wrongly (with --all every one).
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pg_steadytext.daemon.handlers import Runtime
from pg_steadytext.daemon.options import DaemonOptions
from pg_steadytext.memory.domain.embedding import MODEL
from pg_steadytext.memory.domain.similarity import COSINE, LEXICAL, Verdict, judge
from pg_steadytext.settings import Settings

PAIRS = Path(__file__).resolve().parents[1] / "tests" / "data" / "near_duplicates.txt"


@dataclass(frozen=True)
class Labelled:
    """A pair, and whether one of the two would do."""

    one: str
    other: str
    is_same: bool


@dataclass(frozen=True)
class Quality:
    """What of the suggested is right, and what of the right is suggested."""

    precision: float
    recall: float


def read_pairs() -> list[Labelled]:
    """The labelled pairs."""
    lines = [line for line in PAIRS.read_text("utf-8").splitlines() if not line.startswith("#")]
    parts = [[part.strip() for part in line.split("|")] for line in lines]
    return [Labelled(one, other, label == "same") for label, one, other in parts]


async def cosines(pairs: list[Labelled]) -> list[float]:
    """The cosine of each pair's embeddings, by the model without a daemon."""
    with tempfile.TemporaryDirectory() as folder:
        runtime = Runtime(DaemonOptions(model_dir=Settings.load().model_dir, run_dir=Path(folder)))
        try:
            batcher = await runtime.batcher({"model": MODEL})
            texts = [text for pair in pairs for text in (pair.one, pair.other)]
            rows = np.asarray(await batcher.embed(texts, "batch"))
        finally:
            runtime.close()
    units = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    return [float(one @ other) for one, other in zip(units[::2], units[1::2], strict=True)]


def quality(pairs: list[Labelled], suggested: list[bool]) -> Quality:
    """Compare what was suggested with the labels."""
    right = sum(pair.is_same and said for pair, said in zip(pairs, suggested, strict=True))
    return Quality(right / max(1, sum(suggested)), right / sum(pair.is_same for pair in pairs))


def judged(pairs: list[Labelled], similarities: list[float]) -> list[Verdict]:
    """The verdict on each pair."""
    return [judge(pair.one, pair.other, cosine) for pair, cosine in zip(pairs, similarities, strict=True)]


async def main(*, shows_all: bool) -> None:
    """Judge and print."""
    pairs = read_pairs()
    similarities = await cosines(pairs)
    verdicts = judged(pairs, similarities)
    alike = [
        verdict.lexical >= LEXICAL and cosine >= COSINE for verdict, cosine in zip(verdicts, similarities, strict=True)
    ]
    for name, said in (("likeness alone", alike), ("with what must agree", [v.is_suggested for v in verdicts])):
        found = quality(pairs, said)
        print(f"{name}: precision {found.precision:.3f}, recall {found.recall:.3f}, {len(pairs)} pairs")
    for pair, verdict in zip(pairs, verdicts, strict=True):
        if shows_all or pair.is_same != verdict.is_suggested:
            print(f"{'same' if pair.is_same else 'other'} {verdict} | {pair.one} | {pair.other}")


if __name__ == "__main__":
    asyncio.run(main(shows_all="--all" in sys.argv))
