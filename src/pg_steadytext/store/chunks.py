"""Cutting long texts into chunks, by characters or by the text's own structure."""

from __future__ import annotations

import json
from functools import lru_cache
from typing import Protocol

from semantic_text_splitter import MarkdownSplitter, TextSplitter

from pg_steadytext.errors import InvalidArgument
from pg_steadytext.settings import Settings

SIZE = 1000
"""Characters of a chunk unless told otherwise."""
TOKENS = 200
"""The same in tokens."""


class Splitter(Protocol):
    """Cuts a text."""

    def chunks(self, text: str) -> list[str]:
        """The text's chunks, in order."""
        ...


class Windows:
    """Cuts every `size` characters; each chunk repeats the last `overlap` characters of the one before it."""

    def __init__(self, size: int, overlap: int) -> None:
        self._size = size
        self._step = size - overlap

    def chunks(self, text: str) -> list[str]:
        """The text's chunks, in order."""
        last = max(1, len(text) - (self._size - self._step))
        return [text[start : start + self._size] for start in range(0, last, self._step)]


@lru_cache(maxsize=64)
def splitter(chunking: str, model: str) -> Splitter:
    """What a declaration's chunking (as JSON) asks for. Raises InvalidArgument."""
    wanted = json.loads(chunking)
    size, overlap = wanted.get("size"), int(wanted.get("overlap", 0))
    match wanted["by"]:
        case "characters":
            return Windows(int(size or SIZE), overlap)
        case "sentences":
            return TextSplitter(int(size or SIZE), overlap)
        case "markdown":
            return MarkdownSplitter(int(size or SIZE), overlap)
        case _:
            tokenizer = Settings.load().model_dir / model / "tokenizer.json"
            if not tokenizer.is_file():
                raise InvalidArgument(f"model {model} has no tokenizer here: {tokenizer} is missing")
            return TextSplitter.from_huggingface_tokenizer_file(str(tokenizer), int(size or TOKENS), overlap)


def chunks(text: str, chunking: str, model: str) -> list[str]:
    """A text's chunks, without those in which nothing is to be seen. Raises InvalidArgument."""
    return [part for part in splitter(chunking, model).chunks(text) if part.strip()]
