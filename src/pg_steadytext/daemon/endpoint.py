"""The daemon's ZeroMQ socket inside the event loop.

pyzmq's own asyncio sockets cost a future per message; here the socket's descriptor is watched directly, which keeps the
cost of a short request low. The descriptor is edge-triggered: after every receive and send the socket's own events say
whether more is waiting.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import zmq
import zmq.auth
from zmq.auth.asyncio import AsyncioAuthenticator

from pg_steadytext.daemon.options import DaemonOptions, is_local
from pg_steadytext.daemon.peers import Peers, has_input
from pg_steadytext.errors import DaemonUnavailable

HEARTBEAT_MS = 10_000
BURST = 64

OnMessage = Callable[[list[bytes], bytes], None]
"""Called with a message's envelope (routing id first) and its body."""


class Endpoint:
    """A bound ROUTER socket: messages in by callback, replies out by send()."""

    def __init__(self, options: DaemonOptions, on_message: OnMessage, on_gone: Callable[[bytes], None]) -> None:
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._socket = self._context.socket(zmq.ROUTER)
        self._socket.linger = 1000
        self._socket.setsockopt(zmq.ROUTER_MANDATORY, 1)
        self._socket.setsockopt(zmq.MAXMSGSIZE, options.max_message_bytes)
        self._socket.setsockopt(zmq.SNDHWM, 10_000)
        self._socket.setsockopt(zmq.RCVHWM, 10_000)
        self._socket.setsockopt(zmq.TCP_KEEPALIVE, 1)
        self._socket.setsockopt(zmq.IPV6, "[" in options.address)
        if not is_local(options.address):
            self._socket.setsockopt(zmq.HEARTBEAT_IVL, HEARTBEAT_MS)
        self._authenticator = self._require_keys(options)
        self._peers = Peers(self._socket, on_gone)
        self._on_message = on_message
        try:
            self._socket.bind(options.address)
        except zmq.ZMQError as error:
            self._context.destroy(linger=0)
            raise DaemonUnavailable(
                f"{options.address} cannot be bound: {error}",
                hint="another daemon may be running there; choose another port",
            ) from error
        self.address = self._socket.getsockopt_string(zmq.LAST_ENDPOINT)
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(descriptor(self._socket), self._readable)
        self._loop.add_reader(descriptor(self._peers.monitor), self._peers.drain)
        self._open = True

    def _require_keys(self, options: DaemonOptions) -> AsyncioAuthenticator | None:
        if options.curve_secret is None or options.curve_clients is None:
            return None
        authenticator = AsyncioAuthenticator(zmq.asyncio.Context.shadow(self._context.underlying))
        authenticator.start()
        authenticator.configure_curve(domain="*", location=str(options.curve_clients))
        public, secret = zmq.auth.load_certificate(options.curve_secret)
        self._socket.curve_publickey = public
        self._socket.curve_secretkey = secret or b""
        self._socket.curve_server = True
        return authenticator

    @property
    def connections(self) -> int:
        """How many peers have sent a message and are still connected."""
        return len(self._peers)

    def _readable(self) -> None:
        if not self._open:
            return
        for _ in range(BURST):
            try:
                frames = self._socket.recv_multipart(zmq.NOBLOCK, copy=False)
            except zmq.Again:
                return
            self._peers.drain()
            if self._peers.seen(frames[0].bytes, int(frames[-1].get(zmq.SRCFD))):
                self._on_message([frame.bytes for frame in frames[:-1]], frames[-1].bytes)
        self._loop.call_soon(self._readable)

    def send(self, envelope: list[bytes], body: bytes) -> bool:
        """Send a reply; False where its peer is gone or takes no more."""
        if not self._open:
            return False
        try:
            self._socket.send_multipart([*envelope, body], zmq.NOBLOCK)
        except zmq.ZMQError as error:
            if error.errno in (zmq.EHOSTUNREACH, zmq.EAGAIN):
                return False
            raise
        finally:
            if has_input(self._socket):
                self._loop.call_soon(self._readable)
        return True

    def close(self) -> None:
        """Send what is waiting and close."""
        self._open = False
        self._loop.remove_reader(descriptor(self._socket))
        self._loop.remove_reader(descriptor(self._peers.monitor))
        if self._authenticator is not None:
            self._authenticator.stop()
        self._socket.disable_monitor()
        self._peers.monitor.close(linger=0)
        self._socket.close()
        self._context.term()


def descriptor(socket: zmq.Socket[bytes]) -> int:
    """The file descriptor to watch for a socket's events."""
    return int(socket.getsockopt(zmq.FD))
