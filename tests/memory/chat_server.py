"""A stand-in for a chat model behind an OpenAI-compatible endpoint: it says what it was told."""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class ChatServer(ThreadingHTTPServer):
    """Listens on a free port; `asked` holds the messages of every request."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.asked: list[list[dict[str, Any]]] = []
        threading.Thread(target=self.serve_forever, daemon=True).start()

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self.server_port}/v1"


class Handler(BaseHTTPRequestHandler):
    """Answers every completion."""

    def do_POST(self) -> None:
        """Answer with the last message's words."""
        assert isinstance(self.server, ChatServer)
        wish = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.asked.append(wish["messages"])
        said = {"role": "assistant", "content": f"You asked: {wish['messages'][-1]['content']}"}
        body = json.dumps({
            "id": "1", "object": "chat.completion", "created": 1, "model": wish["model"],
            "choices": [{"index": 0, "message": said, "finish_reason": "stop"}],
        }).encode()  # fmt: skip
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 (the base class names it)
        """Say nothing."""
