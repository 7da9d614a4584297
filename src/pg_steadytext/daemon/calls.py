"""What the blocking and the asyncio client share: results, and how a socket and a reply become them."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any, TypeVar

import zmq
from zmq.utils.monitor import recv_monitor_message

from pg_steadytext.errors import DaemonLost, DaemonUnavailable, from_sqlstate

CONNECT_MS = 2000
GRACE_MS = 1000
ACK_EVERY = 8
CONNECTION_EVENTS = zmq.EVENT_HANDSHAKE_SUCCEEDED | zmq.EVENT_DISCONNECTED


@dataclass(frozen=True, slots=True)
class Generated:
    """A text with where it came from; `finish_reason` is "stop" or "length"."""

    text: str
    model: str
    digest: str
    finish_reason: str
    prompt_tokens: int
    completion_tokens: int


@dataclass(frozen=True, slots=True)
class Embedded:
    """Embeddings in input order, each in pgvector's text form, and the model they came from."""

    embeddings: list[str]
    model: str
    digest: str
    dimensions: int


@dataclass(frozen=True, slots=True)
class StreamEnd:
    """The end of a streamed text: where it came from."""

    model: str
    digest: str
    finish_reason: str


@dataclass(frozen=True, slots=True)
class ClientKeys:
    """CURVE keys, for a daemon on another machine: the server's public key, and this client's pair."""

    server_public: bytes
    public: bytes
    secret: bytes


Found = TypeVar("Found", Generated, Embedded, StreamEnd)


def dealer(context: zmq.Context[zmq.Socket[bytes]], address: str, keys: ClientKeys | None) -> zmq.Socket[bytes]:
    """A socket for the daemon at `address`, not yet connected.

    It keeps what is sent for a daemon that is not there: send once the connection is made, and close the socket when it
    is lost. (With IMMEDIATE it would keep nothing, but lose the answers that arrived just before the end as well.)
    """
    socket = context.socket(zmq.DEALER)
    socket.linger = 0
    socket.setsockopt(zmq.IPV6, "[" in address)
    if keys is not None:
        socket.curve_serverkey = keys.server_public
        socket.curve_publickey = keys.public
        socket.curve_secretkey = keys.secret
    return socket


def is_made(monitor: zmq.Socket[bytes], wait_ms: int) -> bool:
    """Whether the connection that `monitor` watches is made within so many milliseconds."""
    until = time.monotonic() + wait_ms / 1000
    while monitor.poll(max(0, int((until - time.monotonic()) * 1000))):
        if recv_monitor_message(monitor)["event"] == zmq.EVENT_HANDSHAKE_SUCCEEDED:
            return True
    return False


def result(reply: dict[str, Any]) -> Any:
    """The result that a reply carries. Raises the error that it carries instead."""
    if reply["error"] is not None:
        raise from_sqlstate(reply.get("code"), reply["error"], reply.get("hint"))
    return reply["result"]


def described(kind: type[Found], found: dict[str, Any]) -> Found:
    """The parts of a result that this client knows, in their class."""
    return kind(**{field: found[field] for field in kind.__slots__})


def unavailable(address: str, what: str) -> DaemonUnavailable:
    """The error of a daemon that is not there."""
    return DaemonUnavailable(f"the daemon at {address} {what}", hint="pg-steadytext daemon run starts one")


def lost(address: str, what: str) -> DaemonLost:
    """The error of a daemon that was there and is there no more."""
    return DaemonLost(unavailable(address, what).message, hint="pg-steadytext daemon run starts one")
