"""Exceptions as RFC 9457 problem documents."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any

import orjson
import psycopg
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from psycopg_pool import PoolTimeout
from starlette.exceptions import HTTPException

from pg_steadytext.memory.api.replies import PROBLEM
from pg_steadytext.memory.domain.problems import Problem

REFUSAL = "MC"
"""How the SQLSTATE of ``memory.refuse`` begins; the HTTP status follows."""

SHOWN_ERRORS = 20
MOST_OF_A_STEP = 100

log = logging.getLogger(__name__)


def refusal(state: str, message: str | None, detail: str | None) -> Problem:
    """Return what ``memory.refuse`` raised: its SQLSTATE, its message, and its detail, an object in JSON."""
    members = orjson.loads(detail or "{}")
    return Problem(int(state.removeprefix(REFUSAL)), members.pop("slug"), message or "refused", members)


def from_database(error: psycopg.Error) -> Problem | None:
    """Return what an error of PostgreSQL means for the client, None when it is a fault of ours."""
    state = error.sqlstate or ""
    if state.startswith(REFUSAL):
        return refusal(state, error.diag.message_primary, error.diag.message_detail)
    if isinstance(error, psycopg.DataError):
        return Problem(422, "unstorable", f"the database cannot hold a value: {error.diag.message_primary or error}")
    if isinstance(error, psycopg.errors.ForeignKeyViolation):
        # A request waited for another one, which deleted what it is about.
        if error.diag.constraint_name == f"{error.diag.table_name}_user_id_fkey":
            return Problem(401, "unknown-credentials", "the account was erased in the meantime")
        return Problem(409, "deleted-meanwhile", "something that the request names was deleted in the meantime")
    if isinstance(error, psycopg.OperationalError | PoolTimeout):
        log.warning("the database does not answer: %s", error)
        return Problem(503, "database-away", "the database does not answer; try again")
    return None


def members_of(errors: Sequence[Any], *where: str) -> dict[str, Any]:
    """Return what a refusal tells of a validation's errors: the first of them, and how many there are."""
    shown = [
        {"at": [*where, *(str(step)[:MOST_OF_A_STEP] for step in one["loc"])], "code": one["type"], "says": one["msg"]}
        for one in errors[:SHOWN_ERRORS]
    ]
    return {"errors": shown, "error_count": len(errors)}


def answer(problem: Problem) -> Response:
    """Return the problem as what the framework sends."""
    return Response(orjson.dumps(problem.document()), problem.status, problem.headers, PROBLEM)


def install(app: FastAPI, answer: Callable[[Problem], Response] = answer) -> None:
    """Have every exception answered by a problem document, or by what ``answer`` makes of it."""

    @app.exception_handler(Problem)
    async def refused(_: Request, error: Problem) -> Response:
        return answer(error)

    @app.exception_handler(psycopg.Error)
    async def database_failed(_: Request, error: psycopg.Error) -> Response:
        problem = from_database(error)
        if problem is None:
            log.error("PostgreSQL: %s", error, exc_info=error)
            problem = Problem(500, "internal", "the service failed; its log says why")
        return answer(problem)

    @app.exception_handler(RequestValidationError)
    async def invalid(_: Request, error: RequestValidationError) -> Response:
        found = members_of(error.errors())
        if any(one["code"] == "json_invalid" for one in found["errors"]):
            return answer(Problem(400, "bad-json", "the body is not JSON", found))
        where = "; ".join(f"{'.'.join(one['at'])}: {one['says']}" for one in found["errors"][:3])
        return answer(Problem(422, "invalid-value", where, found))

    @app.exception_handler(HTTPException)
    async def by_framework(_: Request, error: HTTPException) -> Response:
        return answer(Problem(error.status_code, f"http-{error.status_code}", error.detail, headers=error.headers))

    @app.exception_handler(Exception)
    async def failed(_: Request, error: Exception) -> Response:
        log.error("unexpected: %s", error, exc_info=error)
        return answer(Problem(500, "internal", "the service failed; its log says why"))
