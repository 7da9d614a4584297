"""What every engine holds an answer to before it gives it away."""

from __future__ import annotations

from pg_steadytext.engines.constraints.compiled import Compiled, compiled
from pg_steadytext.engines.constraints.constraint import Constraint, Kind
from pg_steadytext.engines.protocol import Completion, Prompt
from pg_steadytext.errors import InvalidArgument, TextTooLong

NAMES: dict[Kind, str] = {"schema": "the schema", "regex": "the pattern", "choices": "one of the choices"}


def check_combination(prompt: Prompt) -> None:
    """Raise InvalidArgument for a constraint together with what would break it."""
    if prompt.constraint is None:
        return
    if prompt.stop is not None:
        raise InvalidArgument(
            "eos_string cannot be combined with schema, regex or choices", hint="the constraint says where a text ends"
        )
    if prompt.thinking:
        raise InvalidArgument("thinking_mode cannot be combined with schema, regex or choices")


def check_answer(prompt: Prompt, constraint: Constraint, completion: Completion, ready: Compiled | None = None) -> None:
    """Let pass what satisfies the constraint, which is compiled where it is not `ready`.

    Raises InvalidArgument where max_tokens cut the answer off, TextTooLong where the context did, ModelFailed for
    whatever a grammar could not express.
    """
    if completion.finish_reason == "length":
        if completion.completion_tokens < prompt.max_tokens:
            raise TextTooLong(
                f"the model's context ended after {completion.completion_tokens} tokens of the answer, before it "
                f"satisfied {NAMES[constraint.kind]}",
                hint="shorten the prompt, or use a model with a longer context",
            )
        raise InvalidArgument(
            f"max_tokens ({prompt.max_tokens}) cut the answer off before it satisfied {NAMES[constraint.kind]}",
            hint="raise max_tokens, or bound the answer: maxLength and maxItems in a schema, {m,n} in a pattern",
        )
    (ready or compiled(constraint)).check(completion.text)
