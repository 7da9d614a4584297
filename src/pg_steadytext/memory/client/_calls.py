"""Every request as data: how it is sent, how its answer is read, and whether it may be sent again.

Both clients send these, so that what they mean stands here alone.
"""

from __future__ import annotations

import json
import os
import random
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Generic, Literal, TypeVar
from uuid import UUID, uuid4

import httpx2

from pg_steadytext.errors import InvalidArgument
from pg_steadytext.memory.client._errors import Refused, Unreachable, refused
from pg_steadytext.memory.client._types import (
    Changes,
    Filters,
    Imported,
    Memory,
    NewFields,
    Operation,
    OperationResult,
    Patch,
    SearchOptions,
    SearchResults,
)

T = TypeVar("T")
Which = Memory | UUID | str
Form = Literal["jsonl", "markdown"]

MOST_OPERATIONS = 500
MEDIA_TYPES: Mapping[Form, str] = {"jsonl": "application/x-ndjson", "markdown": "text/markdown"}
AWAY = (502, 503, 504)
FIRST_PAUSE = 0.2
HINT = "STEADYTEXT_MEMORY_URL says where it is."


@dataclass(frozen=True, slots=True)
class Call(Generic[T]):
    """A request. All of these may be sent again: they change nothing, or say by a key that they are the same."""

    method: str
    path: str
    read: Callable[[Any], T]
    params: Mapping[str, Any] = field(default_factory=dict)
    content: bytes | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    wait: float = 0.0

    def request(self, http: httpx2.Client | httpx2.AsyncClient) -> httpx2.Request:
        """Return what is sent."""
        timeout = http.timeout.as_dict()
        timeout["read"] = None if timeout["read"] is None else timeout["read"] + self.wait
        return http.build_request(
            self.method, self.path, params=dict(self.params), content=self.content, headers=dict(self.headers),
            timeout=httpx2.Timeout(**timeout),
        )  # fmt: skip


def settings(url: str | None, key: str | None) -> dict[str, Any]:
    """Return where the service is and who asks; what is not given is in the environment.

    Raises ``InvalidArgument`` when it is neither, or cannot be a key.
    """
    url = url or os.environ.get("STEADYTEXT_MEMORY_URL")
    key = key or os.environ.get("STEADYTEXT_MEMORY_KEY")
    for name, value in (("URL", url), ("KEY", key)):
        if not value:
            raise InvalidArgument(
                f"the memory service's {name.lower()} is not given", hint=f"Pass it, or set STEADYTEXT_MEMORY_{name}."
            )
    # What was given may be a secret in the wrong place, and stays out of the message.
    if not re.fullmatch("[!-~]+", key or ""):
        raise InvalidArgument("the memory service's key must be printable ASCII", hint="Copy it as it was shown.")
    return {"base_url": url, "headers": {"Authorization": f"Bearer {key}"}}


def outcome(call: Call[T], response: httpx2.Response, attempt: int) -> T:
    """Read an answer. Raises ``Refused``, and ``Unreachable`` when something else answered than the service."""
    if not response.is_error:
        try:
            return call.read(response.json() if response.content else None)
        except (ValueError, KeyError, TypeError, AttributeError) as odd:
            raise Unreachable(f"what answers at {response.url.host} is not the memory service", hint=HINT) from odd
    error = problem_of(response)
    # It was deleted by an attempt whose answer was lost.
    if call.method == "DELETE" and attempt and error.status == 404:
        return call.read(None)
    raise error


def problem_of(response: httpx2.Response) -> Refused:
    """Return the exception of a refusal."""
    try:
        problem = response.json()
    except ValueError:
        problem = {}
    return refused(response.status_code, problem if isinstance(problem, dict) else {}, response.headers)


def is_passing(response: httpx2.Response) -> bool:
    """Tell whether the same request may soon be answered otherwise."""
    return response.status_code in AWAY or (
        response.status_code == 409 and problem_of(response).kind == "idempotency-in-flight"
    )


def pause(attempt: int) -> float:
    """Return the seconds before another attempt: twice as long each time, and not all clients at once."""
    return float(FIRST_PAUSE * 2**attempt * random.uniform(0.5, 1.5))  # noqa: S311 (no secret)


