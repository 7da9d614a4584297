"""A queued request as its submitter holds it, in an event loop."""

# ruff: noqa: ASYNC109 (the same timeout as the blocking client's)

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Awaitable, Collection
from typing import Any, Generic, TypeVar
from uuid import UUID

from pg_steadytext.client._assembly import Assembly
from pg_steadytext.client._errors import ResultTimeout, UnknownRequest
from pg_steadytext.client._link import Link
from pg_steadytext.client._outcome import Outcome, Status
from pg_steadytext.client._pieces import Pieces, Streams
from pg_steadytext.client._waiting import Waiting
from pg_steadytext.errors import SteadyTextError

T = TypeVar("T")
R = TypeVar("R")


class AsyncRequest(Generic[T]):
    """A queued request. ``id`` finds it again from anywhere: ``client.request(id)``."""

    def __init__(
        self, request_id: UUID, link: Link, waiting: Waiting, streams: Streams, pieces: Pieces | None = None
    ) -> None:
        self.id = request_id
        self._link = link
        self.waiting = waiting
        self._streams = streams
        self._pieces = pieces
        self._outcome: Outcome | None = None

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.id}>"

    async def result(self, timeout: float | None = None) -> T:
        """Wait for the request to end and return its result: a text, an embedding, or documents with scores.

        ``timeout`` is in seconds. Raises ``RequestFailed``, ``RequestCancelled``, ``UnknownRequest`` or, when the time
        is up, ``ResultTimeout``: the request then goes on, and may be waited for again.
        """
        async for _ in completed([self], timeout):
            pass
        return self.settled()

    async def status(self) -> Status:
        """Return ``pending``, ``processing``, ``completed``, ``failed`` or ``cancelled``. Raises ``UnknownRequest``."""
        if self.is_complete:
            return "completed"
        found: Status = await self._ask("status")
        return found

    async def cancel(self) -> bool:
        """Cancel the request; False when it had ended already. Raises ``UnknownRequest``."""
        return bool(await self._ask("cancel"))

    async def stream(self, timeout: float | None = None) -> AsyncGenerator[str]:
        """Yield the text in pieces, as the model makes them where the request was queued with ``stream=True``.

        Pieces that got lost, and all of them where it was not, come with the finished text: put together they are
        always ``result()``. ``timeout`` is for the whole text, in seconds. Raises what ``result`` raises, and
        ``StreamDiverged`` when a second attempt made another text than the first.
        """
        assembly = Assembly()
        until = Deadline(timeout)
        taken = 0
        pieces = self._pieces = self._pieces or self._streams.of(self.id)
        with self.waiting.awaiting([self.id]) as outcomes:
            outcome = outcomes[self.id]
            outcome.add_done_callback(lambda _: pieces.wake())
            while not outcome.done() or taken < len(pieces.received):
                if taken == len(pieces.received):
                    await until.limit(pieces.more(), [self.id])
                    continue
                piece = assembly.add(*pieces.received[taken])
                taken += 1
                if piece:
                    yield piece
        self.settle(outcome.result())
        rest = assembly.finish(str(self.settled()))
        if rest:
            yield rest

    def settle(self, outcome: Outcome) -> None:
        """Keep how the request ended."""
        self._outcome = outcome
        self._streams.close(self.id)

    def settled(self) -> T:
        """Return the result that is here, or raise why there is none."""
        assert self._outcome is not None
        value: T = self._outcome.value()
        return value

    async def _ask(self, statement: str) -> Any:
        try:
            rows = await self._link.run(lambda session: session.rows(statement, {"id": self.id}))
        except SteadyTextError as error:
            if error.sqlstate == UnknownRequest.default_sqlstate:
                raise UnknownRequest(self.id) from error
            raise
        return rows[0][0]

    @property
    def is_complete(self) -> bool:
        """Whether the result is here; other ends may be undone by an administrator's retry, so they are not kept."""
        return self._outcome is not None and self._outcome.status == "completed"


class Deadline:
    """A moment ``seconds`` from now, or none."""

    def __init__(self, seconds: float | None) -> None:
        self._seconds = seconds
        self._until = None if seconds is None else time.monotonic() + seconds

    async def limit(self, waited_for: Awaitable[R], missing: Collection[UUID]) -> R:
        """Await until the moment. Raises ``ResultTimeout`` about the missing requests."""
        left = None if self._until is None else max(0.0, self._until - time.monotonic())
        try:
            async with asyncio.timeout(left):
                return await waited_for
        except TimeoutError:
            what = f"request {next(iter(missing))}" if len(missing) == 1 else f"{len(missing)} requests"
            raise ResultTimeout(
                f"{what} did not end within {self._seconds:g} s", hint="They go on: wait again, or cancel them."
            ) from None


async def completed(requests: Collection[AsyncRequest[T]], timeout: float | None) -> AsyncGenerator[AsyncRequest[T]]:
    """Yield requests in the order in which they end. Raises ``ResultTimeout``."""
    until = Deadline(timeout)
    missing: dict[UUID, list[AsyncRequest[T]]] = {}
    here = []
    for request in requests:
        if request.is_complete:
            here.append(request)
        else:
            missing.setdefault(request.id, []).append(request)
    for request in here:
        yield request
    if not missing:
        return
    waiting = next(iter(missing.values()))[0].waiting
    ended: asyncio.Queue[asyncio.Future[Outcome]] = asyncio.Queue()
    with waiting.awaiting(missing) as outcomes:
        for outcome in outcomes.values():
            outcome.add_done_callback(ended.put_nowait)
        while missing:
            found = (await until.limit(ended.get(), missing)).result()
            for request in missing.pop(found.request_id):
                request.settle(found)
                yield request
