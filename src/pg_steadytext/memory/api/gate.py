"""What is turned away before anything reads it: bodies that are too large, or of another type."""

from __future__ import annotations

from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from pg_steadytext.memory.api.callers import SAFE
from pg_steadytext.memory.api.failures import answer as as_problem
from pg_steadytext.memory.api.memfuse.envelope import PREFIX, as_envelope
from pg_steadytext.memory.domain.problems import Problem

WITH_BODY = frozenset(("POST", "PUT", "PATCH"))
IMPORT_PATH = "/v1/memories/import"
SYNC_PATH = "/v1/sync"
IMPORT_TYPES = ("application/x-ndjson", "application/jsonl", "text/markdown")


class Gate:
    """ASGI middleware in front of the application."""

    def __init__(self, app: ASGIApp, max_bytes: int, max_import_bytes: int) -> None:
        self.app = app
        self.max_bytes = max_bytes
        self.max_import_bytes = max_import_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, unless it is turned away."""
        if scope["type"] != "http" or scope["method"] in SAFE:
            await self.app(scope, receive, send)
            return
        answer = as_envelope if scope["path"].startswith(PREFIX) else as_problem
        is_import = scope["path"] == IMPORT_PATH
        most = self.max_import_bytes if scope["path"] in (IMPORT_PATH, SYNC_PATH) else self.max_bytes
        length, kind = _headers(scope)
        if length is not None and length.isdigit() and int(length) > most:
            await answer(_too_large(most))(scope, receive, send)
        elif kind and scope["method"] in WITH_BODY and not _is_understood(kind, is_import=is_import):
            says = "one of " + ", ".join(IMPORT_TYPES) if is_import else "application/json"
            await answer(Problem(415, "media-type", f"Content-Type must be {says}"))(scope, receive, send)
        elif length is not None:
            await self.app(scope, receive, send)
        else:
            await self.app(scope, _counted(receive, most), send)


def _headers(scope: Scope) -> tuple[str | None, str]:
    length: str | None = None
    kind = ""
    for name, value in scope["headers"]:
        if name == b"content-length":
            length = value.decode("latin-1")
        elif name == b"content-type":
            kind = value.decode("latin-1").partition(";")[0].strip().lower()
    return length, kind


def _is_understood(kind: str, *, is_import: bool) -> bool:
    if is_import:
        return kind in IMPORT_TYPES
    return kind == "application/json" or (kind.startswith("application/") and kind.endswith("+json"))


def _too_large(most: int) -> Problem:
    return Problem(413, "too-large", f"the body must be at most {most} bytes")


def _counted(receive: Receive, most: int) -> Receive:
    seen = 0

    async def counted() -> Message:
        nonlocal seen
        message = await receive()
        seen += len(message.get("body", b""))
        if seen > most:
            raise HTTPException(413, str(_too_large(most)))
        return message

    return counted
