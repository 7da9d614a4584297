"""When two texts are the same text."""

from __future__ import annotations

import hashlib
import unicodedata


def normalise(text: str) -> str:
    """Return the text without what does not make it another one: NFKC, case folded, runs of white space as one blank.

    Case folding can undo NFKC, so the form is taken again.
    """
    if text.isascii():
        return " ".join(text.lower().split())
    folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())
    return " ".join(folded.split())


def content_hash(text: str) -> bytes:
    """Return the SHA-256 of the normalised text."""
    return hashlib.sha256(normalise(text).encode()).digest()
