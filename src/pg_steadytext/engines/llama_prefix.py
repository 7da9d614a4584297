"""The beginnings of prompts that a context keeps: the chat template's, and after it one that many requests share.

What stands in a slot is reused as far as it equals the next prompt. Left to itself, that makes the pieces in which a
prompt is read, hence the rounding, depend on the prompt before. So before each request the slot is rewound to one fixed
probe: then a prompt reuses exactly what it shares with the probe, which is a matter of the prompt alone. The rewinding
costs the reading of the probe's last tokens.

A request may name its own prefix, the beginning of its text. Its probe is the prefix and one more character, always
read from the template's probe on, so what stands in the slot is a matter of the prefix alone, whether the prefix was
kept from the request before or is read for this one.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from xllamacpp import xllamacpp

from pg_steadytext.errors import ModelFailed

MIN_TOKENS = 16
PROBE, OTHER = ".", "a"


class Abandoned(Exception):  # noqa: N818 - not an error: the caller of a rewind asked for it
    """The one who waits for a prefix no longer wants it."""


class KeptPrefix:
    """Keeps a prefix in a server's only slot; the template's is not kept where it is too short to pay."""

    def __init__(self, server: xllamacpp.Server) -> None:
        self._server = server
        self._template: int | None = None
        self._shared = 0
        self.text = ""

    def rewind(self, text: str = "", abandon: Callable[[], bool] = lambda: False) -> bool:
        """Leave only the probe of a prefix in the slot; whether the next prompt shall reuse it.

        `abandon` is asked between chunks. Raises Abandoned once it returned True, and ModelFailed.
        """
        if text and text == self.text and self._reused(text + PROBE, abandon) == self._shared:
            return True
        self.text = ""
        reuse = self._rewind_template()
        if text:
            self._shared = self._settle(text, abandon, fresh=not reuse)
            self.text = text
        return reuse or bool(text)

    def _rewind_template(self) -> bool:
        if self._template is None:
            self._template = self._settle("", lambda: False, fresh=True)
        elif self._template >= MIN_TOKENS:
            kept = self._reused(PROBE) == self._template
            if not kept and self._settle("", lambda: False, fresh=True) != self._template:
                raise ModelFailed("llama.cpp did not keep the beginning of the chat template")
        return self._template >= MIN_TOKENS

    def _settle(self, text: str, abandon: Callable[[], bool], *, fresh: bool) -> int:
        """Read a probe and come back to it from another prompt; the number of tokens that the two share."""
        self._reused(text + PROBE, abandon, fresh=fresh)
        self._reused(text + OTHER, abandon)
        return self._reused(text + PROBE, abandon)

    def _reused(self, content: str, abandon: Callable[[], bool] = lambda: False, *, fresh: bool = False) -> int:
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

        request = {
            "messages": [{"role": "user", "content": content}],
            "add_generation_prompt": False,
            "max_tokens": 0,
            "cache_prompt": not fresh,
            "stream": True,
            "return_progress": True,
        }
        self._server.handle_chat_completions(request, take)
        if raised is not None:
            self.text = ""
            raise raised
        return int(reused)
