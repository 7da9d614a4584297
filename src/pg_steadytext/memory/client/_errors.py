"""What the service refuses, with the members of its problem document."""

# ruff: noqa: N818 (the names say the case, as those of pg_steadytext.errors do)

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pg_steadytext.errors import SteadyTextError
from pg_steadytext.memory.client._types import Memory
from pg_steadytext.memory.client._types_more import Reminder


class Unreachable(SteadyTextError):
    """The service did not answer, however often it was asked."""


class Refused(SteadyTextError):
    """The service refused a request.

    `status` is the HTTP status, `kind` the last word of the problem's type, `title` and `message` say it to people, and
    `members` holds everything else that the problem document tells.
    """

    def __init__(self, status: int, problem: Mapping[str, Any], headers: Mapping[str, str]) -> None:
        detail = str(problem.get("detail") or f"the service answered {status}")
        super().__init__(detail)
        self.status = status
        self.type = str(problem.get("type", "about:blank"))
        self.kind = self.type.rpartition("/")[2]
        self.title = str(problem.get("title", ""))
        self.members = {
            name: value for name, value in problem.items() if name not in ("type", "title", "status", "detail")
        }
        after = headers.get("Retry-After", "")
        self.retry_after = int(after) if after.isdigit() else None


class NoSuchMemory(Refused):
    """404: there is no such object of this user."""


class Changed(Refused):
    """412: somebody changed the memory in the meantime; ``current`` is what it is now."""

    @property
    def current(self) -> Memory | Reminder:
        """The memory, or the reminder, as it is now."""
        told = self.members["current"]
        return Reminder.read(told) if "due_at" in told else Memory.read(told)


class LimitReached(Refused):
    """402 or 429: the plan's amount, or the day's, is used up; ``retry_after`` and ``members`` say what helps."""


class CursorGone(Refused):
    """410: it is no longer known what was deleted since the cursor; pull everything anew, without one."""


_KINDS: Mapping[int, type[Refused]] = {
    402: LimitReached, 404: NoSuchMemory, 410: CursorGone, 412: Changed, 429: LimitReached,
}  # fmt: skip


def refused(status: int, problem: Mapping[str, Any], headers: Mapping[str, str]) -> Refused:
    """Return the exception of a problem document."""
    return _KINDS.get(status, Refused)(status, problem, headers)
