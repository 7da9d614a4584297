"""The beginning that a chat template gives every prompt, read once per context.

What stands in a slot is reused as far as it equals the next prompt. Left to itself, that makes the pieces in which a
prompt is read, hence the rounding, depend on the prompt before. So before each request the slot is rewound to one fixed
probe: then a prompt reuses exactly what it shares with the probe, which is a matter of the prompt alone. The rewinding
costs the reading of the probe's last tokens.
"""

from __future__ import annotations

from typing import Any

from xllamacpp import xllamacpp

from pg_steadytext.errors import ModelFailed

MIN_TOKENS = 16
PROBE, OTHER = ".", "a"


class TemplatePrefix:
    """Keeps the template's prefix in a server's only slot unless it is too short to pay; read at first use."""

    def __init__(self, server: xllamacpp.Server) -> None:
        self._server = server
        self._tokens: int | None = None

    def rewind(self) -> bool:
        """Leave only the probe in the slot; whether the next prompt shall reuse it. Raises ModelFailed."""
        if self._tokens is None:
            self._tokens = self._read()
            return self._tokens >= MIN_TOKENS
        if self._tokens < MIN_TOKENS:
            return False
        if self._reused(PROBE) != self._tokens and self._read() != self._tokens:
            raise ModelFailed("llama.cpp did not keep the beginning of the chat template")
        return True

    def _read(self) -> int:
        """Read the probe afresh; the number of tokens that it shares with another prompt."""
        self._reused(PROBE, fresh=True)
        self._reused(OTHER)
        return self._reused(PROBE)

    def _reused(self, content: str, *, fresh: bool = False) -> int:
        """Read a prompt, and tell how many of its tokens stood in the slot already."""
        answers: list[dict[str, Any]] = []
        request = {
            "messages": [{"role": "user", "content": content}],
            "add_generation_prompt": False,
            "max_tokens": 0,
            "cache_prompt": not fresh,
        }
        self._server.handle_chat_completions(request, answers.append)
        return int(answers[0].get("timings", {}).get("cache_n", 0))
