"""Passwords: argon2id, the only secret here that a person chose and that needs a slow hash."""

from __future__ import annotations

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

_HASHER = PasswordHasher()


def hash_password(password: str) -> str:
    """Return what is kept of a password."""
    return _HASHER.hash(password)


NOBODY = hash_password("an account that does not exist takes as long to refuse as a wrong password")


def is_password(password: str, kept: str | None) -> bool:
    """Tell whether it is the password; an account without one, or no account, takes the same time."""
    try:
        return _HASHER.verify(kept or NOBODY, password) and kept is not None
    except (VerificationError, InvalidHashError):
        return False
