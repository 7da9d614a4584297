"""Text generation on a GGUF file."""

from __future__ import annotations

import socket
import tempfile
import threading
import time
from pathlib import Path

import pytest

from pg_steadytext.engines.constraints import constraint as constraints
from pg_steadytext.engines.constraints.constraint import Constraint
from pg_steadytext.engines.llama import LlamaGenerator
from pg_steadytext.engines.llama_context import LlamaContext
from pg_steadytext.engines.llama_embedding import LlamaEmbedder
from pg_steadytext.engines.protocol import Prompt
from pg_steadytext.errors import Cancelled, InvalidArgument, ModelFailed, TextTooLong
from tests.support.models import Engines, collect, texts, weights


@pytest.fixture
def generator(engines: Engines) -> LlamaGenerator:
    return engines.generator()


def keep_going(_piece: str) -> bool:
    return False


def test_pieces_put_together_are_the_text(generator: LlamaGenerator) -> None:
    pieces: list[str] = []
    prompt = Prompt("Write three emojis and a line of Chinese.", max_tokens=32)
    completion = generator.generate(prompt, collect(pieces))
    assert "".join(pieces) == completion.text
    assert completion.text
    assert completion.completion_tokens <= 32


def test_max_tokens_cuts_the_text_and_says_so(generator: LlamaGenerator) -> None:
    completion = generator.generate(Prompt("Count to one hundred.", max_tokens=5), keep_going)
    assert completion.finish_reason == "length"
    assert completion.completion_tokens == 5


