"""Which values a field may have, beyond what its type says."""

from __future__ import annotations

from datetime import UTC, datetime
from math import isfinite

import orjson
from pydantic import JsonValue

MAX_OBJECT_BYTES = 50_000


def can_be_stored(value: dict[str, JsonValue]) -> dict[str, JsonValue]:
    """Return the object if PostgreSQL can hold it as it is. Raises ``ValueError``."""
    try:
        text = orjson.dumps(value)
    except (TypeError, UnicodeEncodeError) as error:
        raise ValueError(f"it must be JSON of 64-bit numbers and valid text: {error}") from None
    if len(text) > MAX_OBJECT_BYTES:
        raise ValueError(f"it must be at most {MAX_OBJECT_BYTES} bytes")
    if rb"\u0000" in text and _holds_nul(value):
        raise ValueError("it must not hold the character NUL")
    if b"null" in text and not _is_finite(value):
        # The spelling in JSON would be null.
        raise ValueError("it must be JSON, which knows no infinite number")
    return value


def _is_finite(value: JsonValue) -> bool:
    if isinstance(value, dict):
        return all(map(_is_finite, value.values()))
    if isinstance(value, list):
        return all(map(_is_finite, value))
    return not isinstance(value, float) or isfinite(value)


def _holds_nul(value: JsonValue) -> bool:
    if isinstance(value, str):
        return "\x00" in value
    if isinstance(value, dict):
        return any("\x00" in key or _holds_nul(entry) for key, entry in value.items())
    return isinstance(value, list) and any(map(_holds_nul, value))


def can_be_shown(moment: datetime) -> datetime:
    """Return the moment if clients can read it. Raises ``ValueError``."""
    try:
        year = moment.astimezone(UTC).year
    except OverflowError:
        year = 0
    if not 1 < year < 9999:
        raise ValueError("it must lie in the years 2 to 9998")
    return moment
