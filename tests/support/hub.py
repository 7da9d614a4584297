"""A small model hub: the endpoints that huggingface_hub asks for a file, on loopback."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

COMMIT = "0123456789abcdef0123456789abcdef01234567"


class Hub:
    """Serves files at /REPO/resolve/REVISION/FILE. `stated` overrides the digest it states; `cut` sends less."""

    def __init__(self) -> None:
        self.files: dict[tuple[str, str], bytes] = {}
        self.stated: str | None = None
        self.cut: int | None = None
        self.downloads = 0
        hub = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_args: object) -> None:
                """Tests print enough."""

            def do_HEAD(self) -> None:
                self._answer(body=False)

            def do_GET(self) -> None:
                self._answer(body=True)

            def _answer(self, *, body: bool) -> None:
                repo, found, rest = self.path.strip("/").partition("/resolve/")
                content = hub.files.get((repo, rest.partition("/")[2])) if found else None
                if content is None:
                    self.send_response(404)
                    self.send_header("X-Error-Code", "EntryNotFound")
                    self.send_header("Content-Length", "0")
                    self.end_headers()
                    return
                digest = hub.stated or hashlib.sha256(content).hexdigest()
                self.send_response(200)
                self.send_header("X-Repo-Commit", COMMIT)
                self.send_header("ETag", f'"{digest}"')
                self.send_header("X-Linked-ETag", f'"{digest}"')
                self.send_header("X-Linked-Size", str(len(content)))
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                if body:
                    hub.downloads += 1
                    self.wfile.write(content[: hub.cut])
                    self.close_connection = hub.cut is not None

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    @contextmanager
    def serve(self) -> Iterator[Hub]:
        """Serve until the block ends."""
        thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        thread.start()
        yield self
        self._server.shutdown()
        self._server.server_close()

    def add(self, repo: str, filename: str, path: Path) -> None:
        """Put a file into a repository."""
        self.files[repo, filename] = path.read_bytes()
