"""A prefix that prompts share: kept or read anew, alone or beside others, the probabilities are the same bits."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from pg_steadytext.engines.constraints import constraint as constraints
from pg_steadytext.engines.llama import LlamaGenerator
from pg_steadytext.engines.llama_context import ChatContext
from pg_steadytext.engines.llama_prefix import named
from pg_steadytext.engines.protocol import Completion, Prompt
from pg_steadytext.errors import Cancelled
from tests.support.models import Engines, weights

SHARED = "Answer with one word.\n\nText:\nA cat sleeps.\nAnswer: yes\n\nText:\nIt rains again.\nAnswer: no\n\nText:\n"
OTHER = "Choose the label that fits the text.\nLabels: one | two | three\n\n"
CHOICE = constraints.choices(["yes", "no", "unknown", "not at all", "no, never"])
TEXTS = ["A dog barks.", ". begins with the probe", "\n\n\nbreaks before it", "word " * 30]


def keep_going(_piece: str) -> bool:
    return False


def choose(
    generator: LlamaGenerator, text: str, prefix: str = SHARED, *, logprobs: bool = True, crowd: bool = False
) -> Completion:
    """The likelihoods of the choices."""
    prompt = Prompt(text + "\nAnswer:", prefix=prefix, constraint=CHOICE, logprobs=logprobs, max_tokens=8, crowd=crowd)
    return generator.generate(prompt, keep_going)


def test_likelihoods_do_not_depend_on_what_was_kept(engines: Engines) -> None:
    fresh = {text: choose(engines.generator(slots=1, context=1024), text) for text in TEXTS[:1]}
    generator = engines.generator()
    alone = fresh | {text: choose(generator, text) for text in TEXTS[1:]}

    def work(number: int) -> None:
        for text in TEXTS[number:] + TEXTS[:number]:
            assert choose(generator, text, crowd=number % 2 == 0) == alone[text]
            if number == 1:
                generator.generate(Prompt("Name a river.", max_tokens=2), keep_going)
            if number == 2:
                choose(generator, text, OTHER)

    with ThreadPoolExecutor(3) as threads:
        list(threads.map(work, range(3)))


def test_a_kept_prefix_is_not_read_again(engines: Engines, models: Path, tmp_path: Path) -> None:
    context = ChatContext(weights(models), context=1024, threads=1, socket_dir=tmp_path)
    read: list[int] = []

    def on_chunk(chunk: dict[str, object]) -> bool:
        timings = chunk.get("timings")
        if isinstance(timings, dict):
            read.append(timings["prompt_n"])
        return False

    for text in TEXTS[:1] * 2:
        request = {"messages": [{"role": "user", "content": SHARED + text}], "max_tokens": 1, "stream": True}
        context.complete(request, on_chunk, named(SHARED))
    assert context.prefix.probe == named(SHARED)
    assert max(read) <= 12


def test_the_reading_of_a_prefix_can_be_cancelled(engines: Engines) -> None:
    generator = engines.generator()
    expected = choose(generator, TEXTS[0], OTHER * 8)
    calls: list[str] = []

    def stop_at_third(piece: str) -> bool:
        calls.append(piece)
        return len(calls) == 3

    with pytest.raises(Cancelled):
        generator.generate(Prompt("a", prefix=SHARED * 8, constraint=CHOICE), stop_at_third)
    assert len(calls) == 3
    assert choose(generator, TEXTS[0], OTHER * 8) == expected


def test_the_best_choice_is_the_one_with_the_best_score(engines: Engines) -> None:
    generator = engines.generator()
    for text in TEXTS[:2]:
        scored = choose(generator, text)
        assert scored.logprobs is not None
        likeliest = max(scored.logprobs, key=lambda entry: float(entry["logprob"]))
        assert choose(generator, text, logprobs=False).text == likeliest["choice"] == scored.text
