"""Schemas and patterns of every kind that structured generation knows, each of them with short answers."""

from __future__ import annotations

import itertools
from typing import Any

Schema = dict[str, Any]


def record(**properties: Schema) -> Schema:
    """An object that has all of these properties and no others."""
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


def text(**keywords: Any) -> Schema:
    return {"type": "string", "maxLength": 12, **keywords}


def number(**keywords: Any) -> Schema:
    return {"type": "number", **keywords}


def integer(**keywords: Any) -> Schema:
    return {"type": "integer", **keywords}


def array(items: Schema, most: int = 3, **keywords: Any) -> Schema:
    return {"type": "array", "items": items, "maxItems": most, **keywords}


TREE = {
    "$defs": {"leaf": integer(minimum=0, maximum=9)},
    **record(left={"$ref": "#/$defs/leaf"}, right={"anyOf": [{"$ref": "#/$defs/leaf"}, {"type": "null"}]}),
}
LISTED = {
    "type": "object",
    "properties": {"value": integer(minimum=0, maximum=9), "next": {"anyOf": [{"type": "null"}, {"$ref": "#"}]}},
    "required": ["value"],
    "additionalProperties": False,
}
SHAPE = {
    "oneOf": [
        record(kind={"const": "circle"}, radius=integer(minimum=1, maximum=99)),
        record(kind={"const": "square"}, side=integer(minimum=1, maximum=99)),
    ]
}
MERGED = {
    "allOf": [
        {"type": "object", "properties": {"id": integer(minimum=1)}, "required": ["id"]},
        {"properties": {"id": {"maximum": 500}, "tag": {"enum": ["new", "old"]}}, "required": ["tag"]},
    ]
}

SCHEMAS: list[Schema] = [
    {"type": "boolean"},
    {"type": "null"},
    {"const": {"fixed": [1, "two", None]}},
    {"enum": ["red", "green", 3, None, True]},
    {"type": ["string", "null"], "maxLength": 8},
    {"type": ["integer", "boolean"], "minimum": 0, "maximum": 50},
    text(),
    text(minLength=3),
    text(pattern="^[A-Z][a-z]{1,9}$"),
    text(pattern="[0-9]{2}", minLength=4),
    text(pattern="^(\\d{3})-(\\d{4})$"),
    {"type": "string", "enum": ["é\n", 'a "quoted" word', "back\\slash", "tab\t"]},
    *({"type": "string", "format": name} for name in ("date", "time", "date-time", "uuid", "ipv4", "email")),
    {"type": "string", "format": "hostname", "maxLength": 20},
    {"type": "string", "format": "duration"},
    integer(minimum=10, maximum=20),
    integer(exclusiveMinimum=-5, exclusiveMaximum=5),
    integer(multipleOf=7, minimum=100, maximum=999),
    integer(minimum=-120, maximum=-7),
    number(minimum=0, maximum=1),
    number(exclusiveMinimum=0, maximum=2.5),
    number(multipleOf=0.25, minimum=-2, maximum=2),
    number(minimum=-1.5, maximum=-0.25),
    array(integer(minimum=0, maximum=9)),
    array(text(), minItems=2),
    array({"enum": ["a", "b", "c"]}, minItems=1, uniqueItems=False),
    array(array(integer(minimum=0, maximum=9), 2), 2, minItems=1),
    {"type": "array", "prefixItems": [text(), integer(minimum=0, maximum=9)], "items": False, "minItems": 2},
    {"type": "array", "prefixItems": [{"type": "boolean"}], "items": {"type": "null"}, "maxItems": 3},
    record(name=text(), age=integer(minimum=0, maximum=120)),
    record(name=text(minLength=1), tags=array(text()), active={"type": "boolean"}),
    record(position=record(x=number(minimum=-1, maximum=1), y=number(minimum=-1, maximum=1))),
    record(deep=record(deeper=record(deepest=array(record(value={"type": "boolean"}), 2)))),
    {"type": "object", "properties": {"a": text(), "b": text(), "c": text()}, "required": ["b"]},
    {"type": "object", "properties": {"a": {"type": "boolean"}}, "additionalProperties": False},
    {
        "type": "object",
        "additionalProperties": integer(minimum=0, maximum=9),
        "minProperties": 1,
        "maxProperties": 2,
        "propertyNames": {"minLength": 1},
    },
    {"type": "object", "patternProperties": {"^[a-c]{1,3}$": integer(minimum=0, maximum=9)}, "maxProperties": 2},
    {"anyOf": [text(), integer(minimum=0, maximum=99)]},
    {"anyOf": [record(name=text()), record(number=integer(minimum=0, maximum=9)), {"type": "null"}]},
    SHAPE,
    MERGED,
    TREE,
    LISTED,
    {"type": "integer", "not": {"const": 5}, "minimum": 4, "maximum": 5000},
    {
        "type": "object",
        "properties": {"mood": {"enum": ["good", "bad", "neutral"]}, "score": integer(maximum=5, minimum=1)},
        "required": ["mood", "score"],
        "title": "Review",
        "description": "What a customer felt",
    },
    record(facts=array(record(fact=text(), certain={"type": "boolean"}), 2, minItems=1)),
    record(**{"with space": {"type": "null"}, 'with "quotes"': {"type": "boolean"}, "ünïcode": text()}),
    {"type": "object", "properties": {"from": {"type": "string", "format": "date"}, "to": {"type": ["null"]}},
     "required": ["from", "to"], "$schema": "https://json-schema.org/draft/2020-12/schema"},
]  # fmt: skip