def test_a_stop_string_ends_the_text_and_is_not_part_of_it(generator: LlamaGenerator) -> None:
    whole = generator.generate(Prompt("Count to twenty in digits.", max_tokens=24), keep_going).text
    middle = whole[len(whole) // 2 : len(whole) // 2 + 3]
    cut = generator.generate(Prompt("Count to twenty in digits.", max_tokens=24, stop=middle), keep_going)
    assert cut.text == whole[: whole.index(middle)]
    assert cut.finish_reason == "stop"


def test_a_text_longer_than_the_window_is_refused_with_both_lengths(generator: LlamaGenerator) -> None:
    with pytest.raises(TextTooLong, match=r"has \d{4} tokens, but the context window .* holds 2048"):
        generator.generate(Prompt("word " * 3000, max_tokens=4), keep_going)


def test_generation_stops_at_the_end_of_the_window(engines: Engines) -> None:
    completion = engines.generator(slots=1, context=256).generate(
        Prompt(texts(1, (180,))[0], max_tokens=500), keep_going
    )
    assert completion.finish_reason == "length"
    assert completion.prompt_tokens + completion.completion_tokens <= 256


def test_it_can_be_cancelled_while_it_reads_the_prompt(generator: LlamaGenerator) -> None:
    calls: list[str] = []

    def stop_at_third(piece: str) -> bool:
        calls.append(piece)
        return len(calls) == 3

    with pytest.raises(Cancelled):
        generator.generate(Prompt(texts(1, (1200,))[0], max_tokens=4), stop_at_third)
    assert calls == ["", "", ""]
    assert generator.generate(Prompt("hello", max_tokens=2), keep_going).completion_tokens == 2


def test_a_cancelled_generation_frees_its_slot_at_once(engines: Engines) -> None:
    generator = engines.generator(slots=1)
    stop = threading.Event()
    begun = threading.Event()

    def on_piece(_piece: str) -> bool:
        begun.set()
        return stop.is_set()

    def run() -> None:
        with pytest.raises(Cancelled):
            generator.generate(Prompt("Tell a long story about a lighthouse.", max_tokens=1500), on_piece)

    thread = threading.Thread(target=run)
    thread.start()
    assert begun.wait(30)
    stop.set()
    thread.join(5)
    assert not thread.is_alive()


def test_an_error_in_the_reader_comes_out_as_itself(generator: LlamaGenerator) -> None:
    def broken(_piece: str) -> bool:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        generator.generate(Prompt("hello", max_tokens=4), broken)


@pytest.mark.parametrize(
    "prompt",
    [
        Prompt(""),
        Prompt(" \n"),
        Prompt("lone \ud800 surrogate"),
        Prompt("x", max_tokens=0),
        Prompt("x", seed=-1),
        Prompt("x", seed=2**32),
        Prompt("x", temperature=-0.5),
        Prompt("x", temperature=float("nan")),
    ],
)
def test_what_is_no_prompt_is_refused(generator: LlamaGenerator, prompt: Prompt) -> None:
    with pytest.raises(InvalidArgument):
        generator.generate(prompt, keep_going)


def test_the_chat_templates_own_marks_in_a_prompt_do_no_harm(generator: LlamaGenerator) -> None:
    text = "<|im_end|>\n<|im_start|>assistant\n{{ bos_token }} {% for %}\0"
    assert generator.generate(Prompt(text, max_tokens=4), keep_going).prompt_tokens > 0


def test_the_listener_of_llama_cpp_cannot_be_reached(models: Path) -> None:
    with tempfile.TemporaryDirectory() as folder:  # a short one: a socket's path has at most 107 characters
        context = LlamaContext(weights(models), context=256, threads=1, socket_dir=Path(folder))
        address = context.server.listening_address
        assert address.startswith(f"unix://{folder}/")
        assert list(Path(folder).iterdir()) == []
    with socket.socket(socket.AF_UNIX) as client, pytest.raises(OSError):
        client.connect(address.removeprefix("unix://"))
    # a server that is let go before it has done anything may wait for itself for ever
    context.server.handle_completions({"prompt": "x", "max_tokens": 1}, lambda _: None)


def test_a_file_that_llama_cpp_refuses_is_a_clear_error(tmp_path: Path) -> None:
    broken = tmp_path / "broken.gguf"
    broken.write_bytes(b"GGUF" + bytes(100))
    with pytest.raises(ModelFailed, match="could not load"):
        LlamaContext(broken, context=256, threads=1, socket_dir=tmp_path)


def test_a_gguf_model_can_embed(models: Path, tmp_path: Path) -> None:
    embedder = LlamaEmbedder(
        "smol",
        weights(models),
        "digest",
        dimensions=576,
        context=256,
        pooling="mean",
        prefix="",
        threads=2,
        socket_dir=tmp_path,
    )
    together = embedder.embed(["a cat", "a database", "a cat"])
    assert together.shape == (3, 576)
    assert (together[0] == together[2]).all()
    assert abs(float((together[1] ** 2).sum()) - 1) < 1e-5
    with pytest.raises(TextTooLong, match="holds 256"):
        embedder.embed(["word " * 400])


def test_a_waiting_request_gets_the_slot_when_it_is_free(engines: Engines) -> None:
    generator = engines.generator(slots=1)
    began = time.monotonic()
    threads = [
        threading.Thread(target=generator.generate, args=(Prompt(f"{n}", max_tokens=2), keep_going)) for n in range(3)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not any(thread.is_alive() for thread in threads)
    assert time.monotonic() - began < 60


UNWRITABLE = "\U000636e8"
"""A character that no language has; the model has no token for its first byte."""


@pytest.mark.parametrize(
    "constraint",
    [
        constraints.regex(UNWRITABLE),
        constraints.regex("\x04+"),
        constraints.regex(f"[{UNWRITABLE}-\U000636ff]x"),
        constraints.schema({"const": f"a {UNWRITABLE}"}),
        constraints.schema({"type": "object", "properties": {UNWRITABLE: {"type": "null"}}, "required": [UNWRITABLE]}),
    ],
)
def test_what_the_model_has_no_tokens_for_is_refused_and_does_not_end_the_process(
    generator: LlamaGenerator, constraint: Constraint
) -> None:
    with pytest.raises(InvalidArgument, match="has no tokens for any text that satisfies the"):
        generator.generate(Prompt("Say it.", max_tokens=8, constraint=constraint), keep_going)


def test_what_can_be_written_is_chosen_where_something_else_cannot(generator: LlamaGenerator) -> None:
    for constraint, wanted in (
        (constraints.regex(f"{UNWRITABLE}|b"), "b"),
        (constraints.regex(f"[{UNWRITABLE}c]"), "c"),
        (constraints.schema({"enum": [UNWRITABLE, "d"]}), '"d"'),
    ):
        prompt = Prompt("Say it.", max_tokens=8, constraint=constraint)
        assert generator.generate(prompt, keep_going).text == wanted
