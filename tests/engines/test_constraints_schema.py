"""JSON schemas: what their grammars write, what is checked afterwards, and what is refused."""

from __future__ import annotations

import json
import time
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pg_steadytext.engines.constraints import constraint as constraints
from pg_steadytext.engines.constraints import numbers
from pg_steadytext.engines.constraints.automaton import MatchesNothing, TooComplex, build
from pg_steadytext.engines.constraints.compiled import Compiled, compiled
from pg_steadytext.errors import InvalidArgument, ModelFailed
from tests.support.grammars import GrammarReader
from tests.support.structured import SCHEMAS, record

NODE = {"anyOf": [{"$ref": "#"}, {"type": "null"}]}


def made(schema: Any) -> Compiled:
    return compiled(constraints.schema(schema))


def writes(schema: Any, value: Any) -> bool:
    """Whether the grammar of a schema writes a value, as `json.dumps` does."""
    return GrammarReader(made(schema).grammar).accepts(json.dumps(value, ensure_ascii=False))


@pytest.mark.parametrize(
    ("schema", "written", "barred"),
    [
        ({"type": "integer"}, [0, -1, 10**14], [1.5, "1", None, True]),
        ({"type": ["boolean", "null"]}, [True, None], [0, "null"]),
        ({"type": "number"}, [0, -0.5, 12.25], ["0"]),
        ({"minimum": 3}, [3, 3.5], [2.9, "3"]),
        ({"type": "integer", "minimum": 3, "exclusiveMaximum": 120}, [3, 99, 119], [2, 120, -3]),
        ({"type": "number", "multipleOf": 0.01, "minimum": 0}, [0.25], [0.125, -0.25]),
        ({"type": "string", "minLength": 2, "maxLength": 3}, ["ab", "a\nb", '""', "日本語"], ["a", "abcd"]),
        ({"type": "string", "pattern": "b"}, ["b", "abc"], ["a", ""]),
        ({"pattern": "^a+$", "maxLength": 2}, ["a", "aa"], ["aaa", "b"]),
        ({"format": "date"}, ["2024-01-31", "1999-12-01"], ["2024-02-30", "2024-13-01", "soon"]),
        ({"format": "uuid"}, ["123e4567-e89b-42d3-a456-426614174000"], ["123"]),
        ({"enum": [1, "a", None, {"b": [2]}]}, [1, "a", None, {"b": [2]}], [2, "b", {"b": [3]}]),
        ({"enum": [1, "a", None], "type": "string"}, ["a"], [1, None]),
        ({"enum": [1, 5, 9], "minimum": 4}, [5, 9], [1]),
        ({"const": "é"}, ["é"], ["e"]),
        ({"type": "array", "items": {"type": "integer"}, "minItems": 1, "maxItems": 2}, [[1], [1, 2]], [[], [1, 2, 3]]),
        ({"prefixItems": [{"type": "null"}, {"const": 1}]}, [[], [None], [None, 1]], [[1], [None, 2]]),
        ({"prefixItems": [{"type": "null"}], "items": {"const": 1}, "minItems": 2}, [[None, 1]], [[None], [None, 2]]),
        ({"type": "array", "items": False}, [[]], [[1]]),
        ({"type": "object"}, [{}, {"a": 1}, {"a": {"b": [None]}}], [[], 1]),
        (record(a={"type": "null"}, b={"const": 1}), [{"a": None, "b": 1}], [{}, {"a": None}, {"b": 1, "a": None}]),
        (
            {"properties": {"a": {"const": 1}, "b": {"const": 2}}},
            [{}, {"a": 1}, {"b": 2}, {"a": 1, "b": 2}],
            [{"a": 2}],
        ),
        ({"properties": {"a": {"const": 1}, "b": False}}, [{}, {"a": 1}], [{"b": 1}]),
        ({"required": ["x"]}, [{"x": 1}], [{}]),
        (
            {"properties": {"a": {"const": 1}}, "additionalProperties": {"type": "null"}},
            [{"a": 1}, {"b": None}, {"a": 1, "b": None, "c": None}],
            [{"a": None}, {"b": 1}],
        ),
        (
            {"additionalProperties": {"type": "null"}, "minProperties": 1, "maxProperties": 2},
            [{"b": None}, {"b": None, "c": None}],
            [{}, {"a": None, "b": None, "c": None}],
        ),
        ({"patternProperties": {"^a": {"const": 1}}}, [{}, {"ab": 1}], [{"ab": 2}, {"b": 1}]),
        ({"anyOf": [{"const": 1}, {"type": "string", "maxLength": 1}]}, [1, "a"], [2, "ab"]),
        ({"type": "string", "anyOf": [{"maxLength": 1}, {"pattern": "^x"}]}, ["a", "xyz"], ["ab", 1]),
        ({"allOf": [{"minimum": 3}, {"maximum": 5}], "type": "integer"}, [3, 5], [2, 6]),
        ({"allOf": [{"type": "number"}, {"type": ["integer", "null"]}]}, [4], [4.5, None]),
        ({"allOf": [{"pattern": "a"}, {"pattern": "b"}]}, ["ab", "ba"], ["a", "b"]),
        ({"allOf": [{"multipleOf": 4}, {"multipleOf": 6}], "type": "integer"}, [12, 0], [4, 6]),
        (
            {
                "allOf": [
                    {"properties": {"a": {"minimum": 2}}},
                    {"properties": {"a": {"maximum": 3}}, "required": ["a"]},
                ]
            },
            [{"a": 2}, {"a": 3}],
            [{"a": 1}, {"a": 4}, {}],
        ),
        ({"$ref": "#/$defs/a~1b", "$defs": {"a/b": {"const": 7}}}, [7], [8]),
        ({"$ref": "#/$defs/n", "maximum": 5, "$defs": {"n": {"type": "integer", "minimum": 4}}}, [4, 5], [3, 6]),
        (record(next=NODE), [{"next": None}, {"next": {"next": {"next": None}}}], [{}, None]),
        ({"anyOf": [{"$ref": "#"}, {"const": 1}]}, [1], [2]),
        (True, [1, {"a": []}], []),
    ],
)
def test_a_grammar_writes_what_its_schema_allows(schema: Any, written: list[Any], barred: list[Any]) -> None:
    for value in written:
        made(schema).check(json.dumps(value))
        assert writes(schema, value), value
    for value in barred:
        assert not writes(schema, value), value


