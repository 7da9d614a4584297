"""The beginning that many prompts share, read once: a chat template's, one that requests name, a ranking's.

What stands in a slot is reused as far as it equals the next prompt. Left to itself, that makes the pieces in which a
prompt is read, hence the rounding, depend on the prompt before. So before each request the slot is rewound to one fixed
probe: then a prompt reuses exactly what it shares with the probe, which is a matter of the prompt and its probe alone.
The rewinding costs the reading of the probe's last tokens.

A probe is read afresh, or, where it has a base, always from the base's probe on. So what stands in the slot is a matter
of the probe alone, whether it was kept from the request before or is read for this one.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from xllamacpp import xllamacpp

from pg_steadytext.errors import ModelFailed

MIN_TOKENS = 16
Request = dict[str, Any]
Abandon = Callable[[], bool]


@dataclass(frozen=True, slots=True)
class Probe:
    """Two requests that share their beginning and nothing more; the first is what a slot is rewound to."""

    first: Request
    other: Request
    base: Probe | None = None


def _user(content: str) -> Request:
    return {"messages": [{"role": "user", "content": content}], "add_generation_prompt": False}


TEMPLATE = Probe(_user("."), _user("a"))


def named(prefix: str) -> Probe:
    """The probe of conversations whose text begins with a prefix; the template's where that is empty."""
    return Probe(_user(prefix + "."), _user(prefix + "a"), TEMPLATE) if prefix else TEMPLATE


class RequestFailed(ModelFailed):
    """llama.cpp answered a request with an error; `error` is what it said."""

    def __init__(self, error: dict[str, Any]) -> None:
        super().__init__(f"llama.cpp failed: {error.get('message', error)}")
        self.error = error


class Abandoned(Exception):  # noqa: N818 - not an error: the caller of a rewind asked for it
    """The one who waits for a prefix no longer wants it."""


class Prefix:
    """Keeps a prefix in a server's only slot; one without a base is not kept where it is too short to pay."""

    def __init__(self, server: xllamacpp.Server) -> None:
        self._server = server
        self._root: Probe | None = None
        self._root_tokens = self._tokens = 0
        self.probe: Probe | None = None

    def rewind(self, probe: Probe, abandon: Abandon = lambda: False) -> bool:
        """Leave only the probe in the slot; whether the next prompt shall reuse it.

        `abandon` is asked between chunks. Raises Abandoned once it returned True, and ModelFailed.
        """
        if probe.base and probe == self.probe and self._reused(probe.first, abandon) == self._tokens:
            return True
        self.probe = None
        reuse = self._rewind_root(probe.base or probe, abandon)
        if probe.base:
            try:
                self._tokens = self._read(probe, abandon, fresh=not reuse)
            except RequestFailed:  # so will the request itself, which knows what to say
                return reuse
        self.probe = probe
        return reuse or probe.base is not None

    def _rewind_root(self, root: Probe, abandon: Abandon) -> bool:
        if root != self._root:
            self._root = None
            self._root_tokens = self._read(root, abandon, fresh=True)
            self._root = root
        elif self._root_tokens >= MIN_TOKENS:
            kept = self._reused(root.first, abandon) == self._root_tokens
            if not kept and self._read(root, abandon, fresh=True) != self._root_tokens:
                raise ModelFailed("llama.cpp did not keep the beginning of the prompt")
        return self._root_tokens >= MIN_TOKENS

    def _read(self, probe: Probe, abandon: Abandon, *, fresh: bool) -> int:
        """Read a probe and come back to it from another prompt; the number of tokens that the two share."""
        self._reused(probe.first, abandon, fresh=fresh)
        self._reused(probe.other, abandon)
        return self._reused(probe.first, abandon)

    def _reused(self, request: Request, abandon: Abandon, *, fresh: bool = False) -> int:
        """Read a prompt, and tell how many of its tokens stood in the slot already."""
        reused = 0
        failed: dict[str, Any] | None = None
        raised: BaseException | None = None

        def take(chunk: dict[str, Any]) -> bool:
            nonlocal reused, failed, raised
            reused = chunk.get("timings", {}).get("cache_n", reused)
            failed = chunk.get("error", failed)
            try:
                if abandon():
                    raised = Abandoned()
            except BaseException as error:  # noqa: BLE001 - it must not unwind through C++; it is raised below
                raised = error
            return failed is not None or raised is not None

        limits = {"max_tokens": 0, "cache_prompt": not fresh, "stream": True, "return_progress": True}
        asking(self._server, request)({**request, **limits}, take)
        if raised is not None:
            raise raised
        if failed is not None:
            raise RequestFailed(failed)
        return int(reused)


def asking(server: xllamacpp.Server, request: Request) -> Callable[[Request, Callable[[Request], Any]], Any]:
    """The server's call for a request: a conversation, or a bare prompt."""
    found: Callable[[Request, Callable[[Request], Any]], Any] = (
        server.handle_chat_completions if "messages" in request else server.handle_completions
    )
    return found
