"""What a feature flag gives to whom. Reasons and errors are those that OpenFeature names."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

PARTS = 10_000
"""A percentage is counted in hundredths."""


@dataclass(frozen=True, slots=True)
class Flag:
    """A flag as it is stored."""

    key: str
    enabled: bool
    percentage: float
    users_on: frozenset[str]
    users_off: frozenset[str]
    variants: Mapping[str, Any]
    on_variant: str
    off_variant: str

    @classmethod
    def of(cls, stored: Mapping[str, Any]) -> Flag:
        """Read what the database gives."""
        return cls(
            stored["key"], stored["enabled"], float(stored["percentage"]), frozenset(stored["users_on"]),
            frozenset(stored["users_off"]), stored["variants"], stored["on_variant"], stored["off_variant"],
        )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Resolution:
    """Which variant, and why; without a variant the caller's default counts."""

    variant: str | None
    reason: str


class TargetingKeyMissingError(Exception):
    """The flag is on for a part of the users, and nobody said which user asks."""


def share_of(key: str, user: str) -> int:
    """Return the user's place among the flag's users, from 0 to 9999: the same always, another one for another flag.

    Who is in a percentage is in every greater one.
    """
    digest = hashlib.sha256(f"{key}\x1f{user}".encode()).digest()
    return int.from_bytes(digest[:8], "big") % PARTS


def resolve(flag: Flag, user: str | None) -> Resolution:
    """Say what the flag gives to the user. Raises ``TargetingKeyMissingError`` where that depends on who it is."""
    if not flag.enabled:
        return Resolution(None, "DISABLED")
    if user is not None and (user in flag.users_on or user in flag.users_off):
        is_on = user not in flag.users_off
        return Resolution(flag.on_variant if is_on else flag.off_variant, "TARGETING_MATCH")
    bound = round(flag.percentage * PARTS / 100)
    if bound in (0, PARTS):
        return Resolution(flag.on_variant if bound else flag.off_variant, "STATIC")
    if user is None:
        raise TargetingKeyMissingError(f"{flag.key} is on for {flag.percentage} % of the users")
    return Resolution(flag.on_variant if share_of(flag.key, user) < bound else flag.off_variant, "SPLIT")
