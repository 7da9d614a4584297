"""Regular expressions as people write them: a subset of Python's `re`, or of JSON Schema's `pattern`.

Literals, classes, `\\d \\w \\s` and their opposites, groups, alternation, quantifiers (lazy ones mean the same set of
texts), `.`, and `^` and `$` at the ends. What no automaton of one pass can keep to is refused by its name.
"""

from __future__ import annotations

import re
import sys
import warnings
from collections.abc import Sequence
from functools import cache
from typing import Any

from pg_steadytext.engines.constraints.automaton import TooComplex
from pg_steadytext.engines.constraints.expression import (
    ANYTHING,
    EMPTY,
    Alt,
    Chars,
    Expression,
    Range,
    Repeat,
    Seq,
    complement,
    overlap,
)
from pg_steadytext.errors import InvalidArgument

_parser: Any = re._parser  # type: ignore[attr-defined]
_op: Any = re._constants  # type: ignore[attr-defined]

MAX_PATTERN = 10_000
ECMA_SPACE: tuple[Range, ...] = (
    (0x9, 0xD), (0x20, 0x20), (0xA0, 0xA0), (0x1680, 0x1680), (0x2000, 0x200A), (0x2028, 0x2029), (0x202F, 0x202F),
    (0x205F, 0x205F), (0x3000, 0x3000), (0xFEFF, 0xFEFF),
)  # fmt: skip
ASCII_SPACE: tuple[Range, ...] = ((0x9, 0xD), (0x20, 0x20))
ASCII_DIGITS: tuple[Range, ...] = ((0x30, 0x39),)
ASCII_WORD: tuple[Range, ...] = ((0x30, 0x39), (0x41, 0x5A), (0x5F, 0x5F), (0x61, 0x7A))
EVERYDAY: tuple[Range, ...] = ((0, 0x1FFF), (0x3040, 0xD7FF))
"""The blocks of the living alphabets, syllabaries and ideographs."""
STARTS = (_op.AT_BEGINNING, _op.AT_BEGINNING_STRING)
ENDS = (_op.AT_END, _op.AT_END_STRING)
REFUSED = {
    _op.ASSERT: "lookaround",
    _op.ASSERT_NOT: "lookaround",
    _op.GROUPREF: "a backreference",
    _op.GROUPREF_EXISTS: "a conditional group",
    _op.ATOMIC_GROUP: "an atomic group",
    _op.POSSESSIVE_REPEAT: "a possessive quantifier",
}
BOUNDARIES = {_op.AT_BOUNDARY: "\\b", _op.AT_NON_BOUNDARY: "\\B"}
Items = Sequence[tuple[Any, Any]]


def read_pattern(pattern: str) -> Expression:
    """The texts that a Python pattern matches from end to end. Raises InvalidArgument."""
    return _Reader(unicode=True).sequence(_parse(pattern), first=True, last=True)


def read_search(pattern: str) -> Expression:
    """The texts in which a JSON Schema pattern is found; its classes are those of ECMA-262."""
    return _Reader(unicode=False).search(_parse(pattern))


def _parse(pattern: str) -> Items:
    if len(pattern) > MAX_PATTERN:
        raise TooComplex(f"the pattern is longer than {MAX_PATTERN} characters")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            parsed = _parser.parse(pattern)
    except (re.error, OverflowError) as error:
        raise InvalidArgument(f"the pattern is not a regular expression: {error}") from None
    except RecursionError:
        raise TooComplex("the pattern is too deeply nested") from None
    flags = re.RegexFlag(parsed.state.flags & ~re.UNICODE)
    if flags:
        raise _refused(f"a flag ({flags.name or flags})")
    items: Items = parsed.data
    return items


