"""Deterministic automata, made from expressions by Brzozowski's derivatives.

A grammar with one rule a state has one way to read any text. However a pattern is written, llama.cpp then keeps one
stack while it decodes, and the only thing to bound is the number of states.
J. A. Brzozowski, Derivatives of Regular Expressions, 1964, https://doi.org/10.1145/321239.321249
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass

from pg_steadytext.engines.constraints.derivatives import Arena
from pg_steadytext.engines.constraints.expression import Expression, Range
from pg_steadytext.errors import InvalidArgument

MAX_STATES = 4000


class TooComplex(InvalidArgument):
    """A constraint that would need more states or rules than there may be."""


class MatchesNothing(InvalidArgument):
    """A constraint that no text satisfies."""


@dataclass(frozen=True, slots=True)
class State:
    """Where an automaton stands: which characters lead where, and whether the text may end here."""

    moves: tuple[tuple[tuple[Range, ...], int], ...]
    final: bool


@dataclass(frozen=True, slots=True)
class Automaton:
    """States by number, the first one at 0; every state can reach a final one."""

    states: tuple[State, ...]

    def accepts(self, text: str) -> bool:
        """Whether the whole text is in the language."""
        at = 0
        for char in text:
            code = ord(char)
            for ranges, target in self.states[at].moves:
                if any(first <= code <= last for first, last in ranges):
                    at = target
                    break
            else:
                return False
        return self.states[at].final


def build(expression: Expression, what: str) -> Automaton:
    """The automaton of an expression; `what` names it in errors. Raises TooComplex, MatchesNothing."""
    try:
        arena = Arena(expression)
        moves = _explore(arena, what)
    except RecursionError:
        raise TooComplex(f"{what} is too deeply nested") from None
    alive = _alive(arena, moves)
    if arena.root not in alive:
        raise MatchesNothing(f"no text satisfies {what}")
    order = [node for node in moves if node in alive]
    number = {node: index for index, node in enumerate(order)}
    return Automaton(
        tuple(
            State(
                tuple((arena.ranges(mask), number[to]) for to, mask in moves[node].items() if to in alive),
                arena.nullable(node),
            )
            for node in order
        )
    )


def _explore(arena: Arena, what: str) -> dict[int, dict[int, int]]:
    moves: dict[int, dict[int, int]] = {}
    waiting = deque([arena.root])
    while waiting:
        node = waiting.popleft()
        if node in moves:
            continue
        if len(moves) >= MAX_STATES or arena.full:
            raise TooComplex(
                f"{what} is too large: it needs more than {MAX_STATES} states",
                hint="use smaller repetition counts, or shorter lengths",
            )
        moves[node] = targets = _targets(arena, node)
        waiting.extend(targets)
    return moves


def _targets(arena: Arena, node: int) -> dict[int, int]:
    targets: dict[int, int] = {}
    for atom in arena.atoms:
        to = arena.derivative(node, atom)
        if to != arena.NOTHING:
            targets[to] = targets.get(to, 0) | 1 << atom
    return targets


def _alive(arena: Arena, moves: dict[int, dict[int, int]]) -> set[int]:
    """The states from which a final one can be reached."""
    sources: dict[int, list[int]] = {}
    for node, to in _edges(moves):
        sources.setdefault(to, []).append(node)
    alive = {node for node in moves if arena.nullable(node)}
    waiting = list(alive)
    while waiting:
        for node in sources.get(waiting.pop(), ()):
            if node not in alive:
                alive.add(node)
                waiting.append(node)
    return alive


def _edges(moves: dict[int, dict[int, int]]) -> Iterator[tuple[int, int]]:
    for node, targets in moves.items():
        for to in targets:
            yield node, to
