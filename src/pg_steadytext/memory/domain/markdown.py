"""Memories as one Markdown text, and back.

Each memory begins with a line ``<!-- memory {…} -->`` that holds its fields as JSON; its body follows as it is. A line
of a body that looks like such a mark gets a backslash in front. A text without marks, written by a person, is read as
one memory for each heading of the first level; a line of fenced code is no heading.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from itertools import chain
from typing import Any

FIELDS = ("title", "category", "tags", "source", "provenance", "pinned", "is_recalled", "expires_at", "created_at")
_MARK = re.compile(r"^<!-- memory (\{.*\}) -->$", re.MULTILINE)
_LIKE_A_MARK = re.compile(r"^(\\*<!-- memory )", re.MULTILINE)
_ESCAPED = re.compile(r"^\\(\\*<!-- memory )", re.MULTILINE)
_CARRIED = re.compile(r"^<!-- memory \{.*\} -->\r$", re.MULTILINE)
_FENCE = re.compile(r" {0,3}(`{3,}(?=[^`]*$)|~{3,})")


def write(memory: Mapping[str, Any]) -> str:
    """Return a memory's part of the text."""
    fields = {name: memory[name] for name in FIELDS if memory.get(name) not in (None, [], {}, False)}
    mark = json.dumps(fields, ensure_ascii=False).replace(">", "\\u003e")
    body = _LIKE_A_MARK.sub(r"\\\1", memory["body"])
    return f"<!-- memory {mark} -->\n{body}\n\n"


def read(text: str) -> Iterator[dict[str, Any]]:
    """Yield the memories of a text as their fields; a mark whose JSON is broken is text like any other."""
    if _CARRIED.search(text):
        # The form ends its lines otherwise: an editor changed all of them.
        text = text.replace("\r\n", "\n")
    yield from _marked(text) if _MARK.search(text) else _headed(text)


def _headed(text: str) -> Iterator[dict[str, Any]]:
    title, lines, fence = "", list[str](), ""
    for line in text.split("\n"):
        if not fence and (found := _heading(line)):
            yield from _section(title, lines)
            title, lines = found, []
        else:
            fence = _open_fence(line, fence)
            lines.append(line)
    yield from _section(title, lines)


def _section(title: str, lines: Iterable[str]) -> Iterator[dict[str, Any]]:
    body = "\n".join(lines).strip()
    if title:
        yield {"title": title, "body": body or title}
    elif body:
        yield {"body": body}


def _heading(line: str) -> str:
    """Return the title of a heading of the first level, empty when it is none."""
    if not line.startswith("# "):
        return ""
    title = line[2:].strip()
    # Marks at the end belong to it only behind a blank: that of C# is its own.
    bare = title.rstrip("#")
    return bare.rstrip() if not bare or bare[-1].isspace() else title


def _open_fence(line: str, fence: str) -> str:
    """Return the fence of the code that goes on behind a line, empty when there is none."""
    match = _FENCE.match(line)
    if match is None:
        return fence
    if not fence:
        return match[1]
    return "" if match[1].startswith(fence) and not line[match.end() :].strip() else fence


def _marked(text: str) -> Iterator[dict[str, Any]]:
    # One after the other: whoever reads may stop at a limit.
    marks = _MARK.finditer(text)
    mark = next(marks)
    if before := text[: mark.start()].strip():
        yield {"body": before}
    for following in chain(marks, (None,)):
        body = text[mark.end() : following.start() if following else len(text)]
        try:
            fields = json.loads(mark[1])
        except (ValueError, RecursionError):
            fields = {}
        # The line break behind the mark, and the two behind the body, are the form's and not the body's.
        text_of_body = body.removeprefix("\n")
        text_of_body = text_of_body.removesuffix("\n\n") if text_of_body.endswith("\n\n") else text_of_body.rstrip("\n")
        yield {**fields, "body": _ESCAPED.sub(r"\1", text_of_body)}
        if following:
            mark = following