@settings(deadline=None, max_examples=60)
@given(
    least=st.decimals(-300, 300, places=2) | st.none(),
    most=st.decimals(-300, 300, places=2) | st.none(),
    opened=st.tuples(st.booleans(), st.booleans()),
    values=st.lists(st.decimals(-310, 310, places=2) | st.decimals(-9, 9, places=0), min_size=8, max_size=8),
)
def test_number_ranges_are_exact(
    least: Decimal | None, most: Decimal | None, opened: tuple[bool, bool], values: list[Decimal]
) -> None:
    bounds = numbers.Bounds(least, most, open_least=opened[0], open_most=opened[1])

    def inside(value: Decimal) -> bool:
        above = least is None or value > least or (value == least and not opened[0])
        return above and (most is None or value < most or (value == most and not opened[1]))

    for make, whole in ((numbers.numbers, False), (numbers.integers, True)):
        for value in [*values, *(end for end in (least, most) if end is not None)]:
            shown = Decimal(int(value)) if whole else value
            text = f"{shown + 0:f}".removeprefix("-") if shown == 0 else f"{shown:f}"
            try:
                accepted = build(make(bounds), "it").accepts(text)
            except MatchesNothing:
                accepted = False
            assert accepted == inside(shown), (text, bounds)


@pytest.mark.parametrize(
    ("schema", "value", "keyword"),
    [
        ({"type": "integer", "not": {"const": 5}}, 5, "not"),
        ({"type": "array", "items": {"type": "integer"}, "uniqueItems": True}, [1, 1], "uniqueItems"),
        ({"type": "array", "contains": {"const": 1}}, [2], "contains"),
        ({"oneOf": [{"type": "integer"}, {"minimum": 2}]}, 3, "oneOf"),
        ({"type": "object", "dependentRequired": {"a": ["b"]}}, {"a": 1}, "dependentRequired"),
        ({"if": {"const": 1}, "then": {"const": 2}}, 1, "const"),
        ({"type": "object", "propertyNames": {"maxLength": 1}}, {"ab": 1}, "maxLength"),
        ({"properties": {"a": True, "b": True}, "minProperties": 1}, {}, "minProperties"),
    ],
)
def test_what_a_grammar_cannot_say_is_checked_and_named(schema: Any, value: Any, keyword: str) -> None:
    with pytest.raises(ModelFailed, match=f'keyword "{keyword}"'):
        made(schema).check(json.dumps(value))


@pytest.mark.parametrize(
    ("schema", "named"),
    [
        ({"type": "string", "minlength": 3}, '"minlength" at #'),
        (record(a={"nullable": True}), '"nullable" at #/properties/a'),
        ({"$dynamicRef": "#a"}, "dynamicRef"),
        ({"$anchor": "a"}, "anchor"),
        ({"additionalItems": False}, "additionalItems"),
        ({"dependencies": {}}, "dependencies"),
        ({"x-guidance": {}}, "x-guidance"),
        ({"format": "iri"}, '"format".*iri'),
        ({"$ref": "https://example.com/schema"}, '"\\$ref".*another document'),
        ({"$ref": "file:///etc/passwd"}, '"\\$ref".*another document'),
        ({"$ref": "#/$defs/none"}, '"\\$ref".*not there'),
        ({"$ref": "#"}, "leads back to itself"),
        ({"items": [{}]}, "not valid at #/items"),
        ({"type": "strin"}, "not valid at #/type"),
        ({"minimum": "3"}, "not valid at #/minimum"),
        ({"pattern": "(?=a)"}, "lookaround"),
        ({"pattern": "(a"}, "not a regular expression|not valid"),
        ({"minLength": 5000}, "minLength"),
        ({"minItems": 5000}, "minItems"),
        ({"multipleOf": 123457}, "multipleOf"),
    ],
)
def test_a_keyword_that_is_not_supported_is_refused_by_name(schema: Any, named: str) -> None:
    with pytest.raises(InvalidArgument, match=named):
        made(schema)


