"""Memories as one Markdown text, and back.

Each memory begins with a line ``<!-- memory {…} -->`` that holds its fields as JSON; its body follows as it is. A line
of a body that looks like such a mark gets a backslash in front. A text without marks, written by a person, is read as
one memory for each heading of the first level.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

FIELDS = ("title", "category", "tags", "source", "provenance", "pinned", "is_recalled", "expires_at", "created_at")
_MARK = re.compile(r"^<!-- memory (\{.*\}) -->$", re.MULTILINE)
_LIKE_A_MARK = re.compile(r"^(\\*<!-- memory )", re.MULTILINE)
_ESCAPED = re.compile(r"^\\(\\*<!-- memory )", re.MULTILINE)
_HEADING = re.compile(r"^# +(.+?)[ #]*$", re.MULTILINE)


def write(memory: Mapping[str, Any]) -> str:
    """Return a memory's part of the text."""
    fields = {name: memory[name] for name in FIELDS if memory.get(name) not in (None, [], {}, False)}
    mark = json.dumps(fields, ensure_ascii=False).replace(">", "\\u003e")
    body = _LIKE_A_MARK.sub(r"\\\1", memory["body"])
    return f"<!-- memory {mark} -->\n{body}\n\n"


def read(text: str) -> Iterator[dict[str, Any]]:
    """Yield the memories of a text as their fields; a mark whose JSON is broken is text like any other."""
    if _MARK.search(text):
        yield from _marked(text)
        return
    parts = _HEADING.split(text)
    if parts[0].strip():
        yield {"body": parts[0].strip()}
    for title, body in zip(parts[1::2], parts[2::2], strict=True):
        yield {"title": title, "body": body.strip() or title}


def _marked(text: str) -> Iterator[dict[str, Any]]:
    parts = _MARK.split(text)
    if parts[0].strip():
        yield {"body": parts[0].strip()}
    for mark, body in zip(parts[1::2], parts[2::2], strict=True):
        try:
            fields = json.loads(mark)
        except ValueError:
            fields = {}
        # The line break behind the mark, and the two behind the body, are the form's and not the body's.
        text_of_body = body.removeprefix("\n")
        text_of_body = text_of_body.removesuffix("\n\n") if text_of_body.endswith("\n\n") else text_of_body.rstrip("\n")
        yield {**fields, "body": _ESCAPED.sub(r"\1", text_of_body)}
