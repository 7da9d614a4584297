"""What llama.cpp reports, as our errors."""

from __future__ import annotations

from typing import Any

from pg_steadytext.errors import InvalidArgument, ModelFailed, SteadyTextError, TextTooLong


def error_of(model: str, error: dict[str, Any], what: str = "the text") -> SteadyTextError:
    """The error of a completion; `what` names the text that may be too long."""
    if error.get("type") == "exceed_context_size_error":
        return TextTooLong(
            f"{what} has {error['n_prompt_tokens']} tokens, but the context window of model "
            f'"{model}" holds {error["n_ctx"]}',
            hint="shorten the text, or use a model with a longer context",
        )
    message = f'model "{model}" failed: {error.get("message", error)}'
    return InvalidArgument(message) if error.get("code") == 400 else ModelFailed(message)
