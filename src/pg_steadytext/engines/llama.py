"""Text generation on GGUF files with llama.cpp, through xllamacpp.

The text of a request never depends on what runs beside it, on the number of threads, or on what ran before;
`llama_context` says how.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pg_steadytext.engines.constraints.answer import NAMES, check_answer, check_combination
from pg_steadytext.engines.constraints.automaton import MatchesNothing
from pg_steadytext.engines.constraints.compiled import Compiled, compiled
from pg_steadytext.engines.constraints.constraint import Constraint
from pg_steadytext.engines.llama_choice import Question, best, described, score_options
from pg_steadytext.engines.llama_context import ChatContext
from pg_steadytext.engines.llama_errors import error_of
from pg_steadytext.engines.llama_pool import ContextPool
from pg_steadytext.engines.llama_prefix import TEMPLATE, named
from pg_steadytext.engines.protocol import Completion, OnPiece, Prompt
from pg_steadytext.engines.text import check_text, without_nul
from pg_steadytext.engines.vocabulary import Vocabulary
from pg_steadytext.errors import Cancelled, InvalidArgument, ModelFailed

MAX_SEED = 2**32 - 2


class LlamaGenerator:
    """A text model in a GGUF file. `context_length` is the window of every slot, in tokens."""

    def __init__(
        self, name: str, path: Path, digest: str, *, context: int, slots: int, threads: int, socket_dir: Path
    ) -> None:
        self.name = name
        self.digest = digest
        self.context_length = context
        self.slots = slots
        self.useful_slots = min(slots, threads)
        self._path = path
        self._socket_dir = socket_dir
        self.vocabulary = Vocabulary(path)
        self.pool = ContextPool(self._make_context, slots=slots, threads=threads)
        with self.pool.take() as first:
            first.prefix.rewind(TEMPLATE)

    def _make_context(self, threads: int) -> ChatContext:
        return ChatContext(self._path, context=self.context_length, threads=threads, socket_dir=self._socket_dir)

    def generate(self, prompt: Prompt, on_piece: OnPiece) -> Completion:
        """Run one completion; `on_piece` is also called, with an empty text, between the chunks of a prompt.

        Raises InvalidArgument, TextTooLong, Cancelled when `on_piece` returned True, ModelFailed.
        """
        request = chat_request(prompt)
        constraint = prompt.constraint
        if constraint is not None and constraint.kind == "choices":
            return self._choose(request, prompt, constraint, on_piece)
        ready = None
        if constraint is not None:
            ready = self._compiled(constraint)
            request["grammar"] = ready.grammar
        reader = _ChunkReader(self.name, on_piece)
        probe = named(prompt.prefix)
        with self.pool.take(probe, wide=not prompt.crowd) as context:
            alone = self.pool.alone
            context.complete(request, reader, probe)
            if alone and self.pool.alone:
                self.pool.pace.record(
                    wide=context.threads == self.pool.wide_threads,
                    tokens=reader.timings.get("predicted_n", 0),
                    tokens_per_second=reader.timings.get("predicted_per_second", 0.0),
                )
        completion = reader.completion()
        if constraint is not None:
            check_answer(prompt, constraint, completion, ready)
        return completion

    def _compiled(self, constraint: Constraint) -> Compiled:
        try:
            return compiled(constraint, self.vocabulary.unwritable)
        except MatchesNothing:
            compiled(constraint)  # which says so where it is not the model's fault
            raise InvalidArgument(
                f'model "{self.name}" has no tokens for any text that satisfies {NAMES[constraint.kind]}',
                hint="use another model, or leave out characters that no language has",
            ) from None

    def _choose(self, request: dict[str, Any], prompt: Prompt, constraint: Constraint, on_piece: OnPiece) -> Completion:
        reader = _ChunkReader(self.name, on_piece)
        options = tuple(constraint.source)
        probe = named(prompt.prefix)
        with self.pool.take(probe, wide=not prompt.crowd) as context:
            ask = Question(context, request, probe, reader, on_piece)
            scores = score_options(ask, options, self.vocabulary, all_scores=prompt.logprobs)
        read = reader.completion()
        chosen = best(scores)
        completion = Completion(
            text=chosen.option,
            finish_reason="stop" if chosen.tokens <= prompt.max_tokens else "length",
            prompt_tokens=read.prompt_tokens,
            completion_tokens=min(chosen.tokens, prompt.max_tokens),
            logprobs=described(scores) if prompt.logprobs else None,
        )
        check_answer(prompt, constraint, completion)
        return completion

    def close(self) -> None:
        """Free the model's contexts."""
        self.pool.close()


