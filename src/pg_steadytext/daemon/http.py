"""/metrics and /healthz over HTTP, on loopback only."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterable
from socketserver import ThreadingMixIn
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server
from wsgiref.types import StartResponse, WSGIEnvironment

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import make_wsgi_app

from pg_steadytext.errors import DaemonUnavailable


class _Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True


class _Quiet(WSGIRequestHandler):
    timeout = 10

    def log_request(self, _code: object = "-", _size: object = "-") -> None:
        """A scrape is not worth a line of log."""


class HttpServer:
    """Serves a registry and a health report; a port of None serves nothing, 0 takes a free one."""

    def __init__(self, port: int | None, registry: CollectorRegistry, health: Callable[[], dict[str, Any]]) -> None:
        self._metrics = make_wsgi_app(registry)
        self._health = health
        self._server: WSGIServer | None = None
        self.port = port
        if port is None:
            return
        try:
            self._server = make_server("127.0.0.1", port, self._answer, server_class=_Server, handler_class=_Quiet)
        except OSError as error:
            raise DaemonUnavailable(
                f"the metrics port 127.0.0.1:{port} cannot be bound: {error}", hint="choose another port"
            ) from error
        self.port = self._server.server_port
        threading.Thread(target=self._server.serve_forever, name="http", daemon=True).start()

    def _answer(self, environ: WSGIEnvironment, start: StartResponse) -> Iterable[bytes]:
        path = environ.get("PATH_INFO")
        if path == "/metrics":
            page: Iterable[bytes] = self._metrics(environ, start)
            return page
        if path != "/healthz":
            start("404 Not Found", [("Content-Type", "text/plain")])
            return [b"there are /metrics and /healthz\n"]
        health = self._health()
        ok = health["status"] == "ok"
        start("200 OK" if ok else "503 Service Unavailable", [("Content-Type", "application/json")])
        return [json.dumps(health).encode() + b"\n"]

    def close(self) -> None:
        """Stop serving."""
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
