"""JSON schemas as grammars.

The grammar writes compact JSON (`{"a": 1, "b": [2, 3]}`) with the properties in the schema's order, so that a small
model has no white space to get lost in. It may allow less than the schema, but nothing that the keywords it writes
forbid; every answer is checked against the whole schema besides.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from decimal import Decimal
from typing import Any

from pg_steadytext.engines.constraints import formats, numbers
from pg_steadytext.engines.constraints.ambiguity import Alternative, Ambiguity
from pg_steadytext.engines.constraints.automaton import MatchesNothing, TooComplex, build
from pg_steadytext.engines.constraints.containers import Containers
from pg_steadytext.engines.constraints.dialect import read_search
from pg_steadytext.engines.constraints.expression import ANY, ANYTHING, Alt, Both, Expression, Range, Repeat, text
from pg_steadytext.engines.constraints.gbnf import Grammar, Literal, Option, Rule
from pg_steadytext.engines.constraints.keywords import Schema, check_draft, check_keywords
from pg_steadytext.engines.constraints.merge import CHOICES, FORMATS, PATTERNS, Flat, Merger
from pg_steadytext.engines.constraints.validation import check_schema, checker, validator

TYPES = ("object", "array", "string", "number", "boolean", "null")
TELLING = {
    "object": ("properties", "required", "additionalProperties", "patternProperties",
               "minProperties", "maxProperties"),
    "array": ("prefixItems", "items", "minItems", "maxItems", "uniqueItems"),
    "string": (PATTERNS, FORMATS, "minLength", "maxLength"),
    "number": ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"),
}  # fmt: skip
MAX_TEXT = 2000


def compile_schema(source: str, unwritable: tuple[Range, ...] = ()) -> tuple[str, Callable[[str], None]]:
    """The grammar of a schema, without `unwritable` characters, and the check of what a model wrote by it.

    Raises InvalidArgument, which names the keyword that is refused; TooComplex; MatchesNothing.
    """
    schema: Schema = json.loads(source)
    try:
        check_draft(schema)
        check_schema(schema)
        check_keywords(schema)
        compiler = _Compiler(schema, unwritable)
        root = compiler.value(schema)
        compiler.ambiguity.check(root.name)
        grammar = compiler.grammar.write(root, "the schema")
        return grammar, checker(validator(schema))
    except RecursionError:
        raise TooComplex("the schema is too deeply nested") from None


class _Compiler:
    """Makes a rule for every different schema in a document."""

    def __init__(self, root: Schema, unwritable: tuple[Range, ...]) -> None:
        self.grammar = Grammar(unwritable=unwritable)
        self.ambiguity = Ambiguity()
        self._parts: list[list[str]] = [[]]
        self._root = root
        self._merger = Merger(root)
        self._values: dict[str, Rule] = {}
        self._strings: dict[Expression, Rule] = {}
        self._scalars: dict[Expression, Rule] = {}
        self._containers = Containers(self.grammar, self.value, self.string_rule)

    def value(self, schema: Schema) -> Rule:
        """The rule of a schema's values; one without options where nothing satisfies it."""
        key = json.dumps(schema)
        if key not in self._values:
            name = self.grammar.name("v")
            self._values[key] = Rule(name)
            flat = self._merger.flatten(schema)
            if flat is not None:
                self.grammar.rules[name].extend(self._options(name, flat))
        self._parts[-1].append(self._values[key].name)
        return self._values[key]

    def _options(self, name: str, flat: Flat) -> list[Option]:
        if flat.get(CHOICES):
            groups = flat[CHOICES]
            rest = _spelled({**flat, CHOICES: groups[1:]})
            rules = [self.value({"allOf": [rest, choice]}) if rest else self.value(choice) for choice in groups[0]]
            self.ambiguity.aliases[name] = [rule.name for rule in rules]
            return [(rule,) for rule in rules]
        if "enum" in flat:
            return self._one_of(self._allowed(flat))
        options: list[Option] = []
        for kind in _types(flat):
            self._parts.append([])
            options += self._of_type(kind, flat)
            parts = tuple(dict.fromkeys(self._parts.pop()))
            alternative = Alternative(kind, parts, _mark(flat) if kind == "object" else None)
            self.ambiguity.alternatives.setdefault(name, []).append(alternative)
        return options

    def _one_of(self, values: list[Any]) -> list[Option]:
        """Fixed values; the texts among them as one automaton."""
        texts = tuple(text(value) for value in values if isinstance(value, str))
        others = [value for value in values if not isinstance(value, str)]
        options: list[Option] = [(Literal(json.dumps(value, ensure_ascii=False)),) for value in others]
        return [(self.string_rule(Alt(texts)),), *options] if texts else options

    def _allowed(self, flat: Flat) -> list[Any]:
        """The values of an enum that the other keywords allow."""
        rest = _spelled({key: value for key, value in flat.items() if key != "enum"})
        if not rest:
            return list(flat["enum"])
        definitions: dict[str, Any] = {}
        if isinstance(self._root, dict):
            definitions = {key: self._root[key] for key in ("$defs", "definitions") if key in self._root}
        validate = validator({**definitions, **rest})
        return [value for value in flat["enum"] if validate.is_valid(value)]

    def _of_type(self, kind: str, flat: Flat) -> list[Option]:
        if kind == "null":
            return [(Literal("null"),)]
        if kind == "boolean":
            return [(Literal("true"),), (Literal("false"),)]
        if kind == "object":
            return self._containers.objects(flat)
        if kind == "array":
            return self._containers.arrays(flat)
        if kind == "string":
            return [(self.string_rule(string_expression(flat)),)]
        return [(self._number(kind, flat),)]

    def _number(self, kind: str, flat: Flat) -> Rule:
        multiple = Decimal(str(flat["multipleOf"])) if "multipleOf" in flat else None
        expression = (numbers.integers if kind == "integer" else numbers.numbers)(_bounds(flat), multiple)
        if expression not in self._scalars:
            self._scalars[expression] = self._rule_of(expression, self.grammar.automaton, "a number of the schema")
        return self._scalars[expression]

    def string_rule(self, expression: Expression) -> Rule:
        """The rule of the JSON strings whose content is in an expression."""
        if expression not in self._strings:
            self._strings[expression] = self._rule_of(expression, self.grammar.json_string, "a string of the schema")
        return self._strings[expression]

    def _rule_of(self, expression: Expression, make: Callable[..., Rule], what: str) -> Rule:
        try:
            automaton = build(expression, what)
        except MatchesNothing:
            return Rule(self.grammar.name("never"))
        return make(automaton)


