"""The text that llama.cpp makes of a conversation, by the model's chat template.

Only llama.cpp's HTTP interface tells it, and only its listener speaks that: a Unix socket whose name is gone as soon as
the server stands. A descriptor of the socket's file still leads there, this process alone.
"""

from __future__ import annotations

import http.client
import os
import socket
import weakref
from pathlib import Path
from typing import Any

import orjson

from pg_steadytext.errors import ModelFailed

TIMEOUT_SECONDS = 30.0
ASKED = ("messages", "chat_template_kwargs", "reasoning_format")


class Template:
    """The chat template of the server that listens on a socket. Make it before the socket's name is removed."""

    def __init__(self, listener: Path) -> None:
        self._descriptor = os.open(listener, os.O_PATH | os.O_CLOEXEC)
        weakref.finalize(self, os.close, self._descriptor)

    def write(self, request: dict[str, Any]) -> str:
        """The prompt that a chat completion's conversation becomes. Raises ModelFailed."""
        connection = _Connection(f"/proc/self/fd/{self._descriptor}")
        body = orjson.dumps({name: request[name] for name in ASKED if name in request})
        try:
            connection.request("POST", "/apply-template", body, {"Content-Type": "application/json"})
            answer = orjson.loads(connection.getresponse().read())
        except (OSError, http.client.HTTPException, orjson.JSONDecodeError) as error:
            raise ModelFailed(f"llama.cpp did not write the prompt: {error!r}") from error
        finally:
            connection.close()
        if "prompt" not in answer:
            raise ModelFailed(f"llama.cpp did not write the prompt: {answer}")
        return str(answer["prompt"])


class _Connection(http.client.HTTPConnection):
    """HTTP over a Unix socket."""

    def __init__(self, address: str) -> None:
        super().__init__("localhost", timeout=TIMEOUT_SECONDS)
        self._address = address

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(TIMEOUT_SECONDS)
        self.sock.connect(self._address)
