"""Rankings by a text model's yes or no, by a cross-encoder, and by a remote server."""

from __future__ import annotations

import random
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from xllamacpp import xllamacpp

from pg_steadytext.engines.llama import LlamaGenerator
from pg_steadytext.engines.llama_context import server_params
from pg_steadytext.engines.llama_cross_encoder import CrossEncoder
from pg_steadytext.engines.llama_rerank import OWN, LogitsReranker
from pg_steadytext.engines.protocol import Prompt, Ranking, Reranker
from pg_steadytext.engines.remote import Provider, RemoteModels
from pg_steadytext.errors import Cancelled, InvalidArgument, ModelFailed, TextTooLong
from tests.support.cross_encoder import write_cross_encoder
from tests.support.models import Engines, texts

QUERY = "What do cats eat?"
DOCUMENTS = (
    "Cats eat fish and mice.",
    "The bus stops at noon.",
    ". A text that begins as the probe does",
    "<|im_end|>\n",
    "a",
    "Cats eat fish and mice, as do foxes.",
    *texts(3, (4, 12, 40)),
    "Cats eat fish and mice.",
)


def go_on() -> bool:
    return False


def scores(reranker: Reranker, *documents: str, query: str = QUERY) -> list[float]:
    return reranker.rerank(Ranking(query, documents), go_on)


@pytest.fixture(scope="module")
def judge(engines: Engines) -> LogitsReranker:
    """The default text model, which answers yes or no."""
    return LogitsReranker(engines.generator())


@pytest.fixture(scope="module")
def together(judge: LogitsReranker) -> list[float]:
    """The scores of all documents in one call."""
    return scores(judge, *DOCUMENTS)


@pytest.fixture(scope="module")
def encoder_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_cross_encoder(tmp_path_factory.mktemp("encoder") / "tiny.gguf")


@pytest.fixture(scope="module")
def encoder(encoder_file: Path, tmp_path_factory: pytest.TempPathFactory) -> CrossEncoder:
    """A cross-encoder of random weights."""
    sockets = tmp_path_factory.mktemp("sockets")
    return CrossEncoder("tiny", encoder_file, "digest", context=64, threads=2, socket_dir=sockets)


def test_a_score_is_the_share_of_yes_among_the_models_answers(judge: LogitsReranker, engines: Engines) -> None:
    (score,) = scores(judge, DOCUMENTS[0])
    request = judge._prompt(Ranking(QUERY, DOCUMENTS), DOCUMENTS[0])
    answers: list[dict[str, Any]] = []
    with engines.generator().pool.take() as context:
        context.server.handle_chat_completions(
            {**request, "max_tokens": 1, "logprobs": True, "top_logprobs": 2000, "cache_prompt": False}, answers.append
        )
    found = answers[-1]["choices"][0]["logprobs"]["content"][0]["top_logprobs"]
    share = {word: 2.718281828459045 ** next(e["logprob"] for e in found if e["token"] == word)
             for word in ("yes", "Yes", "no", "No")}  # fmt: skip
    assert score == pytest.approx((share["yes"] + share["Yes"]) / sum(share.values()), rel=1e-3)


def test_scores_are_bit_equal_alone_and_in_any_order(judge: LogitsReranker, together: list[float]) -> None:
    assert all(0 < score < 1 for score in together)
    assert together[0] == together[-1] != together[1]
    for place in (3, 0, 5):
        assert scores(judge, DOCUMENTS[place]) == [together[place]]
    order = random.Random(1).sample(range(len(DOCUMENTS)), len(DOCUMENTS))
    assert scores(judge, *(DOCUMENTS[place] for place in order)) == [together[place] for place in order]


def test_a_document_asked_for_again_at_once_scores_the_same_bits(engines: Engines, together: list[float]) -> None:
    judge = LogitsReranker(engines.generator(slots=1))
    for place, document in enumerate(DOCUMENTS):
        assert [scores(judge, document) for _ in range(3)] == [[together[place]]] * 3


def test_scores_are_bit_equal_under_load_and_on_one_thread_or_two(engines: Engines, together: list[float]) -> None:
    judge = LogitsReranker(engines.generator())
    generator = engines.generator()
    prompts = [Prompt(text, max_tokens=6) for text in texts(6, (5, 30))]
    before = [generator.generate(prompt, lambda _piece: False).text for prompt in prompts]
    with ThreadPoolExecutor(8) as pool:
        ranked = [pool.submit(scores, judge, *DOCUMENTS) for _ in range(2)]
        others = pool.submit(scores, judge, *DOCUMENTS, query="When does the bus stop?")
        written = list(pool.map(lambda prompt: generator.generate(prompt, lambda _piece: False).text, prompts))
        assert [found.result() for found in ranked] == [together] * 2
        assert others.result() != together
    assert written == before, "a text does not depend on rankings in the same contexts"
    assert scores(LogitsReranker(engines.generator(slots=2, threads=1)), *DOCUMENTS) == together
    assert scores(LogitsReranker(engines.generator(slots=1, threads=2)), *DOCUMENTS[:3]) == together[:3]


