"""Ids that sort by when they were made (RFC 9562, UUID version 7, with the time to a quarter of a microsecond)."""

from __future__ import annotations

from uuid import UUID

RANDOM_BYTES = 8
MILLISECOND = 1_000_000


def uuid7(nanoseconds: int, random: bytes) -> UUID:
    """Make an id of the Unix time in nanoseconds and eight random bytes."""
    milliseconds, rest = divmod(nanoseconds, MILLISECOND)
    low = int.from_bytes(random[:RANDOM_BYTES], "big") & ((1 << 62) - 1)
    return UUID(
        int=(milliseconds & ((1 << 48) - 1)) << 80 | 0x7 << 76 | (rest << 12) // MILLISECOND << 64 | 0b10 << 62 | low
    )
