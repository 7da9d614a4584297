"""Constraints in OpenAI's protocol, which knows one kind: a JSON schema in `response_format`.

A pattern and a list of choices travel as the only property of an object, and are taken out of the answer again.
https://platform.openai.com/docs/guides/structured-outputs
"""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

from pg_steadytext.engines.constraints.answer import check_answer
from pg_steadytext.engines.constraints.compiled import compiled
from pg_steadytext.engines.constraints.constraint import Constraint
from pg_steadytext.engines.protocol import Completion, Prompt
from pg_steadytext.errors import ModelFailed

WRAPPED = "answer"


def response_format(constraint: Constraint) -> dict[str, Any]:
    """The `response_format` of a request. Raises InvalidArgument for a constraint that no engine could keep to."""
    compiled(constraint)
    if constraint.kind == "schema":
        assert isinstance(constraint.source, str)
        schema = json.loads(constraint.source)
    elif constraint.kind == "regex":
        schema = _wrapped({"type": "string", "pattern": f"^(?:{constraint.source})$"})
    else:
        schema = _wrapped({"enum": list(constraint.source)})
    return {"type": "json_schema", "json_schema": {"name": WRAPPED, "schema": schema}}


def unwrapped(prompt: Prompt, constraint: Constraint, completion: Completion) -> Completion:
    """The answer as our callers know it, checked. Raises InvalidArgument, TextTooLong, ModelFailed."""
    if constraint.kind != "schema" and completion.finish_reason == "stop":
        try:
            found = json.loads(completion.text)[WRAPPED]
        except (ValueError, KeyError, TypeError) as error:
            raise ModelFailed(
                f"the server did not keep to the response_format: {completion.text[:200]!r}",
                hint="it may not support structured output",
            ) from error
        completion = replace(completion, text=str(found))
    check_answer(prompt, constraint, completion)
    return completion


def _wrapped(schema: dict[str, Any]) -> dict[str, Any]:
    return {"type": "object", "properties": {WRAPPED: schema}, "required": [WRAPPED], "additionalProperties": False}
