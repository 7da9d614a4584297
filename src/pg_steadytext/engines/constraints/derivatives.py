"""What is left of an expression once a character has been read.

Expressions are interned as numbers and simplified as they are made (options and parts are flat, sorted and free of
repetition), which keeps the number of different derivatives finite. Characters that no expression tells apart are
one atom, so that each state asks for a handful of derivatives and not for a million.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise
from typing import Final

from pg_steadytext.engines.constraints.expression import (
    Alt,
    Both,
    Chars,
    Expression,
    Multiple,
    Not,
    Range,
    Repeat,
    Seq,
)

MAX_NODES = 200_000
MAX_WORK = 1_000_000
TEXT_RANGES: tuple[Range, ...] = ((0x1, 0xD7FF), (0xE000, 0x10FFFF))
"""What a PostgreSQL text in UTF-8 can hold: neither U+0000 nor a surrogate."""

Key = tuple[object, ...]


class Arena:
    """The interned expressions of one root, and their derivatives."""

    NOTHING: Final = 0
    EMPTY: Final = 1

    def __init__(self, root: Expression) -> None:
        self._keys: list[Key] = []
        self._ids: dict[Key, int] = {}
        self._nullable: list[bool] = []
        self._work = 0
        self._memo: dict[tuple[int, int], int] = {}
        self._intern(("nothing",), nullable=False)
        self._intern(("empty",), nullable=True)
        self._all = self._intern(("all",), nullable=True)
        self._sets = list(dict.fromkeys(_char_sets(root)))
        self._atoms = _atoms(self._sets)
        self.atoms = range(len(self._atoms))
        self._masks = {
            ranges: sum(1 << atom for atom in self.atoms if self._atoms[atom][0] >> index & 1)
            for index, ranges in enumerate(self._sets)
        }
        self._digits = {
            mask.bit_length() - 1: int(chr(ranges[0][0]))
            for ranges, mask in self._masks.items()
            if len(ranges) == 1 and ranges[0][0] == ranges[0][1] and chr(ranges[0][0]) in "0123456789"
        }
        self.root = self._enter(root)

    @property
    def full(self) -> bool:
        """Whether there are more expressions, or more work with them, than there may be."""
        return len(self._keys) > MAX_NODES or self._work > MAX_WORK

    def nullable(self, node: int) -> bool:
        """Whether the empty text belongs to it."""
        return self._nullable[node]

    def ranges(self, mask: int) -> tuple[Range, ...]:
        """The characters of a set of atoms."""
        found: list[Range] = []
        for first, last in sorted(pair for atom in self.atoms if mask >> atom & 1 for pair in self._atoms[atom][1]):
            if found and found[-1][1] + 1 == first:
                found[-1] = (found[-1][0], last)
            else:
                found.append((first, last))
        return tuple(found)

    def derivative(self, node: int, atom: int) -> int:
        """What is left of `node` after a character of that atom."""
        known = self._memo.get((node, atom))
        if known is None:
            known = self._memo[node, atom] = self._derive(self._keys[node], atom)
        return known

    def _derive(self, key: Key, atom: int) -> int:
        match key:
            case ("chars", int(mask)):
                return self.EMPTY if mask >> atom & 1 else self.NOTHING
            case ("seq", int(head), int(tail)):
                left = self._seq(self.derivative(head, atom), tail)
                return self._alt([left, self.derivative(tail, atom)]) if self._nullable[head] else left
            case ("alt", tuple(options)):
                return self._alt([self.derivative(option, atom) for option in options])
            case ("both", tuple(parts)):
                return self._both([self.derivative(part, atom) for part in parts])
            case ("not", int(part)):
                return self._not(self.derivative(part, atom))
            case ("repeat", int(part), int(least), most):
                rest = self._repeat(part, max(least - 1, 0), most - 1 if isinstance(most, int) else None)
                return self._seq(self.derivative(part, atom), rest)
            case ("multiple", int(of), int(remainder)):
                digit = self._digits.get(atom)
                return self._multiple(of, remainder if digit is None else (remainder * 10 + digit) % of)
            case ("all",):
                return self._all
        return self.NOTHING

    def _enter(self, expression: Expression) -> int:
        match expression:
            case Chars(ranges):
                return self._chars(self._masks[ranges])
            case Seq(parts):
                node = self.EMPTY
                for part in reversed(parts):
                    node = self._seq(self._enter(part), node)
                return node
            case Alt(options):
                return self._alt([self._enter(option) for option in options])
            case Both(parts):
                return self._both([self._enter(part) for part in parts])
            case Not(part):
                return self._not(self._enter(part))
            case Repeat(part, least, most):
                if most is not None and most < least:
                    return self.NOTHING
                return self._repeat(self._enter(part), least, most)
            case Multiple(of, remainder):
                return self._multiple(of, remainder)

    def _intern(self, key: Key, *, nullable: bool) -> int:
        node = self._ids.get(key)
        if node is None:
            node = self._ids[key] = len(self._keys)
            self._keys.append(key)
            self._nullable.append(nullable)
        return node

    def _chars(self, mask: int) -> int:
        return self._intern(("chars", mask), nullable=False) if mask else self.NOTHING

    def _seq(self, head: int, tail: int) -> int:
        if self.NOTHING in (head, tail):
            return self.NOTHING
        if head == self.EMPTY:
            return tail
        if tail == self.EMPTY:
            return head
        key = self._keys[head]
        if key[0] == "seq":
            assert isinstance(key[1], int)
            assert isinstance(key[2], int)
            return self._seq(key[1], self._seq(key[2], tail))
        return self._intern(("seq", head, tail), nullable=self._nullable[head] and self._nullable[tail])

    def _alt(self, options: Iterable[int]) -> int:
        flat = self._flat("alt", options)
        if self._all in flat:
            return self._all
        flat.discard(self.NOTHING)
        mask = 0
        for option in list(flat):
            key = self._keys[option]
            if key[0] == "chars":
                assert isinstance(key[1], int)
                mask |= key[1]
                flat.discard(option)
        if mask:
            flat.add(self._chars(mask))
        if not flat:
            return self.NOTHING
        if len(flat) == 1:
            return flat.pop()
        return self._intern(("alt", tuple(sorted(flat))), nullable=any(self._nullable[option] for option in flat))

    def _both(self, parts: Iterable[int]) -> int:
        flat = self._flat("both", parts)
        if self.NOTHING in flat:
            return self.NOTHING
        flat.discard(self._all)
        if not flat:
            return self._all
        if len(flat) == 1:
            return flat.pop()
        return self._intern(("both", tuple(sorted(flat))), nullable=all(self._nullable[part] for part in flat))

    def _flat(self, kind: str, members: Iterable[int]) -> set[int]:
        flat: set[int] = set()
        self._work += 1
        for member in members:
            key = self._keys[member]
            if key[0] == kind:
                assert isinstance(key[1], tuple)
                flat.update(key[1])
                self._work += len(key[1])
            else:
                flat.add(member)
        return flat

    def _not(self, part: int) -> int:
        key = self._keys[part]
        if key[0] == "not":
            assert isinstance(key[1], int)
            return key[1]
        if part == self.NOTHING:
            return self._all
        if part == self._all:
            return self.NOTHING
        return self._intern(("not", part), nullable=not self._nullable[part])

    def _repeat(self, part: int, least: int, most: int | None) -> int:
        if most == 0 or part == self.EMPTY:
            return self.EMPTY
        if part == self.NOTHING:
            return self.EMPTY if least == 0 else self.NOTHING
        if (least, most) == (1, 1):
            return part
        if self._nullable[part]:
            least = 0
        key = self._keys[part]
        if key[0] == "repeat" and key[2] == 0 and least == 0:
            assert isinstance(key[1], int)
            assert isinstance(key[3], int | None)
            part, most = key[1], None if key[3] is None or most is None else key[3] * most
        return self._intern(("repeat", part, least, most), nullable=least == 0)

    def _multiple(self, of: int, remainder: int) -> int:
        return self._intern(("multiple", of, remainder), nullable=remainder == 0)


def _char_sets(expression: Expression) -> list[tuple[Range, ...]]:
    match expression:
        case Chars(ranges):
            return [ranges]
        case Seq(parts) | Alt(parts) | Both(parts):
            return [found for part in parts for found in _char_sets(part)]
        case Not(part) | Repeat(part):
            return _char_sets(part)
        case Multiple():
            return [((ord(digit), ord(digit)),) for digit in "0123456789"]


def _atoms(sets: list[tuple[Range, ...]]) -> list[tuple[int, list[Range]]]:
    """The classes of characters that the sets do not tell apart: (which sets hold it, its ranges)."""
    opens: dict[int, int] = {}
    edges: set[int] = set()
    for index, ranges in enumerate(sets):
        for first, last in ranges:
            opens[first] = opens.get(first, 0) ^ 1 << index
            opens[last + 1] = opens.get(last + 1, 0) ^ 1 << index
            edges |= {first, last + 1}
    for first, last in TEXT_RANGES:
        edges |= {first, last + 1}
    found: dict[int, list[Range]] = {}
    inside = 0
    ordered = sorted(edges)
    for start, end in pairwise(ordered):
        inside ^= opens.get(start, 0)
        if any(first <= start <= last for first, last in TEXT_RANGES):
            found.setdefault(inside, []).append((start, end - 1))
    return list(found.items())
