"""Who a request comes from, as its headers tell: an API key, or a web session's cookie."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends, Request

from pg_steadytext.memory.domain.problems import Problem
from pg_steadytext.memory.domain.tokens import token_hash
from pg_steadytext.memory.storage.database import Caller, Database

COOKIE = "memory_session"
CSRF_HEADER = "X-CSRF-Token"
SAFE = frozenset(("GET", "HEAD", "OPTIONS"))


def find_caller(request: Request) -> Caller:
    """Return the caller. Raises ``Problem`` 401 when the request names none.

    A browser sends the cookie by itself, so a request that changes something must also prove that it knows the
    session's other token; a key is never sent by itself.
    """
    headers = request.headers
    scheme, _, bearer = headers.get("authorization", "").partition(" ")
    key = bearer.strip() if scheme.lower() == "bearer" else headers.get("x-api-key", "")
    if key:
        return Caller("key", _hash(key))
    if session := request.cookies.get(COOKIE):
        csrf = None if request.method in SAFE else _hash(headers.get(CSRF_HEADER, ""))
        return Caller("session", _hash(session), csrf)
    raise Problem(401, "no-credentials", "send an API key (Authorization: Bearer, or X-API-Key) or sign in")


async def check_known(database: Database, caller: Caller) -> None:
    """Raise ``Problem`` 401 when nobody is known by the caller's token; what it allows is asked for later."""
    if await database.find_user(caller.kind, caller.token_hash) is None:
        raise Problem(401, "unknown-credentials", "the key or session is unknown, revoked or has ended")


def _hash(text: str) -> bytes:
    return token_hash(text.encode("utf-8", "replace").decode())


async def _found(request: Request) -> Caller:
    # A dependency that is no coroutine would be called in a thread.
    return find_caller(request)


Who = Annotated[Caller, Depends(_found)]
