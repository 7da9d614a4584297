"""Objects and arrays as rules."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from pg_steadytext.engines.constraints.automaton import TooComplex, build
from pg_steadytext.engines.constraints.dialect import read_search
from pg_steadytext.engines.constraints.expression import ANY, Alt, Both, Expression, Not, Repeat, text
from pg_steadytext.engines.constraints.gbnf import Grammar, Literal, Option, Rule
from pg_steadytext.engines.constraints.keywords import Schema
from pg_steadytext.engines.constraints.merge import Flat

MAX_ITEMS = 1000
COMMA, COLON = ", ", ": "
MAX_NAME = 40
NAME = Repeat(ANY, 1, MAX_NAME)


class Containers:
    """Writes the rules of objects and arrays; `value` gives the rule of a schema, `string` that of a JSON string."""

    def __init__(self, grammar: Grammar, value: Callable[[Schema], Rule], string: Callable[[Expression], Rule]) -> None:
        self._grammar = grammar
        self._value = value
        self._string = string

    def objects(self, flat: Flat) -> list[Option]:
        """Declared properties in their order, then the others that the schema speaks of.

        A property that is neither declared nor spoken of is allowed by the standard, but never written.
        """
        required: list[str] = flat.get("required", [])
        declared: dict[str, Any] = flat.get("properties", {})
        patterns = {pattern: read_search(pattern) for pattern in flat.get("patternProperties", {})}
        pairs = []
        for name in [*declared, *(name for name in required if name not in declared)]:
            schema: Schema = declared[name] if name in declared else flat.get("additionalProperties", True)
            label = Literal(json.dumps(name, ensure_ascii=False) + COLON)
            matched = self._matched(name, patterns, flat)
            if matched:
                schema = {"allOf": [*([schema] if name in declared else []), *matched]}
            pairs.append((self._grammar.add("pair", (label, self._value(schema))), name in required))
        others = self._others(flat, patterns, [*{**declared, **dict.fromkeys(required)}])
        return [(Literal("{"), self._members(pairs, others, flat))]

    def _matched(self, name: str, patterns: dict[str, Expression], flat: Flat) -> list[Schema]:
        return [
            flat["patternProperties"][pattern]
            for pattern, expression in patterns.items()
            if build(expression, f'the pattern "{pattern}"').accepts(name)
        ]

    def _others(self, flat: Flat, patterns: dict[str, Expression], names: list[str]) -> Rule | None:
        """A pair of a name that is not declared and its value, if the schema speaks of such."""
        options: list[Option] = []
        taken: list[Expression] = [text(name) for name in names]
        for pattern, expression in patterns.items():
            rest = [other for key, other in patterns.items() if key != pattern]
            options.append(self._other(Both((NAME, expression)), [*taken, *rest], flat["patternProperties"][pattern]))
        spoken = "additionalProperties" in flat or not (names or patterns)
        additional: Schema = flat.get("additionalProperties", True)
        if spoken and additional is not False:
            options.append(self._other(NAME, [*taken, *patterns.values()], additional))
        return self._grammar.add("other", *options) if options else None

    def _other(self, name: Expression, taken: list[Expression], schema: Schema) -> Option:
        free = Both((name, Not(Alt(tuple(taken))))) if taken else name
        return (self._string(free), Literal(COLON), self._value(schema))

    def _members(self, pairs: list[tuple[Rule, bool]], others: Rule | None, flat: Flat) -> Rule:
        add = self._grammar.add
        closed: Option = (Literal("}"),)
        first_options, more_options = [closed], [closed]
        if others is not None and flat.get("maxProperties") != 0:
            another = add("another", (Literal(COMMA), others))
            least, most = self._counts(pairs, flat)
            first_options = [
                (others, Rule(another.name, max(least - 1, 0), most if most is None else most - 1), *closed)
            ]
            if least == 0:
                first_options.append(closed)
            more_options = [(Rule(another.name, least, most), *closed)]
        first, more = add("first", *first_options), add("more", *more_options)
        for pair, is_required in reversed(pairs):
            skipped: list[tuple[Option, Option]] = [] if is_required else [((first,), (more,))]
            first_options = [(pair, more), *(option for option, _ in skipped)]
            more_options = [(Literal(COMMA), pair, more), *(option for _, option in skipped)]
            first, more = add("first", *first_options), add("more", *more_options)
        return first

    def _counts(self, pairs: list[tuple[Rule, bool]], flat: Flat) -> tuple[int, int | None]:
        """How many other properties there must and may be; exact where none is declared."""
        least, most = flat.get("minProperties", 0), flat.get("maxProperties")
        if least > MAX_ITEMS:
            raise TooComplex(f'the schema\'s keyword "minProperties" may be at most {MAX_ITEMS}')
        least = max(least - sum(is_required for _, is_required in pairs), 0)
        if most is None:
            return least, None
        return least, max(min(most, MAX_ITEMS) - len(pairs), least)

    def arrays(self, flat: Flat) -> list[Option]:
        """The items of a prefix, then as many others as there may be."""
        prefix: list[Schema] = flat.get("prefixItems", [])
        least, most = int(flat.get("minItems", 0)), flat.get("maxItems")
        if least > MAX_ITEMS:
            raise TooComplex(f'the schema\'s keyword "minItems" may be at most {MAX_ITEMS}')
        if most is None and prefix and "items" not in flat:
            most = max(len(prefix), least)
        items = flat.get("items")
        values = items.get("enum") if isinstance(items, dict) else None
        if flat.get("uniqueItems") and values is not None:
            most = min(len(values) + len(prefix), len(values) + len(prefix) if most is None else int(most))
        most = None if most is None else min(int(most), max(least, MAX_ITEMS))
        if most is not None and most < least:
            return []
        prefix = prefix if most is None else prefix[:most]
        rest = self._rest(flat, len(prefix), least, most)
        for index in reversed(range(1, len(prefix))):
            options: list[Option] = [(Literal(COMMA), self._value(prefix[index]), rest)]
            if index >= least:
                options.append((Literal("]"),))
            rest = self._grammar.add("tail", *options)
        if not prefix:
            return [(Literal("["), rest)]
        whole: list[Option] = [(Literal("["), self._value(prefix[0]), rest)]
        return [*whole, (Literal("[]"),)] if least == 0 else whole

    def _rest(self, flat: Flat, done: int, least: int, most: int | None) -> Rule:
        """The items after `done` ones, and the end."""
        if most is not None and most <= done:
            return self._grammar.add("end", (Literal("]"),))
        item = self._value(flat.get("items", True))
        another = self._grammar.add("another", (Literal(COMMA), item))
        least = max(least - done, 0)
        left = None if most is None else most - done
        if done:
            return self._grammar.add("rest", (Rule(another.name, least, left), Literal("]")))
        repeated = Rule(another.name, max(least - 1, 0), None if left is None else left - 1)
        options: list[Option] = [(item, repeated, Literal("]"))]
        if least == 0:
            options.append((Literal("]"),))
        return self._grammar.add("items", *options)
