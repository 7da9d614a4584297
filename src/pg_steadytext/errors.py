"""The errors of pg_steadytext, one class a case, each with its SQLSTATE.

The same code travels over the daemon's wire, through SQL and out of the command line, so that a caller
can tell the cases apart wherever the error reaches it.
"""

# ruff: noqa: N818 (the names say the case, as those of psycopg's and asyncio's do)

from __future__ import annotations

from typing import ClassVar


class SteadyTextError(Exception):
    """Base of every error that pg_steadytext raises on purpose.

    `sqlstate` is the five-character code PostgreSQL reports; `hint` says what the reader can do, or is None.
    """

    default_sqlstate: ClassVar[str] = "58000"

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.hint = hint
        self.sqlstate = self.default_sqlstate

    @property
    def message(self) -> str:
        """The text of the error, without its hint."""
        return str(self.args[0])


class InvalidArgument(SteadyTextError):
    """A value is of the wrong type, outside its range, or empty where a text is needed."""

    default_sqlstate = "22023"


class TextTooLong(SteadyTextError):
    """A text does not fit the model's context window."""

    default_sqlstate = "22001"


class NotFound(SteadyTextError):
    """What was named does not exist, or is not the caller's."""

    default_sqlstate = "P0002"


class UnknownModel(NotFound):
    """No model of that name is in the catalogue."""


class ModelFailed(SteadyTextError):
    """A model's file is missing or damaged, or the model failed while it ran."""

    default_sqlstate = "58000"


class Busy(SteadyTextError):
    """A queue is full; trying again later may succeed."""

    default_sqlstate = "53400"


class DeadlineExceeded(SteadyTextError):
    """The caller's time ran out before the answer was ready."""

    default_sqlstate = "57014"


class Cancelled(SteadyTextError):
    """The caller withdrew the request."""

    default_sqlstate = "57014"


class DaemonUnavailable(SteadyTextError):
    """The daemon cannot be reached, or went away before it answered."""

    default_sqlstate = "08001"


class DaemonLost(DaemonUnavailable):
    """The daemon went away while it worked on the request."""


class NotAllowed(SteadyTextError):
    """The caller has no right to what was asked."""

    default_sqlstate = "42501"


_BY_SQLSTATE: dict[str, type[SteadyTextError]] = {
    "22004": InvalidArgument,
    **{
        kind.default_sqlstate: kind
        for kind in (
            InvalidArgument,
            TextTooLong,
            NotFound,
            ModelFailed,
            Busy,
            DeadlineExceeded,
            DaemonUnavailable,
            NotAllowed,
        )
    },
}


def from_sqlstate(sqlstate: str | None, message: str, hint: str | None = None) -> SteadyTextError:
    """Rebuild the error that a daemon reported; an unknown code becomes ModelFailed."""
    return _BY_SQLSTATE.get(sqlstate or "", ModelFailed)(message, hint=hint)
