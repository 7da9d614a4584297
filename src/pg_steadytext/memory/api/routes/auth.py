"""Accounts by e-mail and password, and web sessions."""

from __future__ import annotations

import asyncio
import os
from datetime import timedelta
from uuid import UUID

import orjson
from fastapi import APIRouter, Request, Response

from pg_steadytext.memory.api.callers import COOKIE, Who
from pg_steadytext.memory.api.models import Credentials, Registration, SignedIn
from pg_steadytext.memory.api.replies import JSON, OWN, refusals
from pg_steadytext.memory.api.service import Here, Service
from pg_steadytext.memory.domain.problems import Problem
from pg_steadytext.memory.domain.tokens import token_hash
from pg_steadytext.memory.passwords import hash_password, is_password

router = APIRouter(prefix="/auth", tags=["account"])

# Each takes 64 MiB and a processor for a while: more at once would only wait for each other.
_hashing = asyncio.Semaphore(max(1, len(os.sched_getaffinity(0))))


async def _signed_in(here: Service, user: UUID, status: int) -> Response:
    session, csrf = here.new_token(), here.new_token()
    (ends,) = await here.database.call("open_session", {
        "id": here.new_id(), "user": user, "hash": token_hash(session), "csrf": token_hash(csrf),
        "hours": here.settings.session_hours,
    })  # fmt: skip
    body = {"user_id": user, "csrf_token": csrf, "expires_at": ends}
    answer = Response(orjson.dumps(body), status, media_type=JSON)
    answer.set_cookie(
        COOKIE, session, max_age=int(timedelta(hours=here.settings.session_hours).total_seconds()), path="/",
        secure=here.settings.secure_cookies, httponly=True, samesite="lax",
    )  # fmt: skip
    return answer


@router.post("/register", status_code=201, response_model=SignedIn, responses=refusals(400, 403, 409, 413, 415, 422))
async def register(here: Here, wanted: Registration) -> Response:
    """Make an account and sign in."""
    if not here.settings.open_registration:
        raise Problem(403, "registration-closed", "an administrator makes the accounts here")
    user = here.new_id()
    async with _hashing:
        kept = await asyncio.to_thread(hash_password, wanted.password)
    await here.database.call(
        "register", {"id": user, "email": wanted.email, "name": wanted.name, "password_hash": kept}
    )
    return await _signed_in(here, user, 201)


@router.post("/login", response_model=SignedIn, responses=refusals(400, 401, 413, 415, 422, 429))
async def login(here: Here, given: Credentials) -> Response:
    """Sign in: the answer sets the session's cookie and tells its CSRF token."""
    user, kept = await here.database.call("credentials", {"email": given.email})
    async with _hashing:
        is_right = await asyncio.to_thread(is_password, given.password, kept)
    if not is_right:
        raise Problem(401, "wrong-credentials", "the e-mail address or the password is wrong")
    return await _signed_in(here, user, 200)


@router.post("/logout", status_code=204, response_model=None, responses=refusals(*OWN))
async def logout(request: Request, here: Here, who: Who) -> Response:
    """End the web session; a key is not a session, and stays."""
    async with here.database.unit(who, "memories:read"):
        pass
    if COOKIE in request.cookies and who.kind == "session":
        await here.database.call("close_session", {"hash": who.token_hash})
    answer = Response(status_code=204)
    answer.delete_cookie(COOKIE, path="/", secure=here.settings.secure_cookies, httponly=True, samesite="lax")
    return answer
