"""Identifiers that sort by when they were made (RFC 9562, UUID version 7)."""

from __future__ import annotations

from uuid import UUID

RANDOM_BYTES = 10


def uuid7(milliseconds: int, random: bytes) -> UUID:
    """Make an id of the Unix time in milliseconds and ten random bytes."""
    bits = int.from_bytes(random[:RANDOM_BYTES], "big")
    low = bits & ((1 << 62) - 1)
    high = (bits >> 62) & 0xFFF
    return UUID(int=(milliseconds & ((1 << 48) - 1)) << 80 | 0x7 << 76 | high << 64 | 0b10 << 62 | low)
