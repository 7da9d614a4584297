"""What every answer is wrapped in: ``{status, code, data, message, errors}``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import orjson
from fastapi import Response
from pydantic import BaseModel

from pg_steadytext.memory.api.replies import JSON
from pg_steadytext.memory.domain.problems import Problem

PREFIX = "/api/v1"


class ErrorDetail(BaseModel):
    """A field, or `general`, and what is wrong."""

    field: str
    message: str


class Envelope(BaseModel):
    """An answer. `errors` is null where `status` is success."""

    status: Literal["success", "error"]
    code: int
    data: dict[str, Any] | None
    message: str
    errors: list[ErrorDetail] | None


REFUSALS: dict[int | str, dict[str, Any]] = {
    status: {"model": Envelope} for status in (400, 401, 402, 403, 404, 409, 413, 415, 422, 429, 503)
}
"""What every endpoint may answer, for OpenAPI."""


def success(
    data: Mapping[str, Any], message: str, code: int = 200, headers: Mapping[str, str] | None = None
) -> Response:
    """Answer with data."""
    body = {"status": "success", "code": code, "data": data, "message": message, "errors": None}
    return Response(orjson.dumps(body), code, dict(headers or {}), JSON)


def as_envelope(problem: Problem) -> Response:
    """Answer with a refusal; the members of its problem document stay beside the envelope's."""
    found = problem.members.get("errors")
    errors = (
        [{"field": ".".join(one["at"]), "message": one["says"]} for one in found]
        if isinstance(found, list)
        else [{"field": "general", "message": str(problem)}]
    )
    envelope = {
        "status": "error", "code": problem.status, "data": None, "message": str(problem), "errors": errors,
    }  # fmt: skip
    return Response(orjson.dumps({**problem.document(), **envelope}), problem.status, problem.headers, JSON)
