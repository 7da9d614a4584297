"""Which of some texts a model finds likeliest as its answer.

An option's score is the sum of the log probabilities of all its tokens: the likelihood that the model, left alone,
would begin its answer with exactly this. No length enters. Where another option goes on from it ("no", "no, never"),
the token that ends the answer counts too, so that the shorter one stands for itself alone.

The prompt is read once, and tells the likeliest first tokens. An option of one such token has its score by that. The
others are forced by a grammar, token by token, each from the same state, and scored by what the model would have said
without one. A first token is never likelier than itself alone, so where only the best option is asked for, those that
begin less likely than the best one known need no run. A score does not depend on the option's place in the list, and
the first of equals wins.

Many scripts and emoji are spelled in tokens that end inside a character. llama.cpp's grammars do not take such a token
by its number (it ends the process where no other can be taken), and llama.cpp tells no likelihood of a token whose
character is not whole yet. So an option with one is asked for token by token, without a grammar: each time the prompt
is the conversation as llama.cpp writes it with the tokens before, which stand in the context already.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from pg_steadytext.engines.constraints.gbnf import Grammar, Literal, Token
from pg_steadytext.engines.llama_context import ChatContext
from pg_steadytext.engines.llama_prefix import Probe
from pg_steadytext.engines.protocol import OnPiece
from pg_steadytext.engines.vocabulary import Vocabulary
from pg_steadytext.errors import Cancelled, InvalidArgument, ModelFailed

END_TOKENS = 8
FIRST_TOKENS = 256
ALL_TOKENS = 2**20
SURELY = 1e6
ANY_TEXT = "a"
NOTHING = 'root ::= ""\n'
GREEDY: dict[str, Any] = {
    "max_tokens": 1,
    "temperature": 0,
    "top_k": 1,
    "samplers": ["top_k"],
    "repeat_penalty": 1.0,
    "stream": False,
    "cache_prompt": True,
}


@dataclass(frozen=True, slots=True)
class Score:
    """An option with its log likelihood, and the number of its tokens without the one that ends the answer."""

    option: str
    log_likelihood: float
    tokens: int


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked in which context.

    `read_prompt` takes the chunks of the prompt's reading, and returns True to stop it.
    """

    context: ChatContext
    request: dict[str, Any]
    probe: Probe
    read_prompt: Callable[[dict[str, Any]], bool]
    on_piece: OnPiece


def score_options(
    ask: Question, options: tuple[str, ...], vocabulary: Vocabulary, *, all_scores: bool = True
) -> list[Score]:
    """The scores of the options, in their order; with `all_scores` off, those that cannot be the best are left out.

    The list is empty where the reading of the prompt was stopped. Raises Cancelled once `on_piece` returned True,
    InvalidArgument, ModelFailed.
    """
    for option in options:
        if vocabulary.lacks(option):
            raise InvalidArgument(f'the choice "{option}" has a character that the model cannot write')
    first = _read(ask)
    if first is None:
        return []
    spelled = {option: vocabulary.spell(option) for option in options}
    ending = {o for o in options if any(other != o and other.startswith(o) for other in options)}
    found = {
        option: Score(option, first[tokens[0]], 1)
        for option, tokens in spelled.items()
        if len(tokens) == 1 and tokens[0] in first and option not in ending
    }
    least = min(first.values(), default=0.0)
    bounds = {o: first.get(spelled[o][0], least) if spelled[o] else 0.0 for o in options if o not in found}
    steps: Steps | None = None
    for option in sorted(bounds, key=lambda option: -bounds[option]):
        known = max((score.log_likelihood for score in found.values()), default=-math.inf)
        if not all_scores and bounds[option] < known:
            break
        if vocabulary.parts_a_character(option, spelled[option]):
            steps = steps or Steps(ask, vocabulary.spell(ANY_TEXT)[0])
            found[option] = steps.score(option, spelled[option], ends=option in ending)
        else:
            found[option] = _forced(ask, option, spelled[option], ends=option in ending)
        if ask.on_piece(""):
            raise Cancelled("the generation was cancelled")
    return [found[option] for option in options if option in found]


def _read(ask: Question) -> dict[int, float] | None:
    """Read the prompt; the log probabilities of the likeliest first tokens by number, None where it was stopped."""
    stopped = False
    first: dict[int, float] = {}

    def read(chunk: dict[str, Any]) -> bool:
        nonlocal stopped
        for choice in chunk.get("choices", ()):
            made = (choice.get("logprobs") or {}).get("content") or ()
            for token in made[:1]:
                first.update((entry["id"], entry["logprob"]) for entry in token["top_logprobs"])
        stopped = ask.read_prompt(chunk) or stopped
        return stopped

    request = {**ask.request, "max_tokens": 1, "logprobs": True, "top_logprobs": FIRST_TOKENS}
    ask.context.complete(request, read, ask.probe)
    return None if stopped else first


def _forced(ask: Question, option: str, tokens: list[int], *, ends: bool) -> Score:
    grammar = Grammar()
    spelling = tuple(Token(number) for number in tokens) or (Literal(option),)
    answers: list[dict[str, Any]] = []
    ask.context.server.handle_chat_completions(
        {
            **ask.request,
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
        raise _unspelled(option)
    counted = made if ends else made[:-1]
    return Score(option, math.fsum(token["logprob"] for token in counted), len(made) - 1)


class Steps:
    """Asks for the tokens of options one by one; `plain` is a token of whole characters."""

    def __init__(self, ask: Question, plain: int) -> None:
        self._ask = ask
        self._plain = plain
        self._prompt = ask.context.template.write(ask.request)

    def score(self, option: str, tokens: list[int], *, ends: bool) -> Score:
        """The score of an option that these tokens spell. Raises Cancelled, ModelFailed."""
        found = [self._said_of(token, tokens[:place]) for place, token in enumerate(tokens)]
        if None in found or b"".join(bytes(said["bytes"]) for said in found if said) != option.encode():
            raise _unspelled(option)
        likelihoods = [said["logprob"] for said in found if said]
        if ends:
            likelihoods += [end["logprob"] for end in self._next(tokens, {"grammar": NOTHING})]
        return Score(option, math.fsum(likelihoods), len(tokens))

    def _said_of(self, token: int, before: list[int]) -> dict[str, Any] | None:
        """What the model says of a token after others: as the next one or, where that ends no character, beside it."""
        for forced, among in ((token, 1), (self._plain, FIRST_TOKENS), (self._plain, ALL_TOKENS)):
            for made in self._next(before, {"logit_bias": [[forced, SURELY]], "logprobs": among}):
                for said in (made, *made["top_logprobs"]):
                    if said["id"] == token:
                        return dict(said)
        return None

    def _next(self, before: list[int], request: dict[str, Any]) -> list[dict[str, Any]]:
        """The next token after others, with its likelihood; none where it ends inside a character."""
        if self._ask.on_piece(""):
            raise Cancelled("the generation was cancelled")
        answers: list[dict[str, Any]] = []
        prompt = {"prompt": [self._prompt, *before], "logprobs": 1, **request}
        self._ask.context.server.handle_completions({**GREEDY, **prompt}, answers.append)
        answer = answers[-1] if answers else {}
        if not answer.get("choices"):
            raise ModelFailed(f"a choice could not be scored: {answer.get('error', answer)}")
        made: list[dict[str, Any]] = (answer["choices"][0].get("logprobs") or {}).get("content") or []
        return made


def _unspelled(option: str) -> ModelFailed:
    return ModelFailed(
        f'the choice "{option}" could not be scored: the model\'s tokens cannot spell it',
        hint="the prompt may leave too little of the model's context",
    )


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
