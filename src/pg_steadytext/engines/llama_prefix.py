"""The beginning that many prompts share, read once: a chat template's, or all of a ranking up to its document.

What stands in a slot is reused as far as it equals the next prompt. Left to itself, that makes the pieces in which a
prompt is read, hence the rounding, depend on the prompt before. So before each request the slot is rewound to one fixed
probe: then a prompt reuses exactly what it shares with the probe, which is a matter of the prompt and its probe alone.
The rewinding costs the reading of the probe's last tokens. Another probe than the last one is read afresh.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from xllamacpp import xllamacpp

from pg_steadytext.errors import ModelFailed

MIN_TOKENS = 16
Request = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Probe:
    """Two requests that share their beginning and nothing more; the first is what a slot is rewound to."""

    first: Request
    other: Request


def _user(content: str) -> Request:
    return {"messages": [{"role": "user", "content": content}], "add_generation_prompt": False}


TEMPLATE = Probe(_user("."), _user("a"))


class RequestFailed(ModelFailed):
    """llama.cpp answered a request with an error; `error` is what it said."""

    def __init__(self, error: dict[str, Any]) -> None:
        super().__init__(f"llama.cpp failed: {error.get('message', error)}")
        self.error = error


class Prefix:
    """Keeps a prefix in a server's only slot unless it is too short to pay."""

    def __init__(self, server: xllamacpp.Server) -> None:
        self._server = server
        self._probe: Probe | None = None
        self._tokens = 0

    def rewind(self, probe: Probe) -> bool:
        """Leave only the probe in the slot; whether the next prompt shall reuse it. Raises ModelFailed."""
        if probe != self._probe:
            self._probe = None
            self._tokens = self._read(probe)
            self._probe = probe
        elif (
            self._tokens >= MIN_TOKENS
            and self._reused(probe.first) != self._tokens
            and self._read(probe) != self._tokens
        ):
            raise ModelFailed("llama.cpp did not keep the beginning of the prompt")
        return self._tokens >= MIN_TOKENS

    def _read(self, probe: Probe) -> int:
        """Read the probe afresh; the number of tokens that it shares with another prompt."""
        self._reused(probe.first, fresh=True)
        self._reused(probe.other)
        return self._reused(probe.first)

    def _reused(self, request: Request, *, fresh: bool = False) -> int:
        """Read a prompt, and tell how many of its tokens stood in the slot already."""
        answers: list[dict[str, Any]] = []
        asking(self._server, request)({**request, "max_tokens": 0, "cache_prompt": not fresh}, answers.append)
        if "error" in answers[0]:
            raise RequestFailed(answers[0]["error"])
        return int(answers[0]["timings"]["cache_n"])


def asking(server: xllamacpp.Server, request: Request) -> Callable[[Request, Callable[[Request], Any]], Any]:
    """The server's call for a request: a conversation, or a bare prompt."""
    found: Callable[[Request, Callable[[Request], Any]], Any] = (
        server.handle_chat_completions if "messages" in request else server.handle_completions
    )
    return found
