"""Knowing when a peer has gone.

ZeroMQ hides connections, so two of its signs are put together: each message tells the file descriptor it came over, and
the socket's monitor tells which descriptors were accepted and closed. Descriptors are reused, hence a connection is
counted anew with each accept, and the monitor is read before a message is attributed.
"""

from __future__ import annotations

from collections.abc import Callable

import zmq
from zmq.utils.monitor import recv_monitor_message

EVENTS = zmq.EVENT_ACCEPTED | zmq.EVENT_DISCONNECTED


def has_input(socket: zmq.Socket[bytes]) -> bool:
    """Whether a message is waiting."""
    return bool(int(socket.getsockopt(zmq.EVENTS)) & zmq.POLLIN)


class Peers:
    """Maps routing ids to connections; `on_gone` is called with each routing id whose connection has closed."""

    def __init__(self, socket: zmq.Socket[bytes], on_gone: Callable[[bytes], None]) -> None:
        self.monitor = socket.get_monitor_socket(EVENTS)
        self._on_gone = on_gone
        self._routes_of: dict[int, set[bytes]] = {}
        self._descriptor_of: dict[bytes, int] = {}
        self._open: set[int] = set()

    def drain(self) -> None:
        """Take every event that is waiting."""
        while has_input(self.monitor):
            event = recv_monitor_message(self.monitor, zmq.NOBLOCK)
            self._closed(event["value"])
            if event["event"] == zmq.EVENT_ACCEPTED:
                self._open.add(event["value"])

    def seen(self, route: bytes, descriptor: int) -> bool:
        """A message of `route` came over `descriptor`: whether its sender is still there.

        drain() must have been called after the message was received.
        """
        if descriptor not in self._open:
            return False
        if self._descriptor_of.get(route) == descriptor:
            return True
        self._forget(route)
        self._descriptor_of[route] = descriptor
        self._routes_of.setdefault(descriptor, set()).add(route)
        return True

    def _closed(self, descriptor: int) -> None:
        self._open.discard(descriptor)
        for route in self._routes_of.pop(descriptor, set()):
            self._descriptor_of.pop(route, None)
            self._on_gone(route)

    def _forget(self, route: bytes) -> None:
        old = self._descriptor_of.pop(route, None)
        if old is not None:
            self._routes_of.get(old, set()).discard(route)

    def __len__(self) -> int:
        return len(self._descriptor_of)
