"""Regular expressions as values: sets of characters, and what can be built from them.

An expression stands for a set of texts. Intersection and complement are ordinary members, so that "matches this
pattern, is 3 to 8 characters long and is none of these" is one expression; `automaton` turns it into states.
"""

from __future__ import annotations

from dataclasses import dataclass

Range = tuple[int, int]
"""First and last code point, both included."""

LAST = 0x10FFFF


@dataclass(frozen=True, slots=True)
class Chars:
    """One character out of some ranges."""

    ranges: tuple[Range, ...]


@dataclass(frozen=True, slots=True)
class Seq:
    """One after the other; without parts it is the empty text."""

    parts: tuple[Expression, ...]


@dataclass(frozen=True, slots=True)
class Alt:
    """Any of the options; without options it is nothing at all."""

    options: tuple[Expression, ...]


@dataclass(frozen=True, slots=True)
class Both:
    """What every part stands for."""

    parts: tuple[Expression, ...]


@dataclass(frozen=True, slots=True)
class Not:
    """Every text that `part` does not stand for."""

    part: Expression


@dataclass(frozen=True, slots=True)
class Repeat:
    """`part` from `least` to `most` times; None has no end."""

    part: Expression
    least: int = 0
    most: int | None = None


@dataclass(frozen=True, slots=True)
class Multiple:
    """Texts whose digits, read on from `remainder`, are a multiple of `of`; other characters are skipped."""

    of: int
    remainder: int = 0


Expression = Chars | Seq | Alt | Both | Not | Repeat | Multiple

EMPTY = Seq(())
NOTHING = Alt(())
ANY = Chars(((0, LAST),))
ANYTHING = Repeat(ANY)
DIGIT = Chars(((0x30, 0x39),))


def text(value: str) -> Expression:
    """Exactly this text."""
    return Seq(tuple(Chars(((ord(char), ord(char)),)) for char in value))


def one_of(values: str) -> Chars:
    """One of these characters."""
    return Chars(tuple((ord(char), ord(char)) for char in values))


def span(first: str, last: str) -> Chars:
    """One character from `first` to `last`."""
    return Chars(((ord(first), ord(last)),))


def optional(part: Expression) -> Expression:
    """Once or not at all."""
    return Repeat(part, 0, 1)


def complement(ranges: tuple[Range, ...]) -> tuple[Range, ...]:
    """The code points outside of some ranges."""
    found: list[Range] = []
    start = 0
    for first, last in sorted(ranges):
        if first > start:
            found.append((start, first - 1))
        start = max(start, last + 1)
    if start <= LAST:
        found.append((start, LAST))
    return tuple(found)


def overlap(left: tuple[Range, ...], right: tuple[Range, ...]) -> tuple[Range, ...]:
    """The code points in both."""
    return tuple((max(a, c), min(b, d)) for a, b in left for c, d in right if max(a, c) <= min(b, d))
