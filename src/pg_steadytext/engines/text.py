"""What counts as a text that a model can read."""

from __future__ import annotations

from pg_steadytext.errors import InvalidArgument

BLANK = " \t\n\v\f\r"
"""What SQL takes for blank in every locale: a text that it lets into the queue must not be refused here."""


def check_text(value: object, what: str) -> str:
    """Return `value` if it is a text with something in it; `what` names it in the error. Raises InvalidArgument."""
    if not isinstance(value, str):
        raise InvalidArgument(f"{what} must be a text, not {type(value).__name__}")
    if not value.strip(BLANK):
        raise InvalidArgument(f"{what.capitalize()} cannot be empty")
    try:
        value.encode("utf-8")
    except UnicodeEncodeError as error:
        raise InvalidArgument(
            f"{what} is not valid Unicode: it has a lone surrogate at character {error.start}"
        ) from error
    return value


def without_nul(text: str) -> str:
    """PostgreSQL's text type cannot hold U+0000; it becomes U+FFFD, in every answer alike."""
    return text.replace("\0", "�") if "\0" in text else text
