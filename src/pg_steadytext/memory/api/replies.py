"""Answers: JSON that PostgreSQL or orjson wrote, passed on as it is."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import orjson
from fastapi import Response

JSON = "application/json"
PROBLEM = "application/problem+json"


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer before it is sent, so that it can be stored under an idempotency key."""

    body: str
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)

    def response(self, **headers: str) -> Response:
        """Return it as what the framework sends."""
        return Response(self.body, self.status, {**self.headers, **headers}, JSON if self.body else None)


def etag(version: int) -> dict[str, str]:
    """Return the header that names a memory's version."""
    return {"ETag": f'"v{version}"'}


def page(items: Iterable[str], **members: Any) -> Response:
    """Return a list of JSON texts as ``{"items": […], …}``."""
    rest = orjson.dumps(members)[1:].decode()
    return Response(f'{{"items":[{",".join(items)}]{"," if members else ""}{rest}', media_type=JSON)


_SAYS: Mapping[int, str] = {
    304: "It is the version that If-None-Match names.",
    400: "Malformed request.",
    401: "No key, or one that is unknown, revoked or has ended.",
    402: "The plan's amount is used up; `lifted_by` names the plans that hold more.",
    403: "The key lacks the scope, or the CSRF token is missing.",
    404: "There is no such object of this user.",
    409: "It conflicts with what is there, or with a request in flight.",
    410: "It is no longer known what was deleted since; read everything anew.",
    412: "It was changed in the meantime; `current` is what it is now.",
    413: "The request is too large.",
    415: "The content type is not one that is understood here.",
    422: "A value is invalid.",
    428: "If-Match is required.",
    429: "The allowance is used up; Retry-After says for how long.",
    503: "The database cannot be reached.",
}


def refusals(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Describe an endpoint's refusals for OpenAPI; 503 is every endpoint's."""
    schema = {"schema": {"$ref": "#/components/schemas/ProblemDocument"}}
    return {status: {"description": _SAYS[status], "content": {PROBLEM: schema}} for status in (*statuses, 503)}


OWN = (400, 401, 403, 422)
"""What every endpoint of a user may answer."""

WRITE = (*OWN, 409, 413, 415)
"""What every endpoint that takes a body may answer."""
