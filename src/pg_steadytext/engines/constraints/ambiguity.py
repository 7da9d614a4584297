"""How many ways a grammar leaves open to read the same text.

llama.cpp follows every way at once, a stack each. Where two alternatives look alike, what stands inside each of them is
followed twice, and a recursive schema would double the stacks with every level. So such schemas are refused, and the
others are held to a bound.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from pg_steadytext.engines.constraints.automaton import TooComplex

MAX_WAYS = 128
HINT = "let the first required property of each alternative differ in its name, or in its const"


@dataclass(frozen=True, slots=True)
class Alternative:
    """One kind of value under a rule: its type, the rules of its parts, and what tells it from others at once.

    `mark` is the name of an object's first property, if it is required, with the only values that it may have.
    """

    kind: str
    parts: tuple[str, ...] = ()
    mark: tuple[str, frozenset[str] | None] | None = None

    def looks_like(self, other: Alternative) -> bool:
        """Whether some text may begin both, beyond the first property."""
        if self.kind != other.kind:
            return False
        if self.mark is None or other.mark is None:
            return True
        (name, values), (other_name, other_values) = self.mark, other.mark
        if name != other_name:
            return False
        return values is None or other_values is None or not values.isdisjoint(other_values)


@dataclass(slots=True)
class Ambiguity:
    """The alternatives of every rule of values, and the rules that are another name of others."""

    alternatives: dict[str, list[Alternative]] = field(default_factory=dict)
    aliases: dict[str, list[str]] = field(default_factory=dict)

    def check(self, root: str) -> None:
        """Raises TooComplex."""
        ways: dict[str, int] = {}
        order = self._order(root)
        reached = {name: number for number, component in enumerate(order) for name in component}
        for component in order:
            for name in component:
                ways[name] = self._ways(name, ways, reached)
                if ways[name] > MAX_WAYS:
                    raise TooComplex(
                        'the schema\'s keyword "anyOf" (or "oneOf") has alternatives that look alike at several '
                        f"levels: more than {MAX_WAYS} ways to read a text",
                        hint=HINT,
                    )

    def _ways(self, name: str, ways: dict[str, int], component: dict[str, int]) -> int:
        most = 1
        alternatives = self._all(name)
        for one in alternatives:
            alike = [other for other in alternatives if one.looks_like(other)]
            if len(alike) > 1 and any(component[part] == component[name] for other in alike for part in other.parts):
                raise TooComplex(
                    'the schema\'s keyword "anyOf" (or "oneOf") has alternatives that look alike, and one of them '
                    "contains itself",
                    hint=HINT,
                )
            total = sum(max([1, *(ways.get(part, 1) for part in other.parts)]) for other in alike)
            most = max(most, total)
        return most

    def _all(self, name: str) -> list[Alternative]:
        seen = {name: None}
        waiting = [name]
        while waiting:
            for other in self.aliases.get(waiting.pop(), ()):
                if other not in seen:
                    seen[other] = None
                    waiting.append(other)
        return [alternative for rule in seen for alternative in self.alternatives.get(rule, ())]

    def _next(self, name: str) -> Iterator[str]:
        yield from self.aliases.get(name, ())
        for alternative in self.alternatives.get(name, ()):
            yield from alternative.parts

    def _order(self, root: str) -> list[list[str]]:
        """The strongly connected rules, inner ones first (Tarjan's algorithm, without recursion)."""
        number: dict[str, int] = {}
        low: dict[str, int] = {}
        stack: list[str] = []
        found: list[list[str]] = []
        done: set[str] = set()
        work: list[tuple[str, Iterator[str]]] = []

        def enter(name: str) -> None:
            number[name] = low[name] = len(number)
            stack.append(name)
            work.append((name, self._next(name)))

        enter(root)
        while work:
            name, following = work[-1]
            for other in following:
                if other not in number:
                    enter(other)
                    break
                if other not in done:
                    low[name] = min(low[name], number[other])
            else:
                work.pop()
                if work:
                    low[work[-1][0]] = min(low[work[-1][0]], low[name])
                if low[name] == number[name]:
                    component = stack[stack.index(name) :]
                    del stack[stack.index(name) :]
                    done.update(component)
                    found.append(component)
        return found