def chat_request(prompt: Prompt) -> dict[str, Any]:
    """The body of a chat completion for `prompt`. Raises InvalidArgument."""
    check_text(prompt.content, "prompt")
    if prompt.max_tokens < 1:
        raise InvalidArgument("max_tokens must be at least 1")
    if not 0 <= prompt.seed <= MAX_SEED:
        raise InvalidArgument(f"seed must be non-negative and at most {MAX_SEED}, not {prompt.seed}")
    if not 0 <= prompt.temperature <= 2:
        raise InvalidArgument(f"temperature must be between 0 and 2, not {prompt.temperature}")
    request: dict[str, Any] = {
        "messages": [{"role": "user", "content": prompt.content}],
        "max_tokens": prompt.max_tokens,
        "seed": prompt.seed,
        "temperature": prompt.temperature,
        "stream": True,
        "return_progress": True,
        "reasoning_format": "none",
        "chat_template_kwargs": {"enable_thinking": prompt.thinking},
        "repeat_penalty": 1.0,
    }
    if prompt.temperature == 0:
        request.update(top_k=1, samplers=["top_k"])
    else:
        request.update(top_k=40, top_p=0.95, min_p=0.05, samplers=["top_k", "top_p", "min_p", "temperature"])
    if prompt.constraint is not None:
        check_combination(prompt)
    if prompt.stop is not None:
        request["stop"] = [prompt.stop]
    if prompt.logprobs:
        request.update(logprobs=True, top_logprobs=1)
    return request


class _ChunkReader:
    """Takes the chunks of a streamed chat completion and puts its text together."""

    def __init__(self, model: str, on_piece: OnPiece) -> None:
        self._model = model
        self._on_piece = on_piece
        self._pieces: list[str] = []
        self._logprobs: list[dict[str, Any]] = []
        self._finish: str | None = None
        self.timings: dict[str, Any] = {}
        self._error: dict[str, Any] | None = None
        self._raised: BaseException | None = None
        self._stopped = False

    def __call__(self, chunk: dict[str, Any]) -> bool:
        """Take one chunk; True asks llama.cpp to stop."""
        try:
            return self._take(chunk)
        except BaseException as error:  # noqa: BLE001 - it must not unwind through C++; completion() raises it
            self._raised = error
            return True

    def _take(self, chunk: dict[str, Any]) -> bool:
        if "error" in chunk:
            self._error = chunk["error"]
            return True
        self.timings = chunk.get("timings") or self.timings
        piece = ""
        for choice in chunk.get("choices", ()):
            piece += choice["delta"].get("content") or ""
            self._finish = choice.get("finish_reason") or self._finish
            if choice.get("logprobs"):
                self._logprobs.extend(choice["logprobs"]["content"])
        piece = without_nul(piece)
        if piece:
            self._pieces.append(piece)
        if self._finish is None or piece:
            self._stopped = self._on_piece(piece)
        return self._stopped

    def completion(self) -> Completion:
        """The finished text. Raises what went wrong."""
        if self._raised is not None:
            raise self._raised
        if self._error is not None:
            raise error_of(self._model, self._error)
        if self._finish is None:
            if self._stopped:
                raise Cancelled("the generation was cancelled")
            raise ModelFailed(f'model "{self._model}" ended without an answer')
        return Completion(
            text="".join(self._pieces),
            finish_reason="length" if self._finish == "length" else "stop",
            prompt_tokens=self.timings.get("prompt_n", 0) + self.timings.get("cache_n", 0),
            completion_tokens=self.timings.get("predicted_n", 0),
            logprobs=self._logprobs or None,
        )
