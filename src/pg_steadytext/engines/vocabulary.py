"""How a GGUF model spells a text in tokens.

A text is spelled with as few tokens as possible, the longest first among equals. That is what byte-pair encodings and
unigram models nearly always do; where it differs, the spelling is still one of the text's own.
"""

from __future__ import annotations

import itertools
import threading
from functools import cached_property
from pathlib import Path

from pg_steadytext.engines.constraints.expression import LAST, Range
from pg_steadytext.engines.gguf import read_header, read_list

NORMAL, USER_DEFINED, BYTE = 1, 4, 6
MAX_TOKEN = 64
MODELS = ("gpt2", "llama")
CONTINUES, CONTINUED = 0b1100_0000, 0b1000_0000
"""The bits by which a byte of UTF-8 tells that it goes on with a character, and what they then are."""


LEADS = {
    **{0xC0 + n: (n << 6, (n << 6) + 0x3F) for n in range(2, 0x20)},
    **{0xE0 + n: (max(n << 12, 0x800), (n << 12) + 0xFFF) for n in range(0x10)},
    **{0xF0 + n: (max(n << 18, 0x10000), min((n << 18) + 0x3FFFF, LAST)) for n in range(5)},
}
"""The characters of several bytes by the first of them."""


class Vocabulary:
    """The tokens of a model's file, read at first use."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._tokens: dict[bytes, int] | None = None
        self._written: dict[int, bytes] = {}

    def _known(self) -> dict[bytes, int]:
        with self._lock:
            if self._tokens is None:
                self._tokens = _read(self._path)
                self._written = {number: written for written, number in self._tokens.items()}
            return self._tokens

    @cached_property
    def unwritable(self) -> tuple[Range, ...]:
        """Characters that no tokens spell: a byte that is no token, or beginning with one that none begins with."""
        tokens = self._known()
        if not tokens:
            return ()
        begun = {token[0] for token in tokens}
        single = [(byte, byte) for byte in range(0x80) if bytes([byte]) not in tokens]
        return (*single, *(code_points for lead, code_points in LEADS.items() if lead not in begun))

    def spell(self, text: str) -> list[int]:
        """The numbers of the tokens of a text; none where the vocabulary is of an unknown kind or cannot spell it."""
        tokens = self._known()
        data = text.encode()
        fewest: list[list[int] | None] = [None] * len(data) + [[]]
        for start in reversed(range(len(data))):
            for end in range(min(len(data), start + MAX_TOKEN), start, -1):
                token, rest = tokens.get(data[start:end]), fewest[end]
                best = fewest[start]
                if token is not None and rest is not None and (best is None or len(rest) + 1 < len(best)):
                    fewest[start] = [token, *rest]
        return fewest[0] or []

    def lacks(self, text: str) -> bool:
        """Whether no spelling of a text is there, though the vocabulary is of a known kind."""
        return bool(text) and not self.spell(text) and bool(self._tokens)

    def parts_a_character(self, text: str, spelling: list[int]) -> bool:
        """Whether a token of a text's spelling ends inside a character."""
        data = text.encode()
        ends = itertools.accumulate(len(self._written[number]) for number in spelling)
        return any(end < len(data) and data[end] & CONTINUES == CONTINUED for end in ends)


def _read(path: Path) -> dict[bytes, int]:
    model = read_header(path).metadata.get("tokenizer.ggml.model")
    if model not in MODELS:
        return {}
    tokens = read_list(path, "tokenizer.ggml.tokens")
    kinds = read_list(path, "tokenizer.ggml.token_type") or [NORMAL] * len(tokens)
    found: dict[bytes, int] = {}
    for number, (token, kind) in enumerate(zip(tokens, kinds, strict=True)):
        if isinstance(token, str) and kind in (NORMAL, USER_DEFINED, BYTE):
            written = _bytes_of_gpt2(token) if model == "gpt2" else _bytes_of_llama(token, kind == BYTE)
            if written:
                found.setdefault(written, number)
    return found


def _gpt2_alphabet() -> dict[str, int]:
    """The characters by which GPT-2's vocabulary writes bytes: printable ones as they are, the others from U+0100."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in printable]
    return {chr(byte): byte for byte in printable} | {chr(0x100 + index): byte for index, byte in enumerate(others)}


GPT2 = _gpt2_alphabet()


def _bytes_of_gpt2(token: str) -> bytes:
    return bytes(GPT2[char] for char in token) if all(char in GPT2 for char in token) else b""


def _bytes_of_llama(token: str, byte: bool) -> bytes:
    if byte:
        return bytes([int(token[3:5], 16)])
    return token.replace("\u2581", " ").encode()
