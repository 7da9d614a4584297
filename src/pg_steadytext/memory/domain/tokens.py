"""Tokens: 256 random bits in text, kept only as their SHA-256, since what cannot be guessed needs no slow hash."""

from __future__ import annotations

import base64
import hashlib

RANDOM_BYTES = 32
KEY_PREFIX = "mem_"


def token(random: bytes, prefix: str = "") -> str:
    """Spell 32 random bytes as a token; a prefix lets scanners for leaked secrets find keys."""
    return prefix + base64.urlsafe_b64encode(random).decode().rstrip("=")


def token_hash(text: str) -> bytes:
    """Return what is kept of a token."""
    return hashlib.sha256(text.encode()).digest()
