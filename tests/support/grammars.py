"""Reads the part of llama.cpp's grammar notation that we write, and tells which texts a grammar allows."""

from __future__ import annotations

import re
from typing import Any

TOKEN = re.compile(r'"((?:[^"\\]|\\.)*)"|\[((?:[^\]\\]|\\.)*)\]|([a-z]+(?:-\d+)?)|\{(\d+),(\d*)\}|(\*)|(\|)|\s+')
ESCAPE = re.compile(r"\\u([0-9A-F]{4})|\\U([0-9A-F]{8})")
Stack = tuple[Any, ...]
"""The symbols still to come: (symbol, the rest), or () at the end."""


class GrammarReader:
    """A grammar that follows all its ways at once, as llama.cpp does."""

    def __init__(self, text: str) -> None:
        self._rules = {}
        for line in text.splitlines():
            name, _, body = line.partition(" ::= ")
            self._rules[name] = _options(body)

    def accepts(self, text: str) -> bool:
        """Whether the grammar allows the whole text."""
        stacks = self._expand({(("rule", "root", 1, 1), ())})
        for char in text:
            stacks = self._expand({rest for symbol, rest in filter(None, stacks) if _holds(symbol[1], ord(char))})
        return () in stacks

    def _expand(self, stacks: set[Stack]) -> set[Stack]:
        """Follow rules until a character, or the end, comes next."""
        found: set[Stack] = set()
        seen: set[Stack] = set()
        waiting = list(stacks)
        while waiting:
            stack = waiting.pop()
            if stack in seen:
                continue
            seen.add(stack)
            if not stack or stack[0][0] == "chars":
                found.add(stack)
                continue
            (_, name, least, most), rest = stack
            if least == 0:
                waiting.append(rest)
            if most != 0:
                again = ("rule", name, max(least - 1, 0), None if most is None else most - 1)
                after = rest if most == 1 else (again, rest)
                for option in self._rules[name]:
                    pushed = after
                    for symbol in reversed(option):
                        pushed = (symbol, pushed)
                    waiting.append(pushed)
        return found


def _options(body: str) -> list[list[Any]]:
    options: list[list[Any]] = [[]]
    at = 0
    while at < len(body):
        match = TOKEN.match(body, at)
        assert match, body[at : at + 40]
        literal, members, name, least, most, star, bar = match.groups()
        if literal is not None:
            options[-1] += [("chars", ((ord(char), ord(char)),)) for char in _unescape(literal)]
        elif members is not None:
            options[-1].append(("chars", tuple(_ranges(_codes(members)))))
        elif name is not None:
            options[-1].append(("rule", name, 1, 1))
        elif least is not None or star:
            rule = options[-1].pop()
            options[-1].append(("rule", rule[1], int(least or 0), int(most) if most else None))
        elif bar:
            options.append([])
        at = match.end()
    return options


def _unescape(text: str) -> str:
    return ESCAPE.sub(lambda match: chr(int(match[1] or match[2], 16)), text)


def _codes(members: str) -> list[int | None]:
    """Code points, with None for the hyphen of a range."""
    found: list[int | None] = []
    at = 0
    while at < len(members):
        match = ESCAPE.match(members, at)
        if match:
            found.append(int(match[1] or match[2], 16))
            at = match.end()
        else:
            found.append(None if members[at] == "-" else ord(members[at]))
            at += 1
    return found


def _ranges(codes: list[int | None]) -> list[tuple[int, int]]:
    found: list[tuple[int, int]] = []
    for index, code in enumerate(codes):
        if code is None:
            last = codes[index + 1]
            assert last is not None
            found[-1] = (found[-1][0], last)
        elif index == 0 or codes[index - 1] is not None:
            found.append((code, code))
    return found


def _holds(ranges: tuple[tuple[int, int], ...], code: int) -> bool:
    return any(first <= code <= last for first, last in ranges)
