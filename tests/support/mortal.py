"""A daemon's stand-in, in a process of its own: it answers by the real protocol, and a certain word ends it.

Run as a module it serves a port; `kept_alive` starts it again whenever it has died, as a supervisor does.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import orjson
import zmq

from pg_steadytext.daemon import wire

POISON = "poison"
VECTOR = "[" + ",".join(["1"] + ["0"] * 383) + "]"
DESCRIPTION = '{"title": "A note", "tags": ["note"], "facts": []}'
"""What is found in a memory."""
WORK_SECONDS = 0.1


def answer(method: str, params: dict[str, Any]) -> Any:
    """The result of a call, without a model."""
    source = {"model": "m", "digest": "d"}
    if method == "embed_batch":
        return {"embeddings": [VECTOR] * len(params["texts"]), "dimensions": 384, **source}
    if method == "generate":
        counts = {"prompt_tokens": 1, "completion_tokens": 1}
        text = DESCRIPTION if "schema" in params else params["prompt"].upper()
        return {"text": text, "finish_reason": "stop", **counts, **source}
    return {"ping": "pong", "status": {"pid": os.getpid()}}.get(method, {})


def serve(port: int) -> None:
    """Answer what has come, each time after a while of work; the word kills it with all that it works on."""
    socket: zmq.Socket[bytes] = zmq.Context.instance().socket(zmq.ROUTER)
    socket.bind(f"tcp://127.0.0.1:{port}")
    while socket.poll():
        time.sleep(WORK_SECONDS)
        work = []
        while socket.poll(0):
            route, _, body = socket.recv_multipart()
            work.append((route, orjson.loads(body)))
        if any(POISON in orjson.dumps(request["params"]).decode() for _, request in work):
            os.kill(os.getpid(), signal.SIGKILL)
        for route, request in work:
            found = answer(request["method"], request["params"])
            socket.send_multipart([route, b"", wire.reply(request["id"], found)])


@contextmanager
def kept_alive(port: int) -> Iterator[list[int]]:
    """Have a stand-in at a port; the exit statuses of those that died come into the list."""
    deaths: list[int] = []
    ended = threading.Event()
    running: list[subprocess.Popen[bytes]] = []

    def keep() -> None:
        while not ended.is_set():
            running.append(subprocess.Popen([sys.executable, "-m", __name__, str(port)]))
            deaths.append(running[-1].wait())

    keeper = threading.Thread(target=keep)
    keeper.start()
    try:
        yield deaths
    finally:
        ended.set()
        while keeper.is_alive():
            for process in running[-1:]:
                process.kill()
            keeper.join(0.1)


if __name__ == "__main__":
    serve(int(sys.argv[1]))
