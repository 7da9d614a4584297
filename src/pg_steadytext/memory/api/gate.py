"""What is turned away before anything reads it: bodies that are too large, of another type, or of somebody unknown."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable
from itertools import islice

import psycopg
from fastapi import Request
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from pg_steadytext.memory.api.callers import SAFE, find_caller
from pg_steadytext.memory.api.failures import answer as as_problem
from pg_steadytext.memory.api.failures import from_database
from pg_steadytext.memory.api.memfuse.envelope import PREFIX, as_envelope
from pg_steadytext.memory.domain.problems import Problem
from pg_steadytext.memory.storage.database import Caller

WITH_BODY = frozenset(("POST", "PUT", "PATCH"))
IMPORT_PATH = "/v1/memories/import"
SYNC_PATH = "/v1/sync"
KEYLESS_PATHS = ("/v1/auth/register", "/v1/auth/login")
IMPORT_TYPES = ("application/x-ndjson", "application/jsonl", "text/markdown")

SMALL_BYTES = 65_536
"""What is read and parsed of anybody: it costs less than asking the database who that is."""

KEYLESS_BYTES = 16_384
"""Where nobody is known the longest e-mail address, password and name fit in."""

MOST_PARTS = 500_000
"""Strings, commas and opening brackets of a push: a thousand for each of its operations."""

# Whatever it meets it goes on behind, so that it is linear, in a string that never ends too.
_PART = re.compile(rb'(?s)"(?:[^"\\]+|\\.)*+"?|[\[{,]')


class Gate:
    """ASGI middleware in front of the application; ``check`` raises ``Problem`` for a caller that is not known."""

    def __init__(
        self, app: ASGIApp, max_bytes: int, max_import_bytes: int, check: Callable[[Caller], Awaitable[None]]
    ) -> None:
        self.app = app
        self.max_bytes = max_bytes
        self.max_import_bytes = max_import_bytes
        self.check = check

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, unless it is turned away."""
        if scope["type"] != "http" or scope["method"] in SAFE:
            await self.app(scope, receive, send)
            return
        try:
            admitted = await self._admit(scope, receive)
        except Problem as problem:
            answer = as_envelope if scope["path"].startswith(PREFIX) else as_problem
            await answer(problem)(scope, receive, send)
        else:
            if admitted is not None:
                await self.app(scope, admitted, send)

    async def _admit(self, scope: Scope, receive: Receive) -> Receive | None:
        """Return what the application reads the body from, None when the client is gone. Raises ``Problem``."""
        path = scope["path"]
        most = self._most(path)
        length, kind = _headers(scope)
        size = int(length) if length is not None and length.isdigit() else None
        if size is not None and size > most:
            raise _too_large(most)
        if kind and scope["method"] in WITH_BODY and not _is_understood(kind, is_import=path == IMPORT_PATH):
            says = "one of " + ", ".join(IMPORT_TYPES) if path == IMPORT_PATH else "application/json"
            raise Problem(415, "media-type", f"Content-Type must be {says}")
        is_small = size <= SMALL_BYTES if size is not None else not _is_chunked(scope)
        if not is_small and path not in KEYLESS_PATHS:
            await self._check(scope)
            if path == SYNC_PATH:
                return await _bounded(receive, most)
        return receive if size is not None else _counted(receive, most)

    def _most(self, path: str) -> int:
        if path in KEYLESS_PATHS:
            return min(KEYLESS_BYTES, self.max_bytes)
        return self.max_import_bytes if path in (IMPORT_PATH, SYNC_PATH) else self.max_bytes

    async def _check(self, scope: Scope) -> None:
        caller = find_caller(Request(scope))
        try:
            await self.check(caller)
        except psycopg.Error as error:
            problem = from_database(error)
            if problem is None:
                raise
            raise problem from error


def _headers(scope: Scope) -> tuple[str | None, str]:
    length: str | None = None
    kind = ""
    for name, value in scope["headers"]:
        if name == b"content-length":
            length = value.decode("latin-1")
        elif name == b"content-type":
            kind = value.decode("latin-1").partition(";")[0].strip().lower()
    return length, kind


def _is_chunked(scope: Scope) -> bool:
    return any(name == b"transfer-encoding" for name, _ in scope["headers"])


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


async def _bounded(receive: Receive, most: int) -> Receive | None:
    """Read a large body, and refuse one of so many parts that whoever parses it would keep all others waiting."""
    parts: list[bytes] = []
    seen, is_more = 0, True
    while is_more:
        message = await receive()
        if message["type"] == "http.disconnect":
            return None
        parts.append(message.get("body", b""))
        seen += len(parts[-1])
        if seen > most:
            raise _too_large(most)
        is_more = message.get("more_body", False)
    body = b"".join(parts)
    parts.clear()
    if await asyncio.to_thread(_has_too_many_parts, body):
        raise Problem(
            422,
            "too-many-values",
            f"the body has more than {MOST_PARTS} strings, commas and brackets; send less at once",
        )
    first: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def again() -> Message:
        return first.pop() if first else await receive()

    return again


def _has_too_many_parts(body: bytes) -> bool:
    return next(islice(_PART.finditer(body), MOST_PARTS, None), None) is not None
