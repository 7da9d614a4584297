"""Reading the parameters of requests: typed, checked, with an error that names the parameter."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from pg_steadytext.engines.constraints import constraint as constraints
from pg_steadytext.engines.constraints.constraint import Constraint
from pg_steadytext.engines.protocol import Prompt
from pg_steadytext.engines.text import check_text
from pg_steadytext.errors import InvalidArgument

DEFAULT_MAX_TOKENS = 512
MODEL_END = "[EOS]"
STRUCTURED = ("response_format", "schema", "regex", "choices")
SIZES = ("mini", "small", "medium", "large")
MAX_TEXTS = 20_000


@dataclass(frozen=True, slots=True)
class ModelChoice:
    """How a request names its model; all None means the default."""

    name: str | None = None
    repo: str | None = None
    filename: str | None = None
    remote: bool = False


def optional(params: Mapping[str, Any], key: str, kind: type, what: str) -> Any:
    """The value of `key`, or None where it is absent or null. Raises InvalidArgument for another type."""
    value = params.get(key)
    if value is None:
        return None
    if isinstance(value, bool) and kind is not bool:
        raise InvalidArgument(f"{key} must be {what}")
    if kind is float and isinstance(value, int):
        return float(value)
    if not isinstance(value, kind):
        raise InvalidArgument(f"{key} must be {what}, not {type(value).__name__}")
    return value


def prompt(params: Mapping[str, Any]) -> Prompt:
    """The prompt of a generate request. Raises InvalidArgument."""
    found = options(params)
    return replace(found, text=check_text(params.get("prompt"), "prompt"))


def options(params: Mapping[str, Any]) -> Prompt:
    """A prompt without its text: what every text of a generate_batch request has in common. Raises InvalidArgument."""
    if params.get("options"):
        raise InvalidArgument("options is not supported for local models")
    max_tokens = optional(params, "max_new_tokens", int, "a whole number")
    seed = optional(params, "seed", int, "a whole number")
    temperature = optional(params, "temperature", float, "a number")
    stop = optional(params, "eos_string", str, "a text")
    if stop == "":
        raise InvalidArgument("eos_string cannot be empty", hint=f'"{MODEL_END}" stands for the model\'s own end')
    return Prompt(
        text="",
        max_tokens=_at_least(max_tokens, DEFAULT_MAX_TOKENS, 1, "max_tokens must be at least 1"),
        seed=_at_least(seed, 42, 0, "seed must be non-negative"),
        temperature=0.0 if temperature is None else temperature,
        stop=None if stop in (None, MODEL_END) else stop,
        thinking=bool(optional(params, "thinking_mode", bool, "true or false")),
        logprobs=bool(optional(params, "return_logprobs", bool, "true or false")),
        constraint=constraint(params),
        prefix=optional(params, "prefix", str, "a text") or "",
    )


def constraint(params: Mapping[str, Any]) -> Constraint | None:
    """What the answer of a generate request must satisfy, if anything. Raises InvalidArgument."""
    given = [key for key in STRUCTURED if params.get(key) is not None]
    if len(given) > 1:
        raise InvalidArgument(f"{' and '.join(given)} cannot be combined", hint="give one of them")
    if not given:
        return None
    value = params[given[0]]
    if given[0] == "schema":
        return constraints.schema(value)
    if given[0] == "regex":
        return constraints.regex(value)
    if given[0] == "choices":
        return constraints.choices(value)
    return _response_format(value)


def _response_format(value: object) -> Constraint | None:
    """OpenAI's way to ask for JSON: {"type": "json_schema", "json_schema": {"schema": …}}."""
    kind = value.get("type") if isinstance(value, dict) else None
    if kind == "text":
        return None
    if kind == "json_object":
        return constraints.schema({"type": "object"})
    if kind == "json_schema" and isinstance(value, dict):
        wrapped = value.get("json_schema")
        found = wrapped.get("schema") if isinstance(wrapped, dict) else value.get("schema")
        return constraints.schema(found)
    raise InvalidArgument(
        'response_format must have a "type" of "text", "json_object" or "json_schema"',
        hint='{"type": "json_schema", "json_schema": {"schema": …}}',
    )


def _at_least(value: int | None, default: int, least: int, message: str) -> int:
    if value is None:
        return default
    if value < least:
        raise InvalidArgument(message)
    return value


def check_mode(params: Mapping[str, Any]) -> None:
    """Take SteadyText's `mode`, which makes no difference to the models here. Raises InvalidArgument."""
    mode = optional(params, "mode", str, "a text")
    if mode not in (None, "query", "passage"):
        raise InvalidArgument(f'mode must be "query" or "passage", not "{mode[:100]}"')


def model_choice(params: Mapping[str, Any]) -> ModelChoice:
    """Which model a request asks for. Raises InvalidArgument."""
    name = optional(params, "model", str, "a text")
    unsafe = bool(optional(params, "unsafe_mode", bool, "true or false"))
    if unsafe and name is None:
        raise InvalidArgument("unsafe_mode=TRUE requires a model parameter")
    if name is not None and ":" in name:
        if not unsafe:
            raise InvalidArgument(
                f'"{name}" is a remote model, which needs unsafe_mode',
                hint="a remote model's answers are not deterministic",
            )
        return ModelChoice(name=name, remote=True)
    if name is not None:
        return ModelChoice(name=name)
    repo = optional(params, "model_repo", str, "a text")
    filename = optional(params, "model_filename", str, "a text")
    if (repo is None) != (filename is None):
        raise InvalidArgument("model_repo and model_filename must be given together")
    if repo is not None:
        return ModelChoice(repo=repo, filename=filename)
    size = optional(params, "size", str, "a text")
    if size is not None and size not in SIZES:
        raise InvalidArgument(f"size must be one of {', '.join(SIZES)}, not {size}")
    return ModelChoice(name=size)


def texts(params: Mapping[str, Any], key: str, *, what: str = "text") -> list[str]:
    """A list of texts, each with something in it. Raises InvalidArgument."""
    return [check_text(item, what) for item in items(params, key)]


def items(params: Mapping[str, Any], key: str) -> list[Any]:
    """A list of what should be texts. Raises InvalidArgument."""
    value = params.get(key)
    if not isinstance(value, list):
        raise InvalidArgument(f"{key} must be a list of texts")
    if len(value) > MAX_TEXTS:
        raise InvalidArgument(f"{key} may hold at most {MAX_TEXTS} texts, not {len(value)}")
    return value
