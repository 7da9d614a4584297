"""What an answer must satisfy: a JSON schema, a regular expression, or one of some choices."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from pg_steadytext.engines.text import check_text
from pg_steadytext.errors import InvalidArgument

Kind = Literal["schema", "regex", "choices"]
MAX_CHOICES = 1000
MAX_CHOICE = 1000
MAX_SCHEMA = 200_000


@dataclass(frozen=True, slots=True)
class Constraint:
    """`source` is a schema as JSON text (the order of its properties counts), a pattern, or the choices.

    Two constraints are equal when the same answers satisfy them in the same order of preference.
    """

    kind: Kind
    source: str | tuple[str, ...]


def schema(value: object) -> Constraint:
    """A constraint by JSON schema, given as JSON text or as what it stands for. Raises InvalidArgument."""
    if isinstance(value, str):
        if not value.strip():
            raise InvalidArgument("Schema cannot be empty")
        try:
            value = json.loads(value)
        except (ValueError, RecursionError) as error:
            raise InvalidArgument(f"the schema is not valid JSON: {error}") from None
    if value is None or value == {}:
        raise InvalidArgument("Schema cannot be empty")
    if not isinstance(value, dict | bool):
        raise InvalidArgument(f"the schema must be a JSON object, not {_json_type(value)}")
    try:
        text = json.dumps(value, ensure_ascii=False, allow_nan=False)
        text.encode("utf-8")
    except (ValueError, TypeError, RecursionError) as error:
        raise InvalidArgument(f"the schema is not valid JSON: {error}") from None
    if len(text) > MAX_SCHEMA:
        raise InvalidArgument(f"the schema is longer than {MAX_SCHEMA} characters")
    return Constraint("schema", text)


def regex(value: object) -> Constraint:
    """A constraint by regular expression. Raises InvalidArgument."""
    if value is None or value == "":
        raise InvalidArgument("Pattern cannot be empty")
    if not isinstance(value, str):
        raise InvalidArgument(f"the pattern must be a text, not {type(value).__name__}")
    return Constraint("regex", value)


def choices(value: object) -> Constraint:
    """A constraint to one of at least two different texts. Raises InvalidArgument."""
    if value is None:
        raise InvalidArgument("Choices cannot be null")
    if not isinstance(value, Sequence) or isinstance(value, str | bytes):
        raise InvalidArgument(f"choices must be a list of texts, not {type(value).__name__}")
    if not value:
        raise InvalidArgument("Choices array cannot be empty")
    if len(value) < 2:
        raise InvalidArgument("Choices array must contain at least 2 options")
    if len(value) > MAX_CHOICES:
        raise InvalidArgument(f"choices may hold at most {MAX_CHOICES} options, not {len(value)}")
    options = tuple(check_text(option, "choice") for option in value)
    if len(set(options)) < len(options):
        raise InvalidArgument("Choices array cannot contain duplicates")
    longest = max(map(len, options))
    if longest > MAX_CHOICE:
        raise InvalidArgument(f"a choice may have at most {MAX_CHOICE} characters, not {longest}")
    if any("\0" in option for option in options):
        raise InvalidArgument("a choice cannot hold the character U+0000")
    return Constraint("choices", options)


def _json_type(value: object) -> str:
    return {list: "an array", str: "a text", int: "a number", float: "a number"}.get(type(value), type(value).__name__)