def string_expression(flat: Flat) -> Expression:
    """The texts that the string keywords of a flat schema allow."""
    least, most = flat.get("minLength", 0), flat.get("maxLength")
    if least > MAX_TEXT:
        raise TooComplex(f'the schema\'s keyword "minLength" may be at most {MAX_TEXT}')
    parts: list[Expression] = [read_search(pattern) for pattern in flat.get(PATTERNS, ())]
    parts += [formats.expression(name) for name in flat.get(FORMATS, ())]
    if least or most is not None:
        parts.append(Repeat(ANY, int(least), None if most is None else min(int(most), MAX_TEXT)))
    return Both(tuple(parts)) if parts else ANYTHING


def _types(flat: Flat) -> list[str]:
    """The types of a schema; one that names none means those that its keywords speak of."""
    if "type" in flat:
        found = [kind for kind in flat["type"] if kind != "integer" or "number" not in flat["type"]]
        return list(dict.fromkeys(found))
    told = [kind for kind, keywords in TELLING.items() if any(keyword in flat for keyword in keywords)]
    return told or list(TYPES)


def _mark(flat: Flat) -> tuple[str, frozenset[str] | None] | None:
    """The first property of an object and its only values, if every such object begins with it."""
    names = [*flat.get("properties", ()), *flat.get("required", ())]
    if not names or names[0] not in flat.get("required", ()):
        return None
    first = flat.get("properties", {}).get(names[0])
    if not isinstance(first, dict):
        return names[0], None
    values = [first["const"]] if "const" in first else first.get("enum")
    return names[0], None if values is None else frozenset(json.dumps(value) for value in values)


def _bounds(flat: Flat) -> numbers.Bounds:
    least, open_least = _end(flat, "minimum", "exclusiveMinimum", max)
    most, open_most = _end(flat, "maximum", "exclusiveMaximum", min)
    return numbers.Bounds(least, most, open_least=open_least, open_most=open_most)


def _end(flat: Flat, closed: str, opened: str, nearest: Callable[..., Decimal]) -> tuple[Decimal | None, bool]:
    ends = {key: Decimal(str(flat[key])) for key in (closed, opened) if key in flat}
    if not ends:
        return None, False
    end = nearest(ends.values())
    return end, ends.get(opened) == end


def _spelled(flat: Flat) -> dict[str, Any]:
    """A flat schema as a plain one."""
    plain = {key: value for key, value in flat.items() if not key.startswith("&")}
    together: list[Schema] = [{"pattern": pattern} for pattern in flat.get(PATTERNS, ())]
    together += [{"format": name} for name in flat.get(FORMATS, ())]
    together += [{"anyOf": group} for group in flat.get(CHOICES, ())]
    return {**plain, "allOf": together} if together else plain
