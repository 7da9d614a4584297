"""Which of some texts a model finds likeliest as its answer.

An option's score is the sum of the log probabilities of all its tokens: the likelihood that the model, left alone,
would begin its answer with exactly this. No length enters. Where another option goes on from it ("no", "no, never"),
the token that ends the answer counts too, so that the shorter one stands for itself alone. The prompt is read once;
then each option is forced by a grammar, token by token, and scored by what the model would have said without one.
Every option starts from the same state, so its score does not depend on its place in the list.
The first of equals wins.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from pg_steadytext.engines.constraints.gbnf import Grammar, Literal, Token
from pg_steadytext.engines.llama_context import ChatContext
from pg_steadytext.engines.protocol import OnPiece
from pg_steadytext.engines.vocabulary import Vocabulary
from pg_steadytext.errors import Cancelled, ModelFailed

END_TOKENS = 8


@dataclass(frozen=True, slots=True)
class Score:
    """An option with its log likelihood, and the number of its tokens without the one that ends the answer."""

    option: str
    log_likelihood: float
    tokens: int


def score_options(
    context: ChatContext,
    request: dict[str, Any],
    options: tuple[str, ...],
    vocabulary: Vocabulary,
    read_prompt: Callable[[dict[str, Any]], bool],
    on_piece: OnPiece,
) -> list[Score]:
    """The scores of all options, in their order.

    `read_prompt` takes the chunks of the prompt's reading, and returns True to stop it; then the list is empty.
    Raises Cancelled once `on_piece` returned True, ModelFailed.
    """
    stopped = False

    def read(chunk: dict[str, Any]) -> bool:
        nonlocal stopped
        stopped = read_prompt(chunk) or stopped
        return stopped

    context.complete({**request, "max_tokens": 0}, read)
    if stopped:
        return []
    found = []
    for option in options:
        ends = any(other != option and other.startswith(option) for other in options)
        found.append(_score(context, request, option, vocabulary.spell(option), ends=ends))
        if on_piece(""):
            raise Cancelled("the generation was cancelled")
    return found


def _score(context: ChatContext, request: dict[str, Any], option: str, tokens: list[int], *, ends: bool) -> Score:
    grammar = Grammar()
    spelling = tuple(Token(number) for number in tokens) or (Literal(option),)
    answers: list[dict[str, Any]] = []
    context.server.handle_chat_completions(
        {
            **request,
            "grammar": grammar.write(grammar.add("option", spelling), "the choice"),
            "max_tokens": len(option.encode()) + END_TOKENS,
            "logprobs": True,
            "top_logprobs": 1,
            "stream": False,
            "cache_prompt": True,
        },
        answers.append,
    )
    answer = answers[-1] if answers else {}
    if not answer.get("choices"):
        raise ModelFailed(f"a choice could not be scored: {answer.get('error', answer)}")
    choice = answer["choices"][0]
    made = choice["logprobs"]["content"]
    if bytes(byte for token in made for byte in token["bytes"]) != option.encode() or choice["finish_reason"] != "stop":
        raise ModelFailed(
            f'the choice "{option}" could not be scored: the model\'s tokens cannot spell it',
            hint="the prompt may leave too little of the model's context",
        )
    counted = made if ends else made[:-1]
    return Score(option, math.fsum(token["logprob"] for token in counted), len(made) - 1)


def best(scores: list[Score]) -> Score:
    """The likeliest option, the first of equals."""
    return max(scores, key=lambda score: score.log_likelihood)


def described(scores: list[Score]) -> list[dict[str, Any]]:
    """Every option with its log likelihood, and its share of the likelihood of all options."""
    top = best(scores).log_likelihood
    weights = [math.exp(score.log_likelihood - top) for score in scores]
    total = math.fsum(weights)
    return [
        {"choice": score.option, "logprob": score.log_likelihood, "probability": weight / total}
        for score, weight in zip(scores, weights, strict=True)
    ]
