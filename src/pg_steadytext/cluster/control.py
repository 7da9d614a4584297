"""The supervisor's control socket: one JSON line in, one JSON line out, on a Unix stream socket.

``{"command": "status"}`` or ``{"command": "start" | "stop" | "restart", "service": NAME}``; the answer is
``{"ok": true, "services": {...}}`` or ``{"ok": false, "error": TEXT}``. Who may open the socket may command.
"""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pg_steadytext.errors import DaemonUnavailable

LONGEST_LINE = 4096

Handler = Callable[[dict[str, Any]], dict[str, Any]]


def ask(path: Path, command: str, service: str | None = None, *, timeout: float = 5.0) -> dict[str, Any]:
    """Send one command to a running supervisor and return its answer.

    Raises ``DaemonUnavailable`` when nobody answers, or when the supervisor refuses.
    """
    request = {"command": command} | ({"service": service} if service else {})
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.settimeout(timeout)
            connection.connect(str(path))
            connection.sendall(json.dumps(request).encode() + b"\n")
            with connection.makefile("rb") as reader:
                answer: dict[str, Any] = json.loads(reader.readline())
    except (OSError, ValueError) as error:
        raise DaemonUnavailable(f"the supervisor does not answer on {path}: {error}", hint="Run make up.") from error
    if not answer.get("ok"):
        raise DaemonUnavailable(f"the supervisor refused {command!r}: {answer.get('error')}")
    return answer


def listen(path: Path) -> socket.socket:
    """Open the control socket for its owner and group; a socket file that a dead supervisor left is replaced.

    The file takes its place only when somebody listens behind it: a client that finds it is never refused.
    """
    unready = path.with_suffix(".new")
    unready.unlink(missing_ok=True)
    server = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    mask = os.umask(0o117)
    try:
        server.bind(str(unready))
    finally:
        os.umask(mask)
    server.listen(64)
    server.setblocking(False)
    unready.replace(path)
    return server


@dataclass(slots=True)
class Conversation:
    """One client of the control socket; it is heard once and then let go."""

    connection: socket.socket
    give_up: float
    received: bytes = b""

    def read(self, handle: Handler) -> bool:
        """Take in what has arrived and answer a complete line; return True when the conversation is over."""
        try:
            data = self.connection.recv(LONGEST_LINE)
        except BlockingIOError:
            return False
        except OSError:
            return True
        self.received += data
        if b"\n" not in self.received:
            return not data or len(self.received) > LONGEST_LINE
        answer = answer_line(self.received.split(b"\n", 1)[0], handle)
        try:
            self.connection.sendall(answer)
        except OSError:
            return True
        return True


def answer_line(line: bytes, handle: Handler) -> bytes:
    """Turn one request line into its answer line."""
    try:
        request = json.loads(line)
    except (ValueError, RecursionError):
        request = None
    if not isinstance(request, dict):
        return b'{"ok": false, "error": "a request is one JSON object on one line"}\n'
    if not all(isinstance(request.get(key), str | None) for key in ("command", "service")):
        return b'{"ok": false, "error": "command and service are texts"}\n'
    return json.dumps(handle(request)).encode() + b"\n"
