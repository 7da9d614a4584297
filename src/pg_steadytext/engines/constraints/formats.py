"""Formats of JSON Schema that a grammar writes, each as a part of what the format allows.

A date never has a 29th of February, a time has whole seconds, an address keeps to ASCII: everything written is valid.
"""

from __future__ import annotations

from functools import cache

from pg_steadytext.engines.constraints.dialect import read_pattern
from pg_steadytext.engines.constraints.expression import Expression

_DATE = r"[1-9]\d{3}-((0[1-9]|1[0-2])-(0[1-9]|1\d|2[0-8])|(0[13-9]|1[0-2])-(29|30)|(0[13578]|1[02])-31)"
_TIME = r"([01]\d|2[0-3]):[0-5]\d:[0-5]\d(Z|[+-](0\d|1[0-4]):(00|30))"
_HOST = r"([a-z0-9]([a-z0-9-]{0,20}[a-z0-9])?\.){1,3}[a-z]{2,10}"
_BYTE = r"(25[0-5]|2[0-4]\d|1\d\d|[1-9]?\d)"

PATTERNS = {
    "date": _DATE,
    "time": _TIME,
    "date-time": f"{_DATE}T{_TIME}",
    "duration": r"P(\d{1,3}W|\d{1,3}D|(\d{1,3}D)?T\d{1,2}(H(\d{1,2}M)?|M))",
    "email": rf"[a-z0-9]{{1,20}}([._+-][a-z0-9]{{1,20}}){{0,3}}@{_HOST}",
    "hostname": _HOST,
    "ipv4": rf"({_BYTE}\.){{3}}{_BYTE}",
    "ipv6": r"([0-9a-f]{1,4}:){7}[0-9a-f]{1,4}",
    "uri": rf"https?://{_HOST}(/[A-Za-z0-9._~-]{{1,40}}){{0,6}}/?",
    "uuid": r"[0-9a-f]{8}-[0-9a-f]{4}-[1-8][0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}",
}


@cache
def expression(name: str) -> Expression:
    """The texts of a format."""
    return read_pattern(PATTERNS[name])
