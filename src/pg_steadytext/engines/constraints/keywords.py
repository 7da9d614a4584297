"""What the keywords of a schema are to us: written by the grammar, checked after decoding, annotations, or refused."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from urllib.parse import unquote

from pg_steadytext.engines.constraints.formats import PATTERNS
from pg_steadytext.errors import InvalidArgument

Schema = dict[str, Any] | bool

WRITTEN = {
    "type", "enum", "const", "properties", "required", "additionalProperties", "patternProperties", "prefixItems",
    "items", "minItems", "maxItems", "minLength", "maxLength", "pattern", "format", "minimum", "maximum",
    "exclusiveMinimum", "exclusiveMaximum", "multipleOf", "anyOf", "oneOf", "allOf", "$ref", "$defs", "definitions",
}  # fmt: skip
CHECKED = {
    "not", "if", "then", "else", "dependentRequired", "dependentSchemas", "uniqueItems", "contains", "minContains",
    "maxContains", "minProperties", "maxProperties", "propertyNames", "unevaluatedItems", "unevaluatedProperties",
}  # fmt: skip
ANNOTATIONS = {
    "title", "description", "default", "examples", "deprecated", "readOnly", "writeOnly", "$comment", "$schema",
    "contentMediaType", "contentEncoding", "contentSchema",
}  # fmt: skip
HINTS = {
    "nullable": 'add "null" to "type"',
    "additionalItems": 'use "prefixItems" and "items"',
    "dependencies": 'use "dependentRequired" or "dependentSchemas"',
    "$dynamicRef": 'use "$ref"',
    "$anchor": 'refer to a schema by its place, such as "#/$defs/name"',
}
ONE = {"additionalProperties", "items", "not", "if", "then", "else", "contains", "propertyNames",
       "unevaluatedItems", "unevaluatedProperties"}  # fmt: skip
LISTS = {"prefixItems", "anyOf", "oneOf", "allOf"}
MAPS = {"properties", "patternProperties", "$defs", "definitions", "dependentSchemas"}
MAX_DEPTH = 64


def check_keywords(schema: Schema) -> None:
    """Go through a whole schema, which is valid as such. Raises InvalidArgument naming the first refused keyword."""
    for place, part in _walk(schema, "#", 0):
        for keyword in part:
            _check_keyword(part, keyword, place)


def _check_keyword(part: dict[str, Any], keyword: str, place: str) -> None:
    value = part[keyword]
    if keyword == "$id" and place == "#":
        return
    if keyword not in WRITTEN | CHECKED | ANNOTATIONS:
        raise InvalidArgument(
            f'the schema\'s keyword "{keyword}" at {place} is not supported',
            hint=HINTS.get(keyword, "docs/structured.md lists the keywords"),
        )
    if keyword == "format" and value not in PATTERNS:
        raise InvalidArgument(
            f'the schema\'s keyword "format" at {place} is not supported with "{value}"',
            hint=f"known formats: {', '.join(PATTERNS)}",
        )
    if keyword == "$ref" and not value.startswith("#"):
        raise InvalidArgument(
            f'the schema\'s keyword "$ref" at {place} refers to another document, "{value}"',
            hint='only references within the schema are supported, such as "#/$defs/name"',
        )


def _walk(schema: object, place: str, depth: int) -> Iterator[tuple[str, dict[str, Any]]]:
    if depth > MAX_DEPTH:
        raise InvalidArgument(f"the schema is nested deeper than {MAX_DEPTH} levels")
    if not isinstance(schema, dict):
        return
    yield place, schema
    for keyword, value in schema.items():
        if keyword in ONE:
            yield from _walk(value, f"{place}/{keyword}", depth + 1)
        elif keyword in LISTS:
            for index, item in enumerate(value):
                yield from _walk(item, f"{place}/{keyword}/{index}", depth + 1)
        elif keyword in MAPS:
            for name, item in value.items():
                yield from _walk(item, f"{place}/{keyword}/{name}", depth + 1)


def resolve(root: Schema, reference: str) -> Schema:
    """What a reference within a schema stands for. Raises InvalidArgument."""
    found: Any = root
    for step in reference.removeprefix("#").split("/")[1:]:
        name = _unquoted(step)
        if isinstance(found, dict) and name in found:
            found = found[name]
        elif isinstance(found, list) and name.isdecimal() and int(name) < len(found):
            found = found[int(name)]
        else:
            raise InvalidArgument(f'the schema\'s keyword "$ref" refers to "{reference}", which is not there')
    if not isinstance(found, dict | bool):
        raise InvalidArgument(f'the schema\'s keyword "$ref" refers to "{reference}", which is no schema')
    return found


def _unquoted(step: str) -> str:
    return unquote(step).replace("~1", "/").replace("~0", "~")