PLAIN_PATTERNS = [
    "yes|no", "(red|green|blue)", "[A-Z]{3}", "[a-z]{5,10}", r"\d{4}", r"\d{3}-\d{4}", r"\(\d{3}\) \d{3}-\d{4}",
    r"\d{4}-\d{2}-\d{2}", r"[01]\d:[0-5]\d", r"\w{1,8}", r"\w{1,9}@\w{1,9}\.com", "[^aeiou]{4}",
    "a{0,4}b{1,3}c?d", "(ab){2,4}",
    "x{0,3}y", r"\$\d{1,3}\.\d{2}", "[A-Za-z]{1,9} [A-Za-z]{1,9}", r"\S{3,6}", "(a|b){0,9}c", "((a|b)(c|d)){1,3}",
    "^begin.{0,5}end$", "a.c", r"\w{3}\s\w{3}", "[-+]?[0-9]{1,5}", "#[0-9a-f]{6}", "(?:non|capturing){1,2}",
    "(?P<name>[a-z]{2,4})", "lazy.{1,8}?end", r"[\w.-]{1,10}", r"\x41\u00e9\t?z", r"\\[a-z]{1,3}", r"\[\d\]",
    "é{1,3}à", "日本語?", "[あ-ん]{1,4}", "(one|two|three) (cats?|dogs?)", r"[^\W\d_]{2,6}", r"\D{3,6}", "(a?){5}b",
    "(a{0,3}){0,3}b", "(x{1,3}x{1,3}){1,3}y", r"v\d{1,2}\.\d{1,2}(\.\d{1,2})?", r"[\[:]{1,2}x", r"\d{5}(-\d{4})?",
    "(Mon|Tues|Wednes|Thurs|Fri|Satur|Sun)day", "[1-9][0-9]{0,2}%", "<b>[a-z]{1,9}</b>", r'\{\"k\": \d{1,2}\}',
    "Q[1-4] 20[0-9]{2}", "[A-Z][a-z]{1,8}, [A-Z]{2}", r"([01]?\d|2[0-3]):[0-5]\d", "0x[0-9A-F]{2,4}",
    r"[\d,]{1,7}", "(very ){0,3}good",
]  # fmt: skip
_PARTS = ["[a-z]{2,5}", r"\d{1,3}", "(yes|no)", "[A-Z]", "é?", r"\w{1,4}"]
_JOINS = ["-", " ", "/", ", ", ""]
PATTERNS: list[str] = [
    *PLAIN_PATTERNS,
    *(f"{a}{join}{b}" for join, a, b in itertools.product(_JOINS, _PARTS[:4] + _PARTS[5:], _PARTS)),
][:200]