class _Reader:
    """Turns parsed patterns into expressions; `unicode` tells Python's classes from ECMA-262's."""

    def __init__(self, *, unicode: bool) -> None:
        self._unicode = unicode
        newlines = ((10, 10),) if unicode else ((10, 10), (13, 13), (0x2028, 0x2029))
        self._dot = Chars(complement(newlines))

    def search(self, items: Items) -> Expression:
        """What holds a match anywhere, unless anchors tie it to an end."""
        if len(items) == 1 and items[0][0] is _op.BRANCH:
            return Alt(tuple(self.search(option.data) for option in items[0][1][1]))
        if len(items) == 1 and items[0][0] is _op.SUBPATTERN and not any(items[0][1][1:3]):
            return self.search(items[0][1][3].data)
        starts = bool(items) and items[0][0] is _op.AT and items[0][1] in STARTS
        ends = bool(items) and items[-1][0] is _op.AT and items[-1][1] in ENDS
        middle = self.sequence(items, first=starts, last=ends)
        return Seq((EMPTY if starts else ANYTHING, middle, EMPTY if ends else ANYTHING))

    def sequence(self, items: Items, *, first: bool, last: bool) -> Expression:
        """One item after the other; `first` and `last` tell whether anchors may stand at that end."""
        parts: list[Expression] = []
        for index, (op, value) in enumerate(items):
            at_start = first and all(before[0] is _op.AT for before in items[:index])
            at_end = last and all(after[0] is _op.AT for after in items[index + 1 :])
            if op is _op.AT:
                self._check_anchor(value, at_start=at_start, at_end=at_end)
            else:
                parts.append(self._item(op, value, first=at_start, last=at_end))
        return Seq(tuple(parts))

    def _check_anchor(self, value: Any, *, at_start: bool, at_end: bool) -> None:
        if value in BOUNDARIES:
            raise _refused(f"a word boundary ({BOUNDARIES[value]})")
        if (value in STARTS and not at_start) or (value in ENDS and not at_end):
            raise _refused(f"an anchor ({'^' if value in STARTS else '$'}) that is not at the pattern's end")

    def _item(self, op: Any, value: Any, *, first: bool, last: bool) -> Expression:
        if op in REFUSED:
            raise _refused(REFUSED[op])
        if op is _op.LITERAL:
            return Chars(((value, value),))
        if op is _op.NOT_LITERAL:
            return Chars(complement(((value, value),)))
        if op is _op.ANY:
            return self._dot
        if op is _op.IN:
            return Chars(self._members(value))
        if op is _op.BRANCH:
            return Alt(tuple(self.sequence(option.data, first=first, last=last) for option in value[1]))
        if op is _op.SUBPATTERN:
            _group, added, removed, inner = value
            if added or removed:
                raise _refused("a flag")
            return self.sequence(inner.data, first=first, last=last)
        if op in (_op.MAX_REPEAT, _op.MIN_REPEAT):
            least, most, inner = value
            part = self.sequence(inner.data, first=False, last=False)
            return Repeat(part, int(least), None if most is _op.MAXREPEAT else int(most))
        raise _refused(str(op).lower())

    def _members(self, items: Items) -> tuple[Range, ...]:
        negated = items[0][0] is _op.NEGATE
        ranges: list[Range] = []
        for op, value in items[1:] if negated else items:
            if op is _op.LITERAL:
                ranges.append((value, value))
            elif op is _op.RANGE:
                ranges.append(value)
            elif op is _op.CATEGORY:
                name = str(value).removeprefix("CATEGORY_")
                ranges.extend(_category(name, unicode=self._unicode, whole=negated))
            else:
                raise _refused(str(op).lower())
        merged = complement(complement(tuple(ranges)))
        return complement(merged) if negated else merged


@cache
def _category(name: str, *, unicode: bool, whole: bool) -> tuple[Range, ...]:
    """The characters of a class; unless `whole`, only those that a text is likely to mean.

    A model that would rather write an emoji takes the first byte of any rare digit as the beginning of one. So what is
    written for a class is a part of it, while what is excluded by a class is all of it: both keep to the pattern.
    """
    if name.startswith("NOT_"):
        return complement(_category(name.removeprefix("NOT_"), unicode=unicode, whole=True))
    if not whole and name == "SPACE":
        return ASCII_SPACE
    if not whole and name == "DIGIT":
        return ASCII_DIGITS
    if unicode:
        found = re.finditer({"DIGIT": r"\d+", "WORD": r"\w+", "SPACE": r"\s+"}[name], _every_character())
        ranges = tuple((match.start(), match.end() - 1) for match in found)
        return ranges if whole else overlap(ranges, EVERYDAY)
    if name == "SPACE":
        return ECMA_SPACE
    return ASCII_DIGITS if name == "DIGIT" else ASCII_WORD


def _every_character() -> str:
    return "".join(map(chr, range(sys.maxunicode + 1)))


def _refused(what: str) -> InvalidArgument:
    return InvalidArgument(
        f"the pattern has {what}, which is not supported", hint="docs/structured.md tells the dialect"
    )
