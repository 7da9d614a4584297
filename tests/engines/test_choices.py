"""Choices in every script: each is scored by all its tokens, and none ends the process."""

from __future__ import annotations

import math

import pytest

from pg_steadytext.engines.constraints import constraint as constraints
from pg_steadytext.engines.llama import LlamaGenerator
from pg_steadytext.engines.protocol import Prompt
from pg_steadytext.engines.vocabulary import Vocabulary
from pg_steadytext.errors import Cancelled, InvalidArgument
from tests.support.models import Engines

SCRIPTS = [
    ["Да", "Нет"],
    ["日本", "中国"],
    ["כן", "שלום"],
    ["😀", "😢"],
    ["żółty", "niebieski"],
    ["cafe\u0301", "caf\u00e9"],
    ["नम", "об"],
]


@pytest.fixture
def generator(engines: Engines) -> LlamaGenerator:
    return engines.generator(slots=1, context=1024)


def scores(generator: LlamaGenerator, options: list[str]) -> dict[str, float]:
    """The log likelihood of each option; the likeliest is the answer, asked for with likelihoods or without."""
    prompt = Prompt("Dog?", max_tokens=8, constraint=constraints.choices(options), logprobs=True)
    found = generator.generate(prompt, lambda _piece: False)
    plain = generator.generate(Prompt("Dog?", max_tokens=8, constraint=constraints.choices(options)), lambda _p: False)
    assert found.logprobs is not None
    likelihoods = {entry["choice"]: entry["logprob"] for entry in found.logprobs}
    assert list(likelihoods) == options
    assert found.text == plain.text == max(options, key=likelihoods.__getitem__)
    return likelihoods


@pytest.mark.parametrize("options", SCRIPTS)
def test_choices_of_any_script_are_scored_alone_and_beside_others(
    generator: LlamaGenerator, options: list[str]
) -> None:
    alone = scores(generator, options)
    mixed = scores(generator, ["yes", *options[::-1], "not at all"])
    assert {option: mixed[option] for option in options} == alone
    assert all(math.isfinite(score) and score < 0 for score in mixed.values())


def test_every_token_of_a_parted_character_counts(generator: LlamaGenerator) -> None:
    """The end of a character is likelier than the whole: what its first bytes cost is in the score too."""
    spelling = generator.vocabulary.spell("😀")
    assert len(spelling) == 3
    likely = scores(generator, ["😀", "yes"])["😀"]
    last = scores(generator, ["😀😀", "😀"])  # the first one is followed by the end of the answer here
    assert last["😀"] < likely
    assert last["😀😀"] < likely


def test_token_by_token_gives_the_score_that_a_grammar_gives(
    generator: LlamaGenerator, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = ["yes it is", "négatif au plus", "Grün", "no", "no, never"]
    by_grammar = scores(generator, options)
    monkeypatch.setattr(Vocabulary, "parts_a_character", lambda *_: True)
    assert scores(generator, options) == by_grammar


def test_a_choice_that_the_model_has_no_tokens_for_is_refused(generator: LlamaGenerator) -> None:
    options = constraints.choices(["yes", "\U000636e8"])
    with pytest.raises(InvalidArgument, match="a character that the model cannot write"):
        generator.generate(Prompt("Dog?", constraint=options), lambda _piece: False)


def test_a_choice_in_steps_can_be_cancelled(generator: LlamaGenerator) -> None:
    asked = 0

    def later(_piece: str) -> bool:
        nonlocal asked
        asked += 1
        return asked > 8

    options = constraints.choices(["Добро пожаловать, дорогой друг", "Нет"])
    with pytest.raises(Cancelled):
        generator.generate(Prompt("Dog?", constraint=options, logprobs=True), later)
    assert asked == 9
