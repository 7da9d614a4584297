"""What memories are embedded by, and what that may take."""

from __future__ import annotations

from collections.abc import Iterable

from pg_steadytext.memory.domain.spending import Tokens

MODEL = "all-minilm-l6-v2"
MOST_TOKENS = 512
"""What the model reads of one text; the rest is not read."""

CHARACTERS_A_TOKEN = 4


def most_tokens(texts: Iterable[str]) -> Tokens:
    """Return what embedding the texts may take at most: no token is less than one byte."""
    return Tokens(sum(min(MOST_TOKENS, len(text.encode()) + 2) for text in texts))


def likely_tokens(texts: Iterable[str]) -> Tokens:
    """Return what embedding the texts took, about: the model server does not count them."""
    return Tokens(sum(min(MOST_TOKENS, len(text) // CHARACTERS_A_TOKEN + 2) for text in texts))
