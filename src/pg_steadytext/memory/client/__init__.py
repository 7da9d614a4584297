"""A client of the memory service: ``MemoryClient``, and ``AsyncMemoryClient`` with the same methods to be awaited.

It needs nothing of the server's packages. What the service refuses is raised as ``Refused`` or a class below it, with
the members of the problem document.
"""

from pg_steadytext.memory.client._asynchronous import AsyncMemoryClient
from pg_steadytext.memory.client._errors import (
    Changed,
    CursorGone,
    LimitReached,
    NoSuchMemory,
    Refused,
    Unreachable,
)
from pg_steadytext.memory.client._synchronous import MemoryClient
from pg_steadytext.memory.client._types import (
    Change,
    Changes,
    Disagreement,
    Found,
    Imported,
    Memory,
    Operation,
    OperationResult,
    SearchResults,
)
from pg_steadytext.memory.client._types_more import Attachment, Inbox, Link, Reminder, Version

__all__ = [
    "AsyncMemoryClient", "Attachment", "Change", "Changed", "Changes", "CursorGone", "Disagreement", "Found",
    "Imported", "Inbox", "LimitReached", "Link", "Memory", "MemoryClient", "NoSuchMemory", "Operation",
    "OperationResult", "Refused", "Reminder", "SearchResults", "Unreachable", "Version",
]  # fmt: skip