@pytest.mark.parametrize(
    "schema",
    [
        False,
        {"enum": [1], "type": "string"},
        {"minimum": 5, "maximum": 3, "type": "number"},
        {"type": "string", "minLength": 5, "maxLength": 3},
        record(next={"$ref": "#"}),
        {"type": "array", "items": False, "minItems": 1},
        {"allOf": [{"type": "string"}, {"type": "null"}]},
    ],
)
def test_a_schema_that_nothing_satisfies_is_refused(schema: Any) -> None:
    with pytest.raises(MatchesNothing, match="satisfies"):
        made(schema)


def nested(depth: int, width: int) -> dict[str, Any]:
    """Alternatives that look alike, at each of several levels."""
    schema: dict[str, Any] = {"type": "integer"}
    for _ in range(depth):
        schema = {
            "anyOf": [{"properties": {"a": schema, f"b{n}": {"type": "null"}}, "required": ["a"]} for n in range(width)]
        }
    return schema


def deep(levels: int) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": "null"}
    for _ in range(levels):
        schema = {"type": "array", "items": schema}
    return schema


@pytest.mark.parametrize(
    "schema",
    [
        {"anyOf": [{"type": "null"}, *({"type": "array", "items": {"$ref": "#"}, "maxItems": n} for n in (3, 4))]},
        nested(5, 4),
        deep(200),
        deep(3000),
        {"type": "array", "items": {"type": "string", "maxLength": 2000, "pattern": "(a|b)*a(a|b){15}"}},
        {"allOf": [{"anyOf": [{"minLength": n}, {"maxLength": n + 50}]} for n in range(20)]},
        {"properties": {f"p{n}": {"type": "string", "maxLength": 1000 + n} for n in range(100)}},
        {"minimum": -1e300, "multipleOf": 3, "type": "integer"},
    ],
)  # fmt: skip
def test_a_hostile_schema_is_refused_at_once(schema: Any) -> None:
    began = time.process_time()
    with pytest.raises(InvalidArgument):
        made(schema)
    assert time.process_time() - began < 10


def test_alternatives_that_are_told_apart_by_their_first_property_may_contain_themselves() -> None:
    tree = {
        "anyOf": [
            record(op={"const": "add"}, left={"$ref": "#"}, right={"$ref": "#"}),
            record(op={"const": "literal"}, value={"type": "integer"}),
        ]
    }
    assert writes(tree, {"op": "add", "left": {"op": "literal", "value": 1}, "right": {"op": "literal", "value": 2}})
    with pytest.raises(TooComplex, match=r'"anyOf".*contains itself'):
        made({"anyOf": [record(x={"$ref": "#"}), record(x={"$ref": "#"}, y={"type": "null"}), {"type": "null"}]})


def test_the_order_of_properties_is_the_schemas_and_counts() -> None:
    one, other = record(a={}, b={}), record(b={}, a={})
    assert constraints.schema(one) != constraints.schema(other)
    assert writes(other, {"b": 1, "a": 1})
    assert not writes(other, {"a": 1, "b": 1})


@pytest.mark.parametrize("number", range(len(SCHEMAS)))
def test_every_sample_schema_has_a_grammar(number: int) -> None:
    GrammarReader(made(SCHEMAS[number]).grammar)


def test_a_metaschema_is_never_fetched() -> None:
    with pytest.raises(InvalidArgument, match=r'keyword "\$schema" at # is not supported'):
        compiled(constraints.schema({"$schema": "http://127.0.0.1:9/meta.json", "type": "object"}))
    nested = {"type": "object", "properties": {"a": {"$schema": "http://127.0.0.1:9/meta.json"}}}
    with pytest.raises(InvalidArgument, match=r'"\$schema" at #/properties/a'):
        compiled(constraints.schema(nested))
    for draft in ("https://json-schema.org/draft/2020-12/schema#", "http://json-schema.org/draft-07/schema#"):
        compiled(constraints.schema({"$schema": draft, "type": "null"}))


def test_counts_may_be_written_as_fractions() -> None:
    schema = {"type": "array", "items": {"type": "string", "maxLength": 2.0}, "minItems": 1.0, "maxItems": 2.0}
    grammar = GrammarReader(compiled(constraints.schema(schema)).grammar)
    assert grammar.accepts('["ab", "c"]')
    assert not any(map(grammar.accepts, ("[]", '["abc"]', '["a", "b", "c"]')))
