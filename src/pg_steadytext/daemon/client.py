"""A blocking client for the daemon, for the command line, the worker and tests.

    with DaemonClient("tcp://127.0.0.1:5555") as daemon:
        daemon.generate("What is PostgreSQL?").text

A client is for one thread. It notices at once when the daemon is not there or goes away in the middle of a call
(DaemonUnavailable); errors of the daemon arrive as the exceptions of pg_steadytext.errors.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Generator, Sequence
from types import TracebackType
from typing import Any

import orjson
import zmq

from pg_steadytext.daemon import wire
from pg_steadytext.daemon.calls import (
    ACK_EVERY,
    CONNECT_MS,
    CONNECTION_EVENTS,
    GRACE_MS,
    ClientKeys,
    Embedded,
    Generated,
    dealer,
    described,
    is_made,
    result,
    unavailable,
)
from pg_steadytext.daemon.wire import Lane
from pg_steadytext.errors import DeadlineExceeded

__all__ = ["ClientKeys", "DaemonClient", "Embedded", "Generated"]


class DaemonClient:
    """Calls the daemon at a ZeroMQ address. `timeout_ms` bounds every call that names no other deadline."""

    def __init__(
        self,
        address: str = "tcp://127.0.0.1:5555",
        *,
        timeout_ms: int = 300_000,
        connect_ms: int = CONNECT_MS,
        keys: ClientKeys | None = None,
    ) -> None:
        self.address = address
        self.timeout_ms = timeout_ms
        self._connect_ms = connect_ms
        self._keys = keys
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._socket: zmq.Socket[bytes] | None = None
        self._monitor: zmq.Socket[bytes] | None = None

    def __enter__(self) -> DaemonClient:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection; the daemon drops what this client still waited for."""
        self._disconnect()
        self._context.term()

    # calls

    def ping(self, *, timeout_ms: int = 2000) -> bool:
        """Whether the daemon answers. Raises DaemonUnavailable, DeadlineExceeded."""
        return bool(self.call("ping", {}, deadline_ms=timeout_ms) == "pong")

    def generate(
        self, prompt: str, *, deadline_ms: int | None = None, lane: Lane = "interactive", **params: Any
    ) -> Generated:
        """Generate a text; `params` are those of the wire: max_new_tokens, seed, temperature, eos_string, model, ..."""
        found = self.call("generate", {"prompt": prompt, **params}, deadline_ms=deadline_ms, lane=lane)
        return described(Generated, found)

    def stream(self, prompt: str, *, deadline_ms: int | None = None, **params: Any) -> Generator[str]:
        """The pieces of a text as the model makes them. Closing the iterator cancels the generation."""
        request_id = self._send("generate_stream", {"prompt": prompt, **params}, deadline_ms, "interactive")
        until = self._until(deadline_ms)
        taken = 0
        finished = False
        try:
            while True:
                found = self._receive(request_id, until)
                if found.get("done"):
                    finished = True
                    return
                yield found["piece"]
                taken += 1
                if taken == ACK_EVERY:
                    self._post(wire.request(request_id, "ack", {"pieces": taken}))
                    taken = 0
        except BaseException:
            finished = finished or self._socket is None
            raise
        finally:
            if not finished and self._socket is not None:
                self._disconnect()

    def embed_batch(
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
        return described(Embedded, self.call("embed_batch", given, deadline_ms=deadline_ms, lane=lane))

    def rerank(
        self, query: str, documents: Sequence[str], *, deadline_ms: int | None = None, lane: Lane = "interactive"
    ) -> list[tuple[str, float]]:
        """Documents with scores in [0, 1], best first."""
        given = {"query": query, "documents": list(documents)}
        found = self.call("rerank", given, deadline_ms=deadline_ms, lane=lane)
        return [(document, score) for document, score in found]

    def cancel(self, request_id: str) -> bool:
        """Cancel a request of any client by its id; whether it was in flight."""
        return bool(self.call("cancel", {"id": request_id}))

    def models(self) -> list[dict[str, Any]]:
        """The catalogue as the daemon sees it."""
        found: list[dict[str, Any]] = self.call("models", {})
        return found

    def stats(self) -> dict[str, Any]:
        """The daemon's metrics."""
        found: dict[str, Any] = self.call("stats", {})
        return found

    def status(self, *, timeout_ms: int = 2000) -> dict[str, Any]:
        """The daemon's version, process id, uptime and default models."""
        found: dict[str, Any] = self.call("status", {}, deadline_ms=timeout_ms)
        return found

    def shutdown(self) -> None:
        """Ask the daemon to stop gracefully."""
        self.call("shutdown", {}, deadline_ms=2000)

    def call(
        self,
        method: str,
        params: dict[str, Any],
        *,
        deadline_ms: int | None = None,
        lane: Lane = "interactive",
        request_id: str | None = None,
    ) -> Any:
        """Send a request and wait for its result. Raises the daemon's error, DaemonUnavailable or DeadlineExceeded."""
        request_id = self._send(method, params, deadline_ms, lane, request_id)
        return self._receive(request_id, self._until(deadline_ms))

    # the connection

    def _until(self, deadline_ms: int | None) -> float:
        return time.monotonic() + (GRACE_MS + (self.timeout_ms if deadline_ms is None else deadline_ms)) / 1000

    def _send(
        self,
        method: str,
        params: dict[str, Any],
        deadline_ms: int | None,
        lane: Lane,
        request_id: str | None = None,
    ) -> str:
        request_id = request_id or str(uuid.uuid4())
        deadline = self.timeout_ms if deadline_ms is None else deadline_ms
        self._connect()
        self._post(wire.request(request_id, method, params, deadline_ms=deadline, lane=lane))
        return request_id

    def _post(self, body: bytes) -> None:
        if self._socket is None:
            raise unavailable(self.address, "is not connected")
        try:
            self._socket.send_multipart([b"", body], zmq.NOBLOCK)
        except zmq.Again:
            self._disconnect()
            raise unavailable(self.address, "takes no more requests") from None

    def _receive(self, request_id: str, until: float) -> Any:
        socket, monitor = self._socket, self._monitor
        if socket is None or monitor is None:
            raise unavailable(self.address, "is not connected")
        poller = zmq.Poller()
        poller.register(socket, zmq.POLLIN)
        poller.register(monitor, zmq.POLLIN)
        while True:
            ready = dict(poller.poll(max(0, int((until - time.monotonic()) * 1000))))
            # an answer and the end of the connection may arrive together: the answer counts
            if socket in ready or (monitor in ready and socket.poll(0)):
                reply = orjson.loads(socket.recv_multipart()[-1])
                if reply["id"] == request_id:
                    return result(reply)
            elif monitor in ready:
                self._disconnect()
                raise unavailable(self.address, "closed the connection before it answered")
            else:
                self._disconnect()
                raise DeadlineExceeded("the daemon did not answer within the deadline")

    def _connect(self) -> None:
        """Have a connection: another one where the daemon has gone since the last call."""
        if self._monitor is not None and self._monitor.poll(0):
            self._disconnect()
        if self._socket is None:
            self._socket = dealer(self._context, self.address, self._keys)
            self._monitor = self._socket.get_monitor_socket(CONNECTION_EVENTS)
            self._socket.connect(self.address)
            if not is_made(self._monitor, self._connect_ms):
                self._disconnect()
                raise unavailable(self.address, "is not reachable")

    def _disconnect(self) -> None:
        socket, monitor = self._socket, self._monitor
        self._socket = self._monitor = None
        if socket is not None and monitor is not None:
            socket.disable_monitor()
            monitor.close(linger=0)
            socket.close(linger=0)
