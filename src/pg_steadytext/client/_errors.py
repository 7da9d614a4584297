"""What can go wrong with a queued request, beside the errors that every part of pg_steadytext raises."""

# ruff: noqa: N818 (the names say the case, as those of psycopg's and asyncio's do)

from __future__ import annotations

from typing import ClassVar
from uuid import UUID

import psycopg

from pg_steadytext.errors import (
    Cancelled,
    DeadlineExceeded,
    InvalidArgument,
    ModelFailed,
    SteadyTextError,
    from_sqlstate,
)

UNDEFINED_FUNCTION = "42883"


class RequestFailed(SteadyTextError):
    """The request has failed for good; ``code`` is the SQLSTATE of its last attempt, None where it is not told."""

    def __init__(self, message: str, *, request_id: UUID, code: str | None = None, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.request_id = request_id
        self.code = code
        self.sqlstate = code or self.default_sqlstate


class RequestCancelled(Cancelled):
    """The request was cancelled before it was done."""

    def __init__(self, request_id: UUID) -> None:
        super().__init__(f"request {request_id} was cancelled")
        self.request_id = request_id


class ResultTimeout(DeadlineExceeded, TimeoutError):
    """The result did not come in time; the request goes on, and may be waited for again."""


class UnknownRequest(SteadyTextError):
    """There is no such request: it was purged, it is another role's, or it never was."""

    default_sqlstate: ClassVar[str] = "P0002"

    def __init__(self, request_id: UUID) -> None:
        super().__init__(
            f"there is no request {request_id}",
            hint="Finished requests are kept for queue_retention_days, and each role sees its own only.",
        )
        self.request_id = request_id


class StreamDiverged(SteadyTextError):
    """Another attempt made another text than the one whose pieces were given out; ``result()`` returns it."""


class ServerUnavailable(SteadyTextError):
    """PostgreSQL cannot be reached, or went away before it answered."""

    default_sqlstate: ClassVar[str] = "08006"


class ClientClosed(SteadyTextError):
    """The client was closed, or its thread or event loop has ended."""

    default_sqlstate: ClassVar[str] = "08003"


def translated(error: psycopg.Error) -> SteadyTextError:
    """Return the error of ours that PostgreSQL's stands for; it keeps PostgreSQL's code, message and hint."""
    code = error.sqlstate
    message = error.diag.message_primary or str(error).strip()
    hint = error.diag.message_hint
    if code is None and not isinstance(error, psycopg.OperationalError | psycopg.InterfaceError):
        return InvalidArgument(message)
    if code == UNDEFINED_FUNCTION:
        hint = (
            "A keyword that it does not have, or a value of another type or beyond its range, made this call unknown."
        )
        return InvalidArgument(message, hint=hint)
    if code is None or code.startswith(("08", "57P")):
        return ServerUnavailable(f"PostgreSQL: {message}", hint=hint)
    known = from_sqlstate(code, message, hint)
    if isinstance(known, ModelFailed) and code[:2] == "22":
        known = InvalidArgument(message, hint=hint)
    known.sqlstate = code
    return known