def identify(which: Which) -> str:
    """Return a memory's id as the path has it."""
    found = which.id if isinstance(which, Memory) else which
    return str(found if isinstance(found, UUID) else UUID(found))


def _dump(value: Any) -> bytes:
    return json.dumps(value, default=_plain).encode()


def _plain(value: object) -> str:
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, UUID):
        return str(value)
    raise TypeError(f"{type(value).__name__} is no JSON")


def body_of(value: Any, **headers: str) -> dict[str, Any]:
    """Return what a request sends that changes something: the same again has one effect."""
    key = {"Idempotency-Key": f'"{uuid4()}"'}
    return {"content": _dump(value), "headers": {"Content-Type": "application/json", **key, **headers}}


def given(params: Mapping[str, Any]) -> dict[str, Any]:
    """Return the parameters that say something, by their names in the API."""
    names = {"since": "from", "until": "to"}
    return {
        names.get(name, name): _plain(value) if isinstance(value, datetime | UUID) else value
        for name, value in params.items()
        if value is not None
    }


def save(body: str, fields: NewFields, *, force: bool) -> Call[Memory]:
    """POST /memories."""
    return Call("POST", "/v1/memories", Memory.read, {"force": force}, **body_of({"body": body, **fields}))


def get(which: Which, *, trash: bool) -> Call[Memory]:
    """GET /memories/{id}."""
    return Call("GET", f"/v1/memories/{identify(which)}", Memory.read, {"trash": trash})


def update(which: Which, patch: Patch, version: int | None) -> Call[Memory]:
    """PATCH /memories/{id}, of the version that is known."""
    known = version or (which.version if isinstance(which, Memory) else None)
    match = {"If-Match": f'"v{known}"' if known else "*"}
    return Call("PATCH", f"/v1/memories/{identify(which)}", Memory.read, **body_of(patch, **match))


def delete(which: Which, *, permanent: bool) -> Call[None]:
    """DELETE /memories/{id}, of the version that is known."""
    match = {"If-Match": f'"v{which.version}"'} if isinstance(which, Memory) else {}
    path = f"/v1/memories/{identify(which)}"
    return Call("DELETE", path, lambda _: None, {"permanent": permanent}, headers=match)


def restore(which: Which) -> Call[Memory]:
    """POST /memories/{id}/restore."""
    headers = {"Idempotency-Key": f'"{uuid4()}"'}
    return Call("POST", f"/v1/memories/{identify(which)}/restore", Memory.read, headers=headers)


def page(filters: Filters, size: int, cursor: str | None) -> Call[tuple[list[Memory], str | None]]:
    """GET /memories: a page, and the next one's cursor."""

    def read(told: Any) -> tuple[list[Memory], str | None]:
        return [Memory.read(one) for one in told["items"]], told["next_cursor"]

    return Call("GET", "/v1/memories", read, given({**filters, "limit": size, "cursor": cursor}))


def search(query: str, options: SearchOptions) -> Call[SearchResults]:
    """GET /memories/search."""
    return Call("GET", "/v1/memories/search", SearchResults.read, {"q": query, **given(options)})


def import_all(text: str | bytes, form: Form, *, force: bool) -> Call[Imported]:
    """POST /memories/import."""
    content = text.encode() if isinstance(text, str) else text
    headers = {"Content-Type": MEDIA_TYPES[form], "Idempotency-Key": f'"{uuid4()}"'}
    return Call("POST", "/v1/memories/import", Imported.read, {"force": force}, content, headers)


def pull(since: str | None, limit: int, wait: int) -> Call[Changes]:
    """GET /sync. The name ``since`` is the cursor here."""
    params = {"limit": limit, "wait": wait, **({"since": since} if since else {})}
    return Call("GET", "/v1/sync", Changes.read, params, wait=wait)


def push(operations: Sequence[Operation]) -> list[Call[list[OperationResult]]]:
    """POST /sync, as many as it takes. Each operation has an id of its own, so the request needs no key."""

    def read(told: Any) -> list[OperationResult]:
        return [OperationResult.read(one) for one in told["results"]]

    return [
        Call("POST", "/v1/sync", read, content=_dump({"operations": [one.told() for one in part]}),
             headers={"Content-Type": "application/json"})
        for part in (operations[at : at + MOST_OPERATIONS] for at in range(0, len(operations), MOST_OPERATIONS))
    ]  # fmt: skip
