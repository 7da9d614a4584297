"""The prompts of the determinism tests, from three words to a few hundred, always the same; more in `make soak`."""

from __future__ import annotations

import os
import random

from tests.support.models import WORDS

TEXTS = int(os.environ.get("DETERMINISM_TEXTS", "100"))
PROMPTS = int(os.environ.get("DETERMINISM_PROMPTS", "12"))
MAX_TOKENS = int(os.environ.get("DETERMINISM_TOKENS", "8"))


def prompts(count: int = PROMPTS) -> list[str]:
    """Make ``count`` different prompts; most are short, every eighth is long enough to need several batches."""
    rng = random.Random(20251125)
    lengths = (3, 5, 8, 12, 20, 30, 45, 160)
    return [
        f"{number}. Tell me about {' '.join(rng.choice(WORDS) for _ in range(lengths[number % len(lengths)]))}."
        for number in range(count)
    ]


def texts(count: int = TEXTS) -> list[str]:
    """Make ``count`` different texts to embed, of one word up to past the model's window."""
    rng = random.Random(42)
    lengths = (1, 2, 4, 6, 9, 14, 25, 60, 8, 5)
    made = [f"{number} {' '.join(rng.choice(WORDS) for _ in range(lengths[number % 10]))}" for number in range(count)]
    made[17] = " ".join(rng.choice(WORDS) for _ in range(400))
    made[18] = "déjà vu 🌳 木は水を飲む"
    return made
