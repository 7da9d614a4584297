"""The client whose methods are awaited."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
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


class AsyncMemoryClient:
    """A connection to the memory service as one user, for asyncio.

    What it takes, does again and raises is ``MemoryClient``'s.
    """

    def __init__(
        self, url: str | None = None, key: str | None = None, *, timeout: float = 30.0, retries: int = 3,
        transport: httpx2.AsyncBaseTransport | None = None,
    ) -> None:  # fmt: skip
        self._http = httpx2.AsyncClient(**calls.settings(url, key), timeout=timeout, transport=transport)
        self._retries = retries

    async def __aenter__(self) -> AsyncMemoryClient:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close its connections."""
        await self._http.aclose()

    async def save(self, body: str, *, force: bool = False, **fields: Unpack[NewFields]) -> Memory:
        """Save a memory; one of the same text is returned instead of saved again, unless ``force``."""
        return await self._run(calls.save(body, fields, force=force))

    async def get(self, which: Which, *, trash: bool = False) -> Memory:
        """Read a memory, with ``trash`` also one in the trash."""
        return await self._run(calls.get(which, trash=trash))

    async def update(self, which: Which, *, version: int | None = None, **patch: Unpack[Patch]) -> Memory:
        """Change fields of the version that a ``Memory`` or ``version`` names; of any, when only an id is given.

        Raises ``Changed`` with the memory as it is now when somebody was quicker.
        """
        return await self._run(calls.update(which, patch, version))

    async def delete(self, which: Which, *, permanent: bool = False) -> None:
        """Put a memory into the trash, or delete it for good; a ``Memory`` only at its version."""
        await self._run(calls.delete(which, permanent=permanent))

    async def restore(self, which: Which) -> Memory:
        """Take a memory out of the trash."""
        return await self._run(calls.restore(which))

    async def list(self, *, page_size: int = 100, **filters: Unpack[Filters]) -> AsyncIterator[Memory]:
        """Yield memories, the newest first, a page at a time."""
        cursor: str | None = None
        while True:
            items, cursor = await self._run(calls.page(filters, page_size, cursor))
            for item in items:
                yield item
            if cursor is None:
                return

    async def search(self, query: str, **options: Unpack[SearchOptions]) -> SearchResults:
        """Find memories by meaning and by words, the best first."""
        return await self._run(calls.search(query, options))

    async def export(self, form: Form = "jsonl") -> AsyncIterator[str]:
        """Yield the memories that are not in the trash as text that ``import_all`` reads, piece by piece."""
        try:
            async with self._http.stream("GET", "/v1/memories/export", params={"format": form}) as response:
                if not response.is_success:
                    await response.aread()
                    raise calls.problem_of(response)
                async for piece in response.aiter_text():
                    yield piece
        except httpx2.TransportError as error:
            raise Unreachable(f"the memory service does not answer: {error}", hint=calls.HINT) from error

    async def import_all(self, text: str | bytes, form: Form = "jsonl", *, force: bool = False) -> Imported:
        """Save what an export gave, or Markdown: all of it or nothing."""
        return await self._run(calls.import_all(text, form, force=force))

    async def pull(self, since: str | None = None, *, limit: int = 100, wait: int = 0) -> Changes:
        """Read what has changed since a cursor, or from the beginning; ``wait`` up to 30 seconds for something.

        Raises ``CursorGone`` when everything must be read anew.
        """
        return await self._run(calls.pull(since, limit, wait))

    async def push(self, operations: Sequence[Operation]) -> Sequence[OperationResult]:
        """Carry out offline operations in their order; each takes effect once, however often it is pushed."""
        return [result for call in calls.push(operations) for result in await self._run(call)]

    async def history(self, which: Which, *, page_size: int = 50) -> AsyncIterator[Version]:
        """Yield who changed what of a memory, the newest version first."""
        before: int | None = None
        while True:
            items, before = await self._run(more.history(which, page_size, before))
            for item in items:
                yield item
            if before is None:
                return

    async def links(self, which: Which) -> Sequence[Link]:
        """Read the links that lead from a memory."""
        return await self._run(more.links(which))

    async def link(self, which: Which, target: Which, kind: str = "related") -> Link:
        """Link a memory to another, or say anew what the link means."""
        return await self._run(more.link(which, target, kind))

    async def unlink(self, which: Which, target: Which) -> None:
        """Remove a link."""
        await self._run(more.unlink(which, target))

    async def attachments(self, which: Which) -> Sequence[Attachment]:
        """Read a memory's attachments with their text."""
        return await self._run(more.attachments(which))

    async def attach(self, which: Which, name: str, text: str, media_type: str = "text/plain") -> Attachment:
        """Attach a text, or replace the one of that name."""
        return await self._run(more.attach(which, name, text, media_type))

    async def detach(self, which: Which, name: str) -> None:
        """Remove an attachment."""
        await self._run(more.detach(which, name))

    async def remind(self, title: str, **fields: Unpack[ReminderFields]) -> Reminder:
        """Make a reminder: ``when="tomorrow at 9"``, or ``due_at``; ``rrule`` lets it recur."""
        return await self._run(more.remind(title, fields))

    async def reminder(self, which: WhichReminder) -> Reminder:
        """Read a reminder."""
        return await self._run(more.reminder(which))

    async def reminders(
        self, *, state: Literal["active", "done", "dismissed"] | None = None, memory_id: UUID | None = None,
        page_size: int = 50,
    ) -> AsyncIterator[Reminder]:  # fmt: skip
        """Yield reminders, the newest first."""
        cursor: str | None = None
        while True:
            items, cursor = await self._run(more.reminders({"state": state, "memory_id": memory_id}, page_size, cursor))
            for item in items:
                yield item
            if cursor is None:
                return

    async def inbox(self, section: Literal["overdue", "today", "upcoming"] | None = None, *, limit: int = 200) -> Inbox:
        """Read what is overdue, due today and due later."""
        return await self._run(more.inbox(section, limit))

    async def done(self, which: WhichReminder) -> Reminder:
        """Say that an occurrence is done: a ``Reminder``'s at hand; with an id alone, the one that is due."""
        return await self._run(more.answer(which, "done"))

    async def dismiss(self, which: WhichReminder) -> Reminder:
        """Let an occurrence go undone."""
        return await self._run(more.answer(which, "dismiss"))

    async def snooze(
        self, which: WhichReminder, *, until: datetime | None = None, when: str | None = None,
        minutes: int | None = None,
    ) -> Reminder:  # fmt: skip
        """Let an occurrence wait: until a moment, one in words, or so many minutes."""
        return await self._run(more.snooze(which, {"until": until, "when": when, "minutes": minutes}))

    async def delete_reminder(self, which: WhichReminder) -> None:
        """Delete a reminder with its series; a ``Reminder`` only at its version."""
        await self._run(more.delete_reminder(which))

    async def _run(self, call: Call[T]) -> T:
        request = call.request(self._http)
        for attempt in range(self._retries + 1):
            try:
                response = await self._http.send(request)
            except httpx2.TransportError as error:
                if attempt == self._retries:
                    raise Unreachable(f"the memory service does not answer: {error}", hint=calls.HINT) from error
            else:
                if attempt == self._retries or not calls.is_passing(response):
                    return calls.outcome(call, response, attempt)
            await asyncio.sleep(calls.pause(attempt))
        raise AssertionError("the last attempt returns or raises")
