"""The same request gives the same bits, whatever runs beside it and on however many threads."""

from __future__ import annotations

import itertools
import random
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest

from pg_steadytext.engines.llama import LlamaGenerator
from pg_steadytext.engines.protocol import Completion, OnPiece, Prompt
from pg_steadytext.errors import Cancelled
from tests.support.models import Engines, texts

LENGTHS = (3, 3, 8, 8, 20, 60, 150)
STARTS = (".", ". A list", "\n\nWhy", "<|im_end|>\n", "a")
Trace = tuple[str, tuple[tuple[str, float], ...]]


def trace(completion: Completion) -> Trace:
    """A text with the log probability of each of its tokens, in which the smallest difference of rounding shows."""
    return completion.text, tuple((entry["token"], entry["logprob"]) for entry in completion.logprobs or ())


@pytest.fixture(scope="module")
def prompts() -> list[Prompt]:
    """Questions of 3 to 400 words, and some that begin as the chat template goes on."""
    found = [f"Tell me about {text}." for text in texts(10, LENGTHS) + texts(1, (400,))]
    return [Prompt(text, max_tokens=12, logprobs=True) for text in found + list(STARTS)]


def run(generator: LlamaGenerator, prompts: list[Prompt], clients: int) -> dict[int, Trace]:
    order = list(range(len(prompts)))
    random.Random(clients).shuffle(order)
    with ThreadPoolExecutor(clients) as pool:
        done = pool.map(lambda index: generator.generate(prompts[index], lambda _piece: False), order)
        return dict(zip(order, map(trace, done), strict=True))


@pytest.fixture(scope="module")
def alone(engines: Engines, prompts: list[Prompt]) -> dict[int, Trace]:
    """What each prompt gives when it runs alone."""
    return run(engines.generator(), prompts, 1)


def test_log_probabilities_are_bit_equal_with_sixteen_clients(
    engines: Engines, prompts: list[Prompt], alone: dict[int, Trace]
) -> None:
    assert run(engines.generator(), prompts, 16) == alone


def test_log_probabilities_are_bit_equal_on_one_thread(
    engines: Engines, prompts: list[Prompt], alone: dict[int, Trace]
) -> None:
    assert run(engines.generator(slots=2, threads=1), prompts, 2) == alone


def test_log_probabilities_are_bit_equal_on_two_threads(
    engines: Engines, prompts: list[Prompt], alone: dict[int, Trace]
) -> None:
    generator = engines.generator(slots=1, threads=2)
    some = range(1, len(prompts), 3)
    assert len(prompts[10].content) > 2000, "the longest is among them"
    begun = [replace(prompts[index], max_tokens=4) for index in some]
    found = [trace(generator.generate(prompt, lambda _piece: False))[1] for prompt in begun]
    assert found == [alone[index][1][:4] for index in some]


def stop_at(calls: int) -> OnPiece:
    """Cancel a generation at that call, while it reads its prompt or later."""
    left = itertools.count(1)
    return lambda _piece: next(left) == calls


def test_log_probabilities_are_bit_equal_whatever_ran_before(
    engines: Engines, prompts: list[Prompt], alone: dict[int, Trace]
) -> None:
    generator = engines.generator()
    long = Prompt(texts(1, (200,))[0], max_tokens=20)
    for index in range(2, len(prompts), 3):
        with pytest.raises(Cancelled):
            generator.generate(long, stop_at(1 + index % 8))
        again = [trace(generator.generate(prompts[index], lambda _piece: False)) for _ in range(2)]
        assert again == [alone[index]] * 2


def test_sampling_with_a_temperature_repeats_with_its_seed(engines: Engines) -> None:
    generator = engines.generator()
    warm = [
        generator.generate(Prompt("Write a poem.", max_tokens=16, temperature=1.0, seed=seed), lambda _piece: False)
        for seed in (1, 1, 2)
    ]
    assert warm[0].text == warm[1].text != warm[2].text


def test_embeddings_are_bit_equal_alone_in_any_batch_and_on_one_thread(engines: Engines) -> None:
    found = texts(68, (1, 3, 5, 10, 20, 40, 80)) + texts(2, (300,))
    embedder = engines.embedder()
    alone = np.concatenate([embedder.embed([text]) for text in found])
    for size in (7, 64):
        parts = [embedder.embed(found[start : start + size]) for start in range(0, len(found), size)]
        assert np.array_equal(np.concatenate(parts), alone), f"batches of {size}"
    order = random.Random(1).sample(range(len(found)), len(found))
    assert np.array_equal(embedder.embed([found[row] for row in order]), alone[order])
    assert np.array_equal(engines.embedder(threads=1).embed(found), alone)
