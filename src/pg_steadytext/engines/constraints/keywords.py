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
DRAFTS = {
    *(f"https://json-schema.org/draft/{draft}/schema" for draft in ("2019-09", "2020-12")),
    *(f"http://json-schema.org/draft-0{draft}/schema" for draft in (4, 6, 7)),
}


def check_keywords(schema: Schema) -> None:
    """Go through a whole schema, which is valid by itself. Raises InvalidArgument naming the first refused keyword."""
    for place, part in _walk(schema, "#", 0):
        check_draft(part, place)
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


def check_draft(schema: Schema, place: str = "#") -> None:
    """Let no schema name a metaschema that would have to be fetched. Raises InvalidArgument."""
    draft = schema.get("$schema") if isinstance(schema, dict) else None
    if draft is not None and not (isinstance(draft, str) and draft.removesuffix("#") in DRAFTS):
        raise InvalidArgument(
            f'the schema\'s keyword "$schema" at {place} is not supported with {str(draft)[:200]!r}',
            hint='leave it out, or write "https://json-schema.org/draft/2020-12/schema"',
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
