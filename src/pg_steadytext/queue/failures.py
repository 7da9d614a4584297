"""What an error means for the request that met it."""

from __future__ import annotations

from pg_steadytext.errors import Busy, DaemonLost, DaemonUnavailable, SteadyTextError
from pg_steadytext.queue.jobs import Failure, Outcome, Postponed

DAEMON_PAUSE = 1.0
PERMANENT_CLASSES = ("22",)
PERMANENT = ("P0002", "42501")


def is_permanent(sqlstate: str) -> bool:
    """Whether another attempt would meet the same error: the request itself is at fault."""
    return sqlstate[:2] in PERMANENT_CLASSES or sqlstate in PERMANENT


def is_of_daemon(error: Exception) -> bool:
    """Whether the daemon was missing or full, which is not the request's doing."""
    return isinstance(error, DaemonUnavailable | Busy)


def judged(error: Exception) -> Outcome:
    """The outcome of an attempt that raised `error`."""
    if isinstance(error, DaemonLost):
        loss = Failure(error.sqlstate, f"{error.message}, with nothing else in work", retryable=True)
        return Postponed(DAEMON_PAUSE, for_daemon=True, loss=loss)
    if is_of_daemon(error):
        return Postponed(DAEMON_PAUSE, for_daemon=True)
    if isinstance(error, SteadyTextError):
        return Failure(error.sqlstate, error.message, not is_permanent(error.sqlstate))
    return Failure("XX000", f"{type(error).__name__}: {error}", retryable=True)
