"""The client that waits."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from datetime import datetime
from types import TracebackType
from typing import Literal, TypeVar, Unpack
from uuid import UUID

import httpx2

from pg_steadytext.memory.client import _calls as calls
from pg_steadytext.memory.client import _calls_more as more
from pg_steadytext.memory.client._calls import Call, Form, Which
from pg_steadytext.memory.client._calls_more import WhichReminder
from pg_steadytext.memory.client._errors import Unreachable
from pg_steadytext.memory.client._types import (
    Changes,
    Filters,
    Imported,
    Memory,
    NewFields,
    Operation,
    OperationResult,
    Patch,
    SearchOptions,
    SearchResults,
)
from pg_steadytext.memory.client._types_more import Attachment, Inbox, Link, Reminder, ReminderFields, Version

T = TypeVar("T")


class MemoryClient:
    """A connection to the memory service as one user.

    Without `url` and `key` they are ``STEADYTEXT_MEMORY_URL`` and ``STEADYTEXT_MEMORY_KEY``. A request without an
    answer, or answered 502, 503 or 504, is sent again `retries` times; each that changes something carries a key by
    which the service knows it again. Every method raises ``Refused`` or a class below it, and ``Unreachable``.
    """

    def __init__(
        self, url: str | None = None, key: str | None = None, *, timeout: float = 30.0, retries: int = 3,
        transport: httpx2.BaseTransport | None = None,
    ) -> None:  # fmt: skip
        self._http = httpx2.Client(**calls.settings(url, key), timeout=timeout, transport=transport)
        self._retries = retries

    def __enter__(self) -> MemoryClient:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close its connections."""
        self._http.close()

    def save(self, body: str, *, force: bool = False, **fields: Unpack[NewFields]) -> Memory:
        """Save a memory; one of the same text is returned instead of saved again, unless ``force``."""
        return self._run(calls.save(body, fields, force=force))

    def get(self, which: Which, *, trash: bool = False) -> Memory:
        """Read a memory, with ``trash`` also one in the trash."""
        return self._run(calls.get(which, trash=trash))

    def update(self, which: Which, *, version: int | None = None, **patch: Unpack[Patch]) -> Memory:
        """Change fields of the version that a ``Memory`` or ``version`` names; of any, when only an id is given.

        Raises ``Changed`` with the memory as it is now when somebody was quicker.
        """
        return self._run(calls.update(which, patch, version))

    def delete(self, which: Which, *, permanent: bool = False) -> None:
        """Put a memory into the trash, or delete it for good; a ``Memory`` only at its version."""
        self._run(calls.delete(which, permanent=permanent))

    def restore(self, which: Which) -> Memory:
        """Take a memory out of the trash."""
        return self._run(calls.restore(which))

    def list(self, *, page_size: int = 100, **filters: Unpack[Filters]) -> Iterator[Memory]:
        """Yield memories, the newest first, a page at a time."""
        cursor: str | None = None
        while True:
            items, cursor = self._run(calls.page(filters, page_size, cursor))
            yield from items
            if cursor is None:
                return

    def search(self, query: str, **options: Unpack[SearchOptions]) -> SearchResults:
        """Find memories by meaning and by words, the best first."""
        return self._run(calls.search(query, options))

    def export(self, form: Form = "jsonl") -> Iterator[str]:
        """Yield the memories that are not in the trash as text that ``import_all`` reads, piece by piece."""
        try:
            with self._http.stream("GET", "/v1/memories/export", params={"format": form}) as response:
                if not response.is_success:
                    response.read()
                    raise calls.problem_of(response)
                yield from response.iter_text()
        except httpx2.TransportError as error:
            raise Unreachable(f"the memory service does not answer: {error}", hint=calls.HINT) from error

    def import_all(self, text: str | bytes, form: Form = "jsonl", *, force: bool = False) -> Imported:
        """Save what an export gave, or Markdown: all of it or nothing."""
        return self._run(calls.import_all(text, form, force=force))

    def pull(self, since: str | None = None, *, limit: int = 100, wait: int = 0) -> Changes:
        """Read what has changed since a cursor, or from the beginning; ``wait`` up to 30 seconds for something.

        Raises ``CursorGone`` when everything must be read anew.
        """
        return self._run(calls.pull(since, limit, wait))

    def push(self, operations: Sequence[Operation]) -> Sequence[OperationResult]:
        """Carry out offline operations in their order; each takes effect once, however often it is pushed."""
        return [result for call in calls.push(operations) for result in self._run(call)]

    def history(self, which: Which, *, page_size: int = 50) -> Iterator[Version]:
        """Yield who changed what of a memory, the newest version first."""
        before: int | None = None
        while True:
            items, before = self._run(more.history(which, page_size, before))
            yield from items
            if before is None:
                return

    def links(self, which: Which) -> Sequence[Link]:
        """Read the links that lead from a memory."""
        return self._run(more.links(which))

    def link(self, which: Which, target: Which, kind: str = "related") -> Link:
        """Link a memory to another, or say anew what the link means."""
        return self._run(more.link(which, target, kind))

    def unlink(self, which: Which, target: Which) -> None:
        """Remove a link."""
        self._run(more.unlink(which, target))

    def attachments(self, which: Which) -> Sequence[Attachment]:
        """Read a memory's attachments with their text."""
        return self._run(more.attachments(which))

    def attach(self, which: Which, name: str, text: str, media_type: str = "text/plain") -> Attachment:
        """Attach a text, or replace the one of that name."""
        return self._run(more.attach(which, name, text, media_type))

    def detach(self, which: Which, name: str) -> None:
        """Remove an attachment."""
        self._run(more.detach(which, name))

    def remind(self, title: str, **fields: Unpack[ReminderFields]) -> Reminder:
        """Make a reminder: ``when="tomorrow at 9"``, or ``due_at``; ``rrule`` lets it recur."""
        return self._run(more.remind(title, fields))

    def reminder(self, which: WhichReminder) -> Reminder:
        """Read a reminder."""
        return self._run(more.reminder(which))

    def reminders(
        self, *, state: Literal["active", "done", "dismissed"] | None = None, memory_id: UUID | None = None,
        page_size: int = 50,
    ) -> Iterator[Reminder]:  # fmt: skip
        """Yield reminders, the newest first."""
        cursor: str | None = None
        while True:
            items, cursor = self._run(more.reminders({"state": state, "memory_id": memory_id}, page_size, cursor))
            yield from items
            if cursor is None:
                return

    def inbox(self, section: Literal["overdue", "today", "upcoming"] | None = None, *, limit: int = 200) -> Inbox:
        """Read what is overdue, due today and due later."""
        return self._run(more.inbox(section, limit))

    def done(self, which: WhichReminder) -> Reminder:
        """Say that an occurrence is done: a ``Reminder``'s at hand; with an id alone, the one that is due."""
        return self._run(more.answer(which, "done"))

    def dismiss(self, which: WhichReminder) -> Reminder:
        """Let an occurrence go undone."""
        return self._run(more.answer(which, "dismiss"))

    def snooze(
        self, which: WhichReminder, *, until: datetime | None = None, when: str | None = None,
        minutes: int | None = None,
    ) -> Reminder:  # fmt: skip
        """Let an occurrence wait: until a moment, one in words, or so many minutes."""
        return self._run(more.snooze(which, {"until": until, "when": when, "minutes": minutes}))

    def delete_reminder(self, which: WhichReminder) -> None:
        """Delete a reminder with its series; a ``Reminder`` only at its version."""
        self._run(more.delete_reminder(which))

    def _run(self, call: Call[T]) -> T:
        request = call.request(self._http)
        for attempt in range(self._retries + 1):
            try:
                response = self._http.send(request)
            except httpx2.TransportError as error:
                if attempt == self._retries:
                    raise Unreachable(f"the memory service does not answer: {error}", hint=calls.HINT) from error
            else:
                if attempt == self._retries or not calls.is_passing(response):
                    return calls.outcome(call, response, attempt)
            time.sleep(calls.pause(attempt))
        raise AssertionError("the last attempt returns or raises")
