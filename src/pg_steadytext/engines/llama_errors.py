"""What llama.cpp reports, as our errors."""

from __future__ import annotations

import re
from typing import Any

from pg_steadytext.errors import InvalidArgument, ModelFailed, SteadyTextError, TextTooLong

_LENGTH = re.compile(r"\((\d+) tokens\) is too large")


def error_of(model: str, error: dict[str, Any], what: str = "the text") -> SteadyTextError:
    """The error of a completion; `what` names the text that may be too long."""
    if error.get("type") == "exceed_context_size_error":
        return _too_long(model, error["n_ctx"], error["n_prompt_tokens"], what)
    message = f'model "{model}" failed: {error.get("message", error)}'
    return InvalidArgument(message) if error.get("code") == 400 else ModelFailed(message)


def pooling_error_of(model: str, window: int, error: dict[str, Any], what: str = "the text") -> SteadyTextError:
    """The error of an embedding or a cross-encoder's score; `window` is the context's tokens."""
    tokens = _length_in(error)
    if tokens is not None:
        return _too_long(model, window, tokens, what)
    return ModelFailed(f'model "{model}" failed: {error.get("message", error)}')


def _too_long(model: str, window: int, tokens: int, what: str) -> TextTooLong:
    return TextTooLong(
        f'{what} has {tokens} tokens, but the context window of model "{model}" holds {window}',
        hint="shorten the text, or use a model with a longer context",
    )


def _length_in(error: dict[str, Any]) -> int | None:
    """The number of tokens of a text that was too long, if that is what llama.cpp complains of."""
    stated = error.get("n_prompt_tokens")
    if isinstance(stated, int):
        return stated
    told = _LENGTH.search(str(error.get("message", "")))
    return int(told[1]) if told else None
