"""What the service refuses, as RFC 9457 says it: a type, a title, a status, a detail, and members of its own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

TYPES = "https://pg-steadytext.invalid/problems/"
"""Names of problem types begin so; nothing is to be found there."""

TITLES: Mapping[int, str] = {
    400: "Bad request",
    401: "Not signed in",
    402: "Beyond the plan",
    403: "Not allowed",
    404: "Not found",
    405: "Method not allowed",
    409: "Conflict",
    410: "Gone",
    412: "Changed in the meantime",
    413: "Too large",
    415: "Unsupported media type",
    422: "Invalid value",
    424: "An earlier operation failed",
    428: "If-Match required",
    429: "Too many",
    500: "Internal error",
    503: "Not ready",
}


class Problem(Exception):  # noqa: N818 (it is what the answer is called)
    """A request that is refused. `slug` tells programs which case it is, `detail` tells people."""

    def __init__(
        self, status: int, slug: str, detail: str, members: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:  # fmt: skip
        super().__init__(detail)
        self.status = status
        self.slug = slug
        self.members = dict(members or {})
        self.headers = {**_own_headers(status, self.members), **(headers or {})}

    def document(self) -> dict[str, Any]:
        """Return the body of the answer."""
        return {
            "type": TYPES + self.slug,
            "title": TITLES.get(self.status, "Refused"),
            "status": self.status,
            "detail": str(self),
            **self.members,
        }


def _own_headers(status: int, members: Mapping[str, Any]) -> dict[str, str]:
    if status == 401:
        return {"WWW-Authenticate": "Bearer"}
    if status == 412 and "etag" in members:
        return {"ETag": str(members["etag"])}
    if status == 429 and "reset" in members:
        return {
            "RateLimit-Limit": str(members.get("limit", 0)),
            "RateLimit-Remaining": str(members.get("remaining", 0)),
            "RateLimit-Reset": str(members["reset"]),
            "Retry-After": str(members["reset"]),
        }
    if status in (409, 503):
        return {"Retry-After": "1"}
    return {}