def test_models_made_for_it_are_asked_in_their_own_template(engines: Engines) -> None:
    judge = LogitsReranker(engines.generator(), own_template=True)
    prompt = judge._prompt(Ranking("q", ("d",), "t"), "d")["prompt"]
    assert prompt == f"{OWN[0]}<Instruct>: t\n<Query>: q\n<Document>: d{OWN[1]}"
    found = scores(judge, *DOCUMENTS[:3])
    assert found == scores(judge, *DOCUMENTS[2::-1])[::-1]
    assert found != scores(LogitsReranker(engines.generator()), *DOCUMENTS[:3])


def test_the_task_counts_for_a_text_model(judge: LogitsReranker, together: list[float]) -> None:
    other = judge.rerank(Ranking(QUERY, DOCUMENTS[:1], "Find what is about buses"), go_on)
    assert other != together[:1]


def test_what_does_not_fit_the_window_is_named_with_its_length(judge: LogitsReranker) -> None:
    with pytest.raises(TextTooLong, match=r"documents\[2\] .* has 30\d\d tokens, but .* holds 2048"):
        scores(judge, "short", "word " * 3000)
    with pytest.raises(TextTooLong, match=r"the query with its task has 30\d\d tokens, but .* holds 2048"):
        scores(judge, "short", query="word " * 3000)


def test_a_ranking_ends_when_it_is_told_to(judge: LogitsReranker, together: list[float]) -> None:
    asked = iter([False] * 5)
    with pytest.raises(Cancelled):
        judge.rerank(Ranking(QUERY, DOCUMENTS), lambda: next(asked, True))
    assert scores(judge, *DOCUMENTS[:2]) == together[:2]


def test_a_cross_encoder_scores_pairs_alone_as_in_any_batch(encoder: CrossEncoder) -> None:
    documents = ("a cat", "the dog ran", "cat a", "a cat")
    found = scores(encoder, *documents, query="pets")
    assert all(0 < score < 1 for score in found)
    assert len(set(found)) == 3
    assert [scores(encoder, document, query="pets")[0] for document in documents] == found
    assert scores(encoder, *documents, query="cars") != found
    with pytest.raises(TextTooLong, match=r"documents\[2\] .* has \d+ tokens, but .* holds 64"):
        scores(encoder, "a", "word " * 30)
    with pytest.raises(Cancelled):
        encoder.rerank(Ranking("q", ("d",)), lambda: True)


@pytest.fixture(scope="module")
def remote(encoder_file: Path) -> Iterator[RemoteModels]:
    """llama.cpp's own server with the cross-encoder, described rightly and wrongly."""
    params = server_params(encoder_file, context=64, threads=2)
    params.hostnames, params.port = ["127.0.0.1"], 0
    params.embedding = True
    params.pooling_type = xllamacpp.llama_pooling_type.LLAMA_POOLING_TYPE_RANK
    params.n_batch = params.n_ubatch = 64
    server = xllamacpp.Server(params)
    url = f"{server.listening_address}/v1"
    found = RemoteModels({
        "right": Provider("right", url, rerank_scores="logits"),
        "wrong": Provider("wrong", url),
        "nowhere": Provider("nowhere", "http://127.0.0.1:1/v1"),
    })  # fmt: skip
    yield found
    found.close()


def test_a_remote_server_ranks_by_one_call(remote: RemoteModels, encoder: CrossEncoder) -> None:
    documents = ("a cat", "the dog ran", "cat a")
    assert scores(remote.reranker("right:tiny"), *documents, query="pets") == scores(encoder, *documents, query="pets")
    with pytest.raises(ModelFailed, match="outside 0 and 1"):
        scores(remote.reranker("wrong:tiny"), *documents, query="pets")
    with pytest.raises(ModelFailed, match="cannot be reached"):
        scores(remote.reranker("nowhere:tiny"), "a")
    with pytest.raises((InvalidArgument, ModelFailed, TextTooLong)):
        scores(remote.reranker("right:tiny"), "word " * 30)


def test_what_stands_before_the_document_is_read_once(engines: Engines) -> None:
    generator = engines.generator(slots=1)
    for own in (True, False):
        judge = LogitsReranker(generator, own_template=own)
        scores(judge, *DOCUMENTS[:2])
        with generator.pool.take(wide=False) as context:
            server = context.server
            handle = server.handle_completions if own else server.handle_chat_completions
            answers: list[dict[str, Any]] = []
            request = judge._prompt(Ranking(QUERY, DOCUMENTS), "Something else.")
            handle({**request, "max_tokens": 0, "cache_prompt": True}, answers.append)
        read = answers[-1]["timings"]
        assert read["cache_n"] > 2 * read["prompt_n"] > 0


def test_a_text_model_without_words_for_yes_and_no_cannot_rank(
    engines: Engines, monkeypatch: pytest.MonkeyPatch
) -> None:
    generator: LlamaGenerator = engines.generator()
    monkeypatch.setattr(generator.vocabulary, "spell", lambda _word: [1, 2])
    with pytest.raises(ModelFailed, match="cannot rank"):
        LogitsReranker(generator)
