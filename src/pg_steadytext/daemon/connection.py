"""One connection to a daemon inside the event loop, for any number of requests at once.

It is made when it is opened and again whenever it was lost; what was waiting then ends with DaemonUnavailable. As in
the daemon's endpoint, the sockets' descriptors are watched directly.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Any

import orjson
import zmq
from zmq.utils.monitor import recv_monitor_message

from pg_steadytext.daemon.calls import CONNECTION_EVENTS, ClientKeys, dealer, lost, result, unavailable
from pg_steadytext.daemon.options import is_local
from pg_steadytext.errors import DeadlineExceeded

RECONNECT_MS = 100
LONGEST_RECONNECT_MS = 1000
HEARTBEAT_MS = 10_000


class Replies:
    """The replies to one request, as they arrive; the last thing may be an error."""

    __slots__ = ("_arrived", "_items")

    def __init__(self) -> None:
        self._items: deque[dict[str, Any] | Exception] = deque()
        self._arrived = asyncio.Event()

    def put(self, item: dict[str, Any] | Exception) -> None:
        """A reply, or what happened instead of one."""
        self._items.append(item)
        self._arrived.set()

    async def next(self, until: float) -> Any:
        """The next reply's result. Raises its error, or DeadlineExceeded at the event loop's time `until`."""
        try:
            async with asyncio.timeout_at(until):
                while not self._items:
                    self._arrived.clear()
                    await self._arrived.wait()
        except TimeoutError:
            raise DeadlineExceeded("the daemon did not answer within the deadline") from None
        item = self._items.popleft()
        if isinstance(item, Exception):
            raise item
        return result(item)


class Connection:
    """A DEALER socket to the daemon at `address`.

    `on_change` is called with True whenever the connection has been made and with False whenever it was lost.
    """

    def __init__(self, address: str, keys: ClientKeys | None, on_change: Callable[[bool], None]) -> None:
        self.address = address
        self._keys = keys
        self._on_change = on_change
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._socket: zmq.Socket[bytes] | None = None
        self._monitor: zmq.Socket[bytes] | None = None
        self._connected = asyncio.Event()
        self._again: asyncio.TimerHandle | None = None
        self._waiting: dict[str, Replies] = {}

    def open(self) -> None:
        """Begin to connect; returns at once, and goes on trying until close()."""
        if self._socket is None:
            self._later(None)
            self._socket = dealer(self._context, self.address, self._keys)
            self._socket.setsockopt(zmq.RECONNECT_IVL, RECONNECT_MS)
            self._socket.setsockopt(zmq.RECONNECT_IVL_MAX, LONGEST_RECONNECT_MS)
            self._socket.setsockopt(zmq.SNDHWM, 0)
            if not is_local(self.address):
                self._socket.setsockopt(zmq.HEARTBEAT_IVL, HEARTBEAT_MS)
            self._monitor = self._socket.get_monitor_socket(CONNECTION_EVENTS)
            loop = asyncio.get_running_loop()
            loop.add_reader(descriptor(self._socket), self._readable)
            loop.add_reader(descriptor(self._monitor), self._changed)
            self._socket.connect(self.address)
            # a descriptor tells of news only once the socket has been found empty
            self._changed()
            self._readable()

    def close(self) -> None:
        """Close the connection; the daemon drops what this client still waited for."""
        self._later(None)
        self._close_sockets()
        self._lose("was left by this client")
        self._context.term()

    def _later(self, seconds: float | None) -> None:
        """Open again after so many seconds; None: no more."""
        if self._again is not None:
            self._again.cancel()
        self._again = None if seconds is None else asyncio.get_running_loop().call_later(seconds, self.open)

    def _close_sockets(self) -> None:
        socket, monitor = self._socket, self._monitor
        self._socket = self._monitor = None
        if socket is not None and monitor is not None:
            loop = asyncio.get_running_loop()
            loop.remove_reader(descriptor(socket))
            loop.remove_reader(descriptor(monitor))
            socket.disable_monitor()
            monitor.close(linger=0)
            socket.close(linger=0)

    async def ready(self, seconds: float) -> None:
        """Wait until there is a connection, at most so long. Raises DaemonUnavailable."""
        self.open()
        if not self._connected.is_set():
            try:
                async with asyncio.timeout(seconds):
                    await self._connected.wait()
            except TimeoutError:
                raise unavailable(self.address, "is not reachable") from None

    def ask(self, request_id: str, body: bytes) -> Replies:
        """Send a request; its replies come until they are forgotten. Raises DaemonUnavailable."""
        if not self.post(body):
            raise unavailable(self.address, "is not reachable")
        replies = self._waiting[request_id] = Replies()
        return replies

    def forget(self, request_id: str) -> bool:
        """Wait for no more replies; whether the request was still known."""
        return self._waiting.pop(request_id, None) is not None

    def post(self, body: bytes) -> bool:
        """Send a message that has no reply of its own; whether it was sent."""
        if self._socket is None or not self._connected.is_set():
            return False
        self._socket.send_multipart([b"", body], zmq.NOBLOCK)
        # sending may take the descriptor's edge for input that arrived meanwhile
        asyncio.get_running_loop().call_soon(self._readable)
        return True

    def _readable(self) -> None:
        while self._socket is not None:
            try:
                reply = orjson.loads(self._socket.recv_multipart(zmq.NOBLOCK)[-1])
            except zmq.Again:
                return
            replies = self._waiting.get(reply["id"])
            if replies is not None:
                replies.put(reply)

    def _changed(self) -> None:
        while self._monitor is not None:
            try:
                event = recv_monitor_message(self._monitor, zmq.NOBLOCK)["event"]
            except zmq.Again:
                return
            if event == zmq.EVENT_HANDSHAKE_SUCCEEDED:
                self._connected.set()
                self._on_change(True)
            elif event == zmq.EVENT_DISCONNECTED and self._connected.is_set():
                self._readable()  # an answer and the end of the connection may arrive together: the answer counts
                self._close_sockets()  # with what the next daemon would otherwise be sent
                self._later(RECONNECT_MS / 1000)
                self._lose("closed the connection before it answered")

    def _lose(self, why: str) -> None:
        waiting, self._waiting = self._waiting, {}
        for replies in waiting.values():
            replies.put(lost(self.address, why))
        if self._connected.is_set():
            self._connected.clear()
            self._on_change(False)


def descriptor(socket: zmq.Socket[bytes]) -> int:
    """The file descriptor to watch for a socket's events."""
    return int(socket.getsockopt(zmq.FD))
