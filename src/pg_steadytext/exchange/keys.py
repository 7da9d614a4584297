"""The keys of SteadyText's caches: each part in base64, parts joined by two colons."""

from __future__ import annotations

import base64
import re
from dataclasses import dataclass

from pg_steadytext.errors import InvalidArgument

EMBEDDER = "local-embedder"
MODES = ("query", "passage")
NO_END = "[EOS]"

_TEMPERATURE = re.compile(r"::TEMP::(\d{1,3}(?:\.\d{1,20})?(?:e-?\d{1,3})?)\Z")


@dataclass(frozen=True, slots=True)
class Generation:
    """What SteadyText's key of a generated text knows; the model, the limit and the seed are not in it."""

    prompt: str
    eos_string: str = NO_END
    temperature: float = 0.0

    def key(self) -> str:
        """Return the key under which SteadyText looks the text up."""
        text = self.prompt
        if self.eos_string != NO_END:
            text += f"::EOS::{self.eos_string}"
        if self.temperature:
            text += f"::TEMP::{self.temperature}"
        return encode(text)

    @classmethod
    def of(cls, key: str) -> Generation:
        """Take a key apart. A prompt that itself ends like a key is taken for one: the key does not tell."""
        parts = decode(key)
        if len(parts) != 1:
            raise InvalidArgument("its key is not that of a generated text")
        text, temperature = parts[0], 0.0
        if found := _TEMPERATURE.search(text):
            text, temperature = text[: found.start()], float(found[1])
        prompt, mark, eos_string = text.rpartition("::EOS::")
        return cls(prompt, eos_string, temperature) if mark else cls(text, NO_END, temperature)


def embedding_key(text: str, mode: str = "query") -> str:
    """Return the key under which SteadyText looks up the embedding of one text."""
    return encode(EMBEDDER, mode, text)


def embedded_text(key: str, mode: str) -> str:
    """Return the text of an embedding's key.

    Raises ``InvalidArgument`` where the key is of several texts, or of another mode.
    """
    parts = decode(key)
    if len(parts) == 1:
        return parts[0]
    if len(parts) < 3 or parts[1] not in MODES:
        raise InvalidArgument("its key is not that of an embedding of one text")
    if len(parts) > 3:
        raise InvalidArgument(f"it is the mean of {len(parts) - 2} texts, which is no embedding here")
    if parts[1] != mode:
        raise InvalidArgument(f"it is an embedding as {parts[1]}, not as {mode}")
    return parts[2]


def encode(*parts: str) -> str:
    """Return a key of these parts."""
    return "::".join(base64.b64encode(part.encode()).decode("ascii") for part in parts)


def decode(key: str) -> list[str]:
    """Return a key's parts. Raises ``InvalidArgument`` where it is no key."""
    try:
        return [base64.b64decode(part, validate=True).decode() for part in key.split("::")]
    except ValueError as error:
        raise InvalidArgument("its key is not base64 of text") from error
