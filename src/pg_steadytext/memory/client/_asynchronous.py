"""The client whose methods are awaited."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from datetime import datetime
from types import TracebackType
from typing import Literal, TypeVar, Unpack

import httpx2

from pg_steadytext.memory.client import _calls as calls
from pg_steadytext.memory.client._calls import Call, Form, Which
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
    SearchResults,
)

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

    async def search(
        self, query: str, *, mode: Literal["hybrid", "semantic", "keyword"] = "hybrid", limit: int = 10,
        tag: Sequence[str] | None = None, category: str | None = None, source: str | None = None,
        since: datetime | None = None, until: datetime | None = None, pinned: bool | None = None,
        floor: float | None = None, explain: bool = False,
    ) -> SearchResults:  # fmt: skip
        """Find memories by meaning and by words; ``explain`` asks for each arm's ranks."""
        return await self._run(calls.search(query, {
            "mode": mode, "limit": limit, "tag": tag, "category": category, "source": source, "since": since,
            "until": until, "pinned": pinned, "floor": floor, "explain": explain,
        }))  # fmt: skip

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
