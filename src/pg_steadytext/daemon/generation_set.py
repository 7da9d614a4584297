"""Many prompts that share all but their ends, as one request.

A set has as many prompts at work as make full use of the model, all in the batch lane, so that it neither fills the
model's queue nor keeps interactive requests waiting. More would not be faster, and each would read the shared beginning
in a context of its own. A prompt that fails leaves its error in the place of its answer.
A set of one is an ordinary request.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from pg_steadytext.daemon.generation import GenerationScheduler
from pg_steadytext.daemon.wire import Lane
from pg_steadytext.engines.protocol import Completion, Generator, Prompt
from pg_steadytext.engines.text import check_text
from pg_steadytext.errors import Busy, Cancelled, SteadyTextError

BUSY_SECONDS = 0.05

Answer = dict[str, Any]
"""`text` and `finish_reason`, with `logprobs` where they were asked for; or `error`, `code` and `hint`."""


async def complete_set(
    scheduler: GenerationScheduler, generator: Generator, common: Prompt, texts: Sequence[object], lane: Lane
) -> list[Answer]:
    """One answer a text, in input order. Raises Cancelled; Busy for a set of one only."""
    if len(texts) == 1:
        return [await _answer(scheduler, generator, common, texts[0], lane)]
    answers: list[Answer] = [{} for _ in texts]
    waiting = iter(enumerate(texts))
    crowd = replace(common, crowd=True)
    async with asyncio.TaskGroup() as group:
        for _ in range(min(generator.useful_slots, len(texts))):
            group.create_task(_work(scheduler, generator, crowd, waiting, answers))
    return answers


async def _work(
    scheduler: GenerationScheduler,
    generator: Generator,
    common: Prompt,
    waiting: Iterator[tuple[int, object]],
    answers: list[Answer],
) -> None:
    for place, text in waiting:
        while not answers[place]:
            try:
                answers[place] = await _answer(scheduler, generator, common, text, "batch")
            except Busy:  # the set was let in, so it waits for its turn
                await asyncio.sleep(BUSY_SECONDS)


async def _answer(
    scheduler: GenerationScheduler, generator: Generator, common: Prompt, text: object, lane: Lane
) -> Answer:
    try:
        prompt = replace(common, text=check_text(text, "prompt"))
        return _described(await scheduler.complete(generator, prompt, lane))
    except (Busy, Cancelled):
        raise
    except SteadyTextError as error:
        return {"error": error.message, "code": error.sqlstate, "hint": error.hint}


def _described(completion: Completion) -> Answer:
    answer: Answer = {"text": completion.text, "finish_reason": completion.finish_reason}
    if completion.logprobs is not None:
        answer["logprobs"] = completion.logprobs
    return answer
