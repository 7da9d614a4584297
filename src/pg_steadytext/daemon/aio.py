"""An asyncio client for the daemon: one connection for any number of calls at once.

    async with AsyncDaemonClient("tcp://127.0.0.1:5555") as daemon:
        texts = await asyncio.gather(*(daemon.generate(prompt) for prompt in prompts))

Its calls, results and errors are those of DaemonClient. A call that is cancelled is cancelled in the daemon too, and a
lost connection ends every call with DaemonUnavailable; the next call finds a new one.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncGenerator, Callable, Sequence
from typing import Any

from pg_steadytext.daemon import wire
from pg_steadytext.daemon.calls import (
    ACK_EVERY,
    CONNECT_MS,
    GRACE_MS,
    ClientKeys,
    Embedded,
    Generated,
    StreamEnd,
    described,
)
from pg_steadytext.daemon.connection import Connection, Replies
from pg_steadytext.daemon.wire import Lane


class AsyncDaemonClient:
    """Calls the daemon at a ZeroMQ address, from one event loop.

    `timeout_ms` bounds every call that names no other deadline; `on_change` is called with True whenever the connection
    has been made and with False whenever it was lost.
    """

    def __init__(
        self,
        address: str = "tcp://127.0.0.1:5555",
        *,
        timeout_ms: int = 300_000,
        connect_ms: int = CONNECT_MS,
        keys: ClientKeys | None = None,
        on_change: Callable[[bool], None] | None = None,
    ) -> None:
        self.address = address
        self.timeout_ms = timeout_ms
        self.on_change = on_change
        self._connect_seconds = connect_ms / 1000
        self._connection = Connection(address, keys, self._changed)

    async def __aenter__(self) -> AsyncDaemonClient:
        self.open()
        return self

    async def __aexit__(self, *_: object) -> None:
        self.close()

    def open(self) -> None:
        """Begin to connect; returns at once, and goes on trying until close(). A call does it too."""
        self._connection.open()

    def close(self) -> None:
        """Close the connection; the daemon drops what this client still waited for."""
        self._connection.close()

    # calls

    async def ping(self, *, timeout_ms: int = 2000) -> bool:
        """Whether the daemon answers. Raises DaemonUnavailable, DeadlineExceeded."""
        return bool(await self.call("ping", {}, deadline_ms=timeout_ms) == "pong")

    async def generate(
        self, prompt: str, *, deadline_ms: int | None = None, lane: Lane = "interactive", **params: Any
    ) -> Generated:
        """Generate a text; `params` are those of the wire: max_new_tokens, seed, temperature, eos_string, model, ..."""
        found = await self.call("generate", {"prompt": prompt, **params}, deadline_ms=deadline_ms, lane=lane)
        return described(Generated, found)

    async def stream(
        self, prompt: str, *, deadline_ms: int | None = None, lane: Lane = "interactive", **params: Any
    ) -> AsyncGenerator[str | StreamEnd]:
        """The pieces of a text as the model makes them, and at last its end. Closing the iterator stops the model."""
        until = self._until(deadline_ms)
        request_id, replies = await self._send("generate_stream", {"prompt": prompt, **params}, deadline_ms, lane)
        taken = 0
        try:
            while True:
                found = await replies.next(until)
                if found.get("done"):
                    yield described(StreamEnd, found)
                    return
                yield found["piece"]
                taken += 1
                if taken == ACK_EVERY:
                    self._connection.post(wire.request(request_id, "ack", {"pieces": taken}))
                    taken = 0
        except (asyncio.CancelledError, GeneratorExit):
            self._abandon(request_id)
            raise
        finally:
            self._connection.forget(request_id)

    async def embed_batch(
        self,
        texts: Sequence[str],
        *,
        model: str | None = None,
        deadline_ms: int | None = None,
        lane: Lane = "interactive",
        **params: Any,
    ) -> Embedded:
        """Embed texts, in input order."""
        given = {"texts": list(texts), "model": model, **params}
        return described(Embedded, await self.call("embed_batch", given, deadline_ms=deadline_ms, lane=lane))

    async def rerank(
        self,
        query: str,
        documents: Sequence[str],
        *,
        deadline_ms: int | None = None,
        lane: Lane = "interactive",
        **params: Any,
    ) -> list[tuple[str, float]]:
        """Documents with scores in [0, 1], best first."""
        given = {"query": query, "documents": list(documents), **params}
        found = await self.call("rerank", given, deadline_ms=deadline_ms, lane=lane)
        return [(document, score) for document, score in found]

    async def models(self) -> list[dict[str, Any]]:
        """The catalogue as the daemon sees it."""
        found: list[dict[str, Any]] = await self.call("models", {})
        return found

    async def stats(self) -> dict[str, Any]:
        """The daemon's metrics."""
        found: dict[str, Any] = await self.call("stats", {})
        return found

    async def status(self, *, timeout_ms: int = 2000) -> dict[str, Any]:
        """The daemon's version, process id, uptime and default models."""
        found: dict[str, Any] = await self.call("status", {}, deadline_ms=timeout_ms)
        return found

    async def cancel(self, request_id: str) -> bool:
        """Cancel a request of any client by its id; whether it was in flight."""
        return bool(await self.call("cancel", {"id": request_id}))

    async def call(
        self,
        method: str,
        params: dict[str, Any],
        *,
        deadline_ms: int | None = None,
        lane: Lane = "interactive",
        request_id: str | None = None,
    ) -> Any:
        """Send a request and wait for its result. Raises the daemon's error, DaemonUnavailable or DeadlineExceeded."""
        until = self._until(deadline_ms)
        request_id, replies = await self._send(method, params, deadline_ms, lane, request_id)
        try:
            return await replies.next(until)
        except asyncio.CancelledError:
            self._abandon(request_id)
            raise
        finally:
            self._connection.forget(request_id)

    # requests

    def _until(self, deadline_ms: int | None) -> float:
        milliseconds = GRACE_MS + (self.timeout_ms if deadline_ms is None else deadline_ms)
        return asyncio.get_running_loop().time() + milliseconds / 1000

    async def _send(
        self, method: str, params: dict[str, Any], deadline_ms: int | None, lane: Lane, request_id: str | None = None
    ) -> tuple[str, Replies]:
        await self._connection.ready(self._connect_seconds)
        request_id = request_id or str(uuid.uuid4())
        deadline = self.timeout_ms if deadline_ms is None else deadline_ms
        body = wire.request(request_id, method, params, deadline_ms=deadline, lane=lane)
        return request_id, self._connection.ask(request_id, body)

    def _abandon(self, request_id: str) -> None:
        """Cancel in the daemon what nobody here waits for any more."""
        if self._connection.forget(request_id):
            self._connection.post(wire.request(str(uuid.uuid4()), "cancel", {"id": request_id}))

    def _changed(self, connected: bool) -> None:
        if self.on_change is not None:
            self.on_change(connected)
