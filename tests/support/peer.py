"""A daemon of a test's own words, which is gone with its last answer."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import orjson
import zmq

from pg_steadytext.daemon import wire

Answer = Callable[[str], list[bytes]]
"""The replies to a request, by its id."""


def pieces(request_id: str) -> list[bytes]:
    """The stream of a text of three pieces."""
    end = {"done": True, "model": "m", "digest": "d", "finish_reason": "stop"}
    return [*(wire.reply(request_id, {"piece": piece}) for piece in "abc"), wire.reply(request_id, end)]


@contextmanager
def peer(port: int, *answers: Answer) -> Iterator[threading.Thread]:
    """Answer so many requests at a port of loopback; the thread ends when the last answer has been sent."""
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    socket = context.socket(zmq.ROUTER)
    socket.linger = 1000
    socket.rcvtimeo = 10_000
    socket.bind(f"tcp://127.0.0.1:{port}")

    def serve() -> None:
        for answer in answers:
            route, _, body = socket.recv_multipart()
            for reply in answer(orjson.loads(body)["id"]):
                socket.send_multipart([route, b"", reply])
        socket.close()
        context.term()

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield thread
    finally:
        thread.join()
