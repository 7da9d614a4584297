"""Constraints made ready for use, each once: the grammar that a model follows, and the check of its answer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

from pg_steadytext.engines.constraints.automaton import Automaton, build
from pg_steadytext.engines.constraints.constraint import Constraint
from pg_steadytext.engines.constraints.dialect import read_pattern
from pg_steadytext.engines.constraints.expression import ANYTHING, Both, Chars, Range, Seq, complement
from pg_steadytext.engines.constraints.gbnf import Grammar, Literal
from pg_steadytext.engines.constraints.schema import compile_schema
from pg_steadytext.errors import ModelFailed

KEPT = 256
PRINTED = Seq((Chars(complement(((0x9, 0xD), (0x20, 0x20)))), ANYTHING))
"""A text with something in it, which does not begin with white space: llama.cpp's chat parser would drop that."""


@dataclass(frozen=True, slots=True)
class Compiled:
    """`grammar` in llama.cpp's notation; `check` raises ModelFailed for an answer that does not satisfy it."""

    grammar: str
    check: Callable[[str], None]


@lru_cache(maxsize=KEPT)
def compiled(constraint: Constraint, unwritable: tuple[Range, ...] = ()) -> Compiled:
    """A constraint's grammar, without `unwritable` characters, and check.

    Raises InvalidArgument for what cannot be kept to.
    """
    source = constraint.source
    if constraint.kind == "schema":
        assert isinstance(source, str)
        return Compiled(*compile_schema(source, unwritable))
    if constraint.kind == "regex":
        assert isinstance(source, str)
        return _compile_regex(source, unwritable)
    assert isinstance(source, tuple)
    grammar = Grammar(unwritable=unwritable)
    root = grammar.add("choice", *((Literal(option),) for option in source))
    return Compiled(grammar.write(root, "the choices"), _member(source))


def _compile_regex(pattern: str, unwritable: tuple[Range, ...]) -> Compiled:
    automaton = build(Both((read_pattern(pattern), PRINTED)), "the pattern")
    grammar = Grammar(unwritable=unwritable)
    return Compiled(grammar.write(grammar.automaton(automaton), "the pattern"), _whole_match(automaton))


def _whole_match(automaton: Automaton) -> Callable[[str], None]:
    def check(answer: str) -> None:
        if not automaton.accepts(answer):
            raise ModelFailed("the model's answer does not match the pattern")

    return check


def _member(options: tuple[str, ...]) -> Callable[[str], None]:
    def check(answer: str) -> None:
        if answer not in options:
            raise ModelFailed("the model's answer is none of the choices")

    return check
