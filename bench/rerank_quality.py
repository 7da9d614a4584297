"""How well models rank: the passage that answers among those that do not, over the sets of tests/data/rankings.txt.

    python bench/rerank_quality.py [MODEL ...]

Prints, for each model, how often the answer comes first, and the mean of 1 / its place.
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
from pathlib import Path

from pg_steadytext.daemon.handlers import Runtime
from pg_steadytext.daemon.options import DaemonOptions
from pg_steadytext.engines.protocol import Ranking
from pg_steadytext.settings import Settings

SETS = Path(__file__).resolve().parents[1] / "tests" / "data" / "rankings.txt"
MODELS = ["all-minilm-l6-v2", "smollm2-135m-instruct"]


def read_sets() -> list[tuple[str, list[str]]]:
    """Each query with its passages, the right one first."""
    lines = [line for line in SETS.read_text("utf-8").splitlines() if not line.startswith("#")]
    found = [[part.strip() for part in line.split("|")] for line in lines]
    return [(query, passages) for query, *passages in found]


async def places(runtime: Runtime, model: str) -> list[int]:
    """The place of each query's answer, from 1; ties count against it."""
    found = []
    for query, passages in read_sets():
        scores = await runtime.scores(Ranking(query, tuple(passages)), {"model": model}, "interactive")
        found.append(sum(score >= scores[0] for score in scores))
    return found


async def main(models: list[str]) -> None:
    """Rank by each model and print."""
    with tempfile.TemporaryDirectory() as folder:
        runtime = Runtime(DaemonOptions(model_dir=Settings.load().model_dir, run_dir=Path(folder)))
        for model in models:
            found = await places(runtime, model)
            first = sum(place == 1 for place in found) / len(found)
            reciprocal = sum(1 / place for place in found) / len(found)
            print(f"{model}: first {first:.0%}, mean reciprocal rank {reciprocal:.3f}, {len(found)} queries")
        runtime.close()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1:] or MODELS))
