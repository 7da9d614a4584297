"""One schema out of several that all hold.

A flat schema has no $ref, allOf or const at its top. What cannot be said once is kept in lists: under PATTERNS and
FORMATS each member must hold, under CHOICES each group holds one alternative or more. Merged subschemas are left as
{"allOf": [...]}, so that recursive schemas are merged no further than they are used.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from decimal import Decimal
from typing import Any

from pg_steadytext.engines.constraints.automaton import TooComplex
from pg_steadytext.engines.constraints.keywords import Schema, resolve
from pg_steadytext.errors import InvalidArgument

PATTERNS, FORMATS, CHOICES = "&pattern", "&format", "&anyOf"
Flat = dict[str, Any]
MAX_CHAIN = 50
MAX_MERGES = 5000
LARGEST: dict[str, Callable[[Any, Any], Any]] = {
    **dict.fromkeys(("minimum", "exclusiveMinimum", "minLength", "minItems", "minProperties"), max),
    **dict.fromkeys(("maximum", "exclusiveMaximum", "maxLength", "maxItems", "maxProperties"), min),
}
COUNTS = {"minLength", "maxLength", "minItems", "maxItems", "minProperties", "maxProperties"}
KEPT = {"type", "enum", "properties", "required", "additionalProperties", "patternProperties", "prefixItems", "items",
        "multipleOf", "uniqueItems", *LARGEST}  # fmt: skip


class Merger:
    """Makes schemas of one document flat."""

    def __init__(self, root: Schema) -> None:
        self._root = root
        self._merges = 0

    def flatten(self, schema: Schema, chain: int = 0) -> Flat | None:
        """The flat form of a schema; None for one that nothing satisfies. Raises InvalidArgument, TooComplex."""
        if isinstance(schema, bool):
            return {} if schema else None
        if chain > MAX_CHAIN:
            raise InvalidArgument('the schema\'s keyword "$ref" leads back to itself, or "allOf" is nested too deep')
        parts: list[Flat | None] = []
        if "$ref" in schema:
            parts.append(self.flatten(resolve(self._root, schema["$ref"]), chain + 1))
        parts += [self.flatten(part, chain + 1) for part in schema.get("allOf", ())]
        flat: Flat | None = _own(schema)
        for part in reversed(parts):
            flat = self.merge(part, flat)
        return flat

    def merge(self, left: Flat | None, right: Flat | None) -> Flat | None:
        """What satisfies both."""
        self._merges += 1
        if self._merges > MAX_MERGES:
            raise TooComplex(f"the schema is too large: it needs more than {MAX_MERGES} combinations")
        if left is None or right is None:
            return None
        if not left or not right:
            return left or right
        merged: Flat = {}
        for key in [*left, *(key for key in right if key not in left)]:
            if key in left and key in right:
                merged[key] = _combine(key, left[key], right[key])
            else:
                merged[key] = left[key] if key in left else right[key]
        properties = _properties(left, right)
        if properties:
            merged["properties"] = properties
        if any("prefixItems" in side for side in (left, right)):
            merged.update(_items(left, right))
        return None if merged.get("type") == [] or merged.get("enum") == [] else merged


def _own(schema: dict[str, Any]) -> Flat:
    flat: Flat = {key: int(value) if key in COUNTS else value for key, value in schema.items() if key in KEPT}
    if isinstance(flat.get("type"), str):
        flat["type"] = [flat["type"]]
    if "const" in schema:
        both = [value for value in flat.get("enum", [schema["const"]]) if same(value, schema["const"])]
        flat["enum"] = both
    for key, kept in (("pattern", PATTERNS), ("format", FORMATS)):
        if key in schema:
            flat[kept] = [schema[key]]
    groups = [schema[key] for key in ("anyOf", "oneOf") if key in schema]
    if groups:
        flat[CHOICES] = groups
    return flat


def _combine(key: str, left: Any, right: Any) -> Any:
    if key in LARGEST:
        return LARGEST[key](left, right)
    if key == "type":
        return _types(left, right)
    if key == "enum":
        return [value for value in left if any(same(value, other) for other in right)]
    if key == "uniqueItems":
        return left or right
    if key in (PATTERNS, FORMATS, CHOICES):
        return left + [item for item in right if item not in left]
    if key == "required":
        return left + [name for name in right if name not in left]
    if key == "multipleOf":
        return _common_multiple(Decimal(str(left)), Decimal(str(right)))
    if key == "patternProperties":
        return {name: _all(*(side[name] for side in (left, right) if name in side)) for name in {**left, **right}}
    return _all(left, right)


def _all(*schemas: Schema) -> Schema:
    different = [schema for index, schema in enumerate(schemas) if schema not in schemas[:index]]
    return different[0] if len(different) == 1 else {"allOf": different}


def _types(left: list[str], right: list[str]) -> list[str]:
    found = [kind for kind in left if kind in right or (kind == "integer" and "number" in right)]
    return found + [kind for kind in right if kind == "integer" and "number" in left and kind not in found]


def _properties(left: Flat, right: Flat) -> dict[str, Schema]:
    """Each property by the schemas that both sides have for it; a side may speak of it as an additional one."""
    found: dict[str, Schema] = {}
    sides = [(side, side.get("properties", {})) for side in (left, right)]
    for name in {**sides[0][1], **sides[1][1]}:
        said: list[Schema] = []
        for side, properties in sides:
            if name in properties:
                said.append(properties[name])
            elif "additionalProperties" in side and not side.get("patternProperties"):
                said.append(side["additionalProperties"])
        found[name] = _all(*said)
    return found


def _items(left: Flat, right: Flat) -> Flat:
    length = max(len(side.get("prefixItems", ())) for side in (left, right))
    prefix = [_all(*(_at(side, index) for side in (left, right))) for index in range(length)]
    return {"prefixItems": prefix}


def _at(side: Flat, index: int) -> Schema:
    prefix = side.get("prefixItems", [])
    found: Schema = prefix[index] if index < len(prefix) else side.get("items", True)
    return found


def _common_multiple(left: Decimal, right: Decimal) -> int | float:
    scale = 10 ** max(0, *(-int(side.normalize().as_tuple().exponent) for side in (left, right)))
    found = Decimal(math.lcm(int(left * scale), int(right * scale))) / scale
    return int(found) if found == found.to_integral_value() else float(found)


def same(left: object, right: object) -> bool:
    """Whether two JSON values are equal: 1 and 1.0 are, true and 1 are not."""
    if isinstance(left, bool) or isinstance(right, bool):
        return left is right
    if isinstance(left, list) and isinstance(right, list):
        return len(left) == len(right) and all(map(same, left, right))
    if isinstance(left, dict) and isinstance(right, dict):
        return left.keys() == right.keys() and all(same(left[key], right[key]) for key in left)
    return left == right
