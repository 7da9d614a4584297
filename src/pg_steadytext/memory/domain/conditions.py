"""Conditional requests: entity tags (RFC 9110, 8.8 and 13.1) and idempotency keys (the IETF draft)."""

from __future__ import annotations

import re

from pg_steadytext.memory.domain.problems import Problem

_TAG = re.compile(r'(W/)?"([\x21\x23-\x7e\x80-\uffff]*)"')
_LIST = re.compile(rf"\s*{_TAG.pattern}\s*(?:,\s*{_TAG.pattern}\s*)*")
_VERSION = re.compile(r"v([1-9][0-9]{0,17})")
_KEY = re.compile(r'"((?:[\x20-\x21\x23-\x5b\x5d-\x7e]|\\["\\]){1,255})"|([A-Za-z0-9_.:~+/=-]{1,255})')


def known_versions(header: str | None, *, required: bool) -> list[int] | None:
    """Return the versions that ``If-Match`` names, None for any (``*``).

    Raises ``Problem`` 428 when a required header is missing, 400 when it is malformed. A weak tag matches nothing.
    """
    if header is None:
        if required:
            raise Problem(428, "if-match-required", 'send If-Match with the ETag of the version you know, such as "v1"')
        return None
    if header.strip() == "*":
        return None
    if not _LIST.fullmatch(header):
        raise Problem(400, "bad-if-match", 'If-Match must be entity tags, such as "v1", or *')
    found = [_VERSION.fullmatch(tag) for weak, tag in _TAG.findall(header) if not weak]
    return [int(version[1]) for version in found if version]


def known_tags(header: str | None, *, required: bool) -> list[str] | None:
    """Return the strong entity tags that ``If-Match`` names, quotes and all, None for any (``*``).

    Raises ``Problem`` as `known_versions` does.
    """
    if known_versions(header, required=required) is None or header is None:
        return None
    return [f'"{tag}"' for weak, tag in _TAG.findall(header) if not weak]


def names_version(header: str | None, version: int) -> bool:
    """Tell whether ``If-None-Match`` names the version, by the weak comparison."""
    if header is None:
        return False
    return header.strip() == "*" or f"v{version}" in {tag for _, tag in _TAG.findall(header)}


def idempotency_key(header: str | None) -> str | None:
    """Return the key that the header holds: a quoted string as the draft says, or the bare word many clients send.

    Raises ``Problem`` 400 when it is neither.
    """
    if header is None:
        return None
    found = _KEY.fullmatch(header.strip())
    if found is None:
        raise Problem(
            400, "bad-idempotency-key", "Idempotency-Key must be a quoted string of 1 to 255 ASCII characters"
        )
    quoted = found[1]
    return found[2] if quoted is None else re.sub(r'\\(["\\])', r"\1", quoted)
