"""The daemon's wire protocol: JSON requests and replies as bytes, no sockets.

It is SteadyText's protocol, one JSON object each way. A request of pg_steadytext's own clients carries
`"client": "pg_steadytext"`; replies to it may say more (the SQLSTATE of an error), while replies to a stock client
have exactly the keys id, result and error.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, cast

import orjson

from pg_steadytext.errors import InvalidArgument, SteadyTextError

if TYPE_CHECKING:  # clients need no numpy
    from pg_steadytext.engines.protocol import Vectors

PROTOCOL = 1
CLIENT = "pg_steadytext"
ACK = b"ACK"
STREAM_END = "##STREAM_END##"
MAX_ID_LENGTH = 256
MAX_DEADLINE_MS = 7 * 24 * 3600 * 1000

Lane = Literal["interactive", "batch"]


@dataclass(frozen=True, slots=True)
class Request:
    """A parsed request. `ours` tells pg_steadytext's own clients from stock ones; `deadline_ms` is the time left."""

    id: str
    method: str
    params: dict[str, Any]
    ours: bool = False
    deadline_ms: int | None = None
    lane: Lane = "interactive"


class MalformedRequest(InvalidArgument):
    """A message that is not a request; `request_id` is its id where one could be read."""

    def __init__(self, message: str, *, request_id: str = "", ours: bool = False) -> None:
        super().__init__(message)
        self.request_id = request_id
        self.ours = ours


def parse(body: bytes) -> Request:
    """Read a request. Raises MalformedRequest, which says what was expected."""
    try:
        message = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise MalformedRequest(f"the message is not valid JSON in UTF-8: {error}") from None
    if not isinstance(message, dict):
        raise MalformedRequest(f"the message must be a JSON object, not {type(message).__name__}")
    ours = message.get("client") == CLIENT
    request_id = _request_id(message.get("id"), ours)

    def malformed(text: str) -> MalformedRequest:
        return MalformedRequest(text, request_id=request_id, ours=ours)

    method, params = message.get("method"), message.get("params")
    if not isinstance(method, str):
        raise malformed('"method" must be a text')
    if params is None:
        params = {}
    if not isinstance(params, dict):
        raise malformed('"params" must be a JSON object')
    deadline = message.get("deadline_ms") if ours else None
    if deadline is not None and (type(deadline) is not int or not 0 <= deadline <= MAX_DEADLINE_MS):
        raise malformed(f'"deadline_ms" must be a number of milliseconds from 0 to {MAX_DEADLINE_MS}')
    lane = message.get("lane", "interactive") if ours else "interactive"
    if lane not in ("interactive", "batch"):
        raise malformed('"lane" must be "interactive" or "batch"')
    return Request(request_id, method, params, ours, deadline, cast(Lane, lane))


def _request_id(value: object, ours: bool) -> str:
    if value is None:
        return ""
    if not isinstance(value, str) or len(value) > MAX_ID_LENGTH:
        raise MalformedRequest(f'"id" must be a text of at most {MAX_ID_LENGTH} characters', ours=ours)
    return value


def reply(request_id: str, result: object) -> bytes:
    """A reply that carries a result."""
    return orjson.dumps({"id": request_id, "result": result, "error": None})


def error_reply(request_id: str, error: SteadyTextError, *, ours: bool) -> bytes:
    """A reply that carries an error; its SQLSTATE and hint go to our own clients only."""
    body: dict[str, Any] = {"id": request_id, "result": None, "error": error.message}
    if ours:
        body.update(code=error.sqlstate, hint=error.hint)
    return orjson.dumps(body)


def request(
    request_id: str,
    method: str,
    params: dict[str, Any],
    *,
    deadline_ms: int | None = None,
    lane: Lane = "interactive",
) -> bytes:
    """A request as pg_steadytext's own clients send it."""
    body: dict[str, Any] = {"method": method, "params": params, "id": request_id, "client": CLIENT, "lane": lane}
    if deadline_ms is not None:
        body["deadline_ms"] = deadline_ms
    return orjson.dumps(body)


def vector_texts(vectors: Vectors) -> list[str]:
    """Vectors as pgvector writes them, each number with the fewest digits that give the same float32 back."""
    return [orjson.dumps(vector, option=orjson.OPT_SERIALIZE_NUMPY).decode() for vector in vectors]


def vector_numbers(vector: Vectors) -> orjson.Fragment:
    """A vector as a JSON array inside a reply."""
    return orjson.Fragment(orjson.dumps(vector, option=orjson.OPT_SERIALIZE_NUMPY))
