"""Checking JSON texts against their schema, with messages that name the keyword."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import jsonschema_rs

from pg_steadytext.engines.constraints.keywords import Schema
from pg_steadytext.errors import InvalidArgument, ModelFailed


def check_schema(schema: Schema) -> None:
    """Raise InvalidArgument for what draft 2020-12 does not call a schema."""
    try:
        jsonschema_rs.meta.validate(schema)
    except jsonschema_rs.ValidationError as error:
        raise _invalid(error) from None
    except (ValueError, jsonschema_rs.ReferencingError) as error:
        raise InvalidArgument(f"the schema is not valid: {error}") from None


def validator(schema: Schema) -> Any:
    """A validator by draft 2020-12 that reaches for no other document. Raises InvalidArgument for what is no schema."""
    try:
        return jsonschema_rs.Draft202012Validator(
            schema, validate_formats=True, offline=True, pattern_options=jsonschema_rs.RegexOptions()
        )
    except jsonschema_rs.ValidationError as error:
        raise _invalid(error) from None
    except (ValueError, OverflowError, jsonschema_rs.ReferencingError) as error:
        raise InvalidArgument(f"the schema is not valid: {error}") from None


def checker(validate: Any) -> Callable[[str], None]:
    """A check of answers, which raises ModelFailed."""

    def check(answer: str) -> None:
        try:
            value = json.loads(answer)
        except (ValueError, RecursionError) as error:
            raise ModelFailed(f"the model's answer is not valid JSON: {error}") from None
        for found in validate.iter_errors(value):
            keyword = found.schema_path[-1] if found.schema_path else "false"
            place = "/".join(map(str, ["$", *found.instance_path]))
            raise ModelFailed(
                f"the model's answer does not satisfy the schema's keyword \"{keyword}\" at {place}: "
                f"{found.message[:300]}",
                hint="the keyword cannot be kept to while decoding; ask for it in the prompt, or do without it",
            )

    return check


def _invalid(error: jsonschema_rs.ValidationError) -> InvalidArgument:
    place = "/".join(map(str, ["#", *error.instance_path]))
    return InvalidArgument(f"the schema is not valid at {place}: {error.message[:300]}")
