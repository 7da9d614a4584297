"""Text generation on GGUF files with llama.cpp, through xllamacpp.

One promise rules the settings here: the text of a request never depends on what runs beside it, on the number of
threads, or on what ran before.

- Every slot is a context of its own. Slots that share a context share batches, and then the shape of the matrix
  products, hence the rounding, depends on the neighbours. The weights are mapped from the file, so contexts share them.
- Flash attention is off: its split over threads changes the order of sums.
- The prompt cache is off: a prompt whose beginning is reused is computed in other chunks than a fresh one.
- A prompt is read in chunks of a fixed size, small enough that a cancelled request ends within one chunk.
- Weights stay in the file's layout (no repacking), so that contexts can share them.

A request that runs alone gets a context with all threads; requests that run together get contexts with few threads
each, which is faster in sum than sharing one wide context.
"""

from __future__ import annotations

import os
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from xllamacpp import xllamacpp

from pg_steadytext.engines.pace import Pace
from pg_steadytext.engines.protocol import Completion, OnPiece, Prompt
from pg_steadytext.engines.text import check_text, without_nul
from pg_steadytext.errors import Cancelled, InvalidArgument, ModelFailed, TextTooLong

PROMPT_CHUNK = 64
MAX_SEED = 2**32 - 2
QUIET = -1
MAX_SOCKET_FOLDER = 70


class LlamaContext:
    """One model context with one slot.

    llama.cpp's server always opens a listener; requests come in process, so it listens on a Unix socket in a private
    folder that is removed as soon as the server stands.
    """

    def __init__(self, path: Path, *, context: int, threads: int, socket_dir: Path, pooling: str | None = None) -> None:
        self.threads = threads
        params = server_params(path, context=context, threads=threads)
        if pooling is not None:
            params.embedding = True
            params.pooling_type = getattr(xllamacpp.llama_pooling_type, f"LLAMA_POOLING_TYPE_{pooling.upper()}")
            params.n_batch = params.n_ubatch = context
        with private_folder(socket_dir) as folder:
            params.hostnames = [str(folder / "unused.sock")]
            try:
                self.server = xllamacpp.Server(params)
            except (RuntimeError, ValueError) as error:
                raise ModelFailed(
                    f"llama.cpp could not load {path}: {error}",
                    hint="pg-steadytext models verify checks the file; it may need more memory than there is",
                ) from error


def server_params(path: Path, *, context: int, threads: int) -> Any:
    """xllamacpp's parameters for a context whose results depend on nothing but the request."""
    params = xllamacpp.CommonParams()
    params.model.path = str(path)
    params.n_ctx = context
    params.n_parallel = 1
    params.n_batch = params.n_ubatch = PROMPT_CHUNK
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = threads
    params.flash_attn_type = xllamacpp.llama_flash_attn_type.LLAMA_FLASH_ATTN_TYPE_DISABLED
    params.cache_prompt = False
    params.cache_ram_mib = 0
    params.ctx_shift = False
    params.no_extra_bufts = True
    params.n_gpu_layers = 0
    params.fit_params = False
    params.warmup = False
    params.force_pure_content_parser = True
    params.ui = False
    params.endpoint_slots = params.endpoint_props = params.endpoint_metrics = False
    params.n_threads_http = 1
    params.verbosity = QUIET
    return params


class ContextPool:
    """Up to `slots` contexts at work at once, made when first needed.

    `make` builds a context for a number of threads. The wide context (all threads) is handed out only while no
    other is at work, and while `pace` has not found the processors taken by others.
    """

    def __init__(self, make: Callable[[int], LlamaContext], *, slots: int, threads: int) -> None:
        self._make = make
        self._slots = slots
        self.wide_threads = threads
        self.pace = Pace()
        self._narrow_threads = max(1, threads // slots)
        self._free = threading.Condition()
        self._working = 0
        self._wide: LlamaContext | None = None
        self._narrow: list[LlamaContext] = []

    @property
    def alone(self) -> bool:
        """Whether no more than one context is at work."""
        return self._working <= 1

    @contextmanager
    def take(self) -> Iterator[LlamaContext]:
        """A context for one request; waits while all slots are at work."""
        with self._free:
            self._free.wait_for(lambda: self._working < self._slots)
            wide = self._working == 0 and self.pace.wide_pays()
            self._working += 1
        context: LlamaContext | None = None
        try:
            context = self._obtain(wide)
            yield context
        finally:
            with self._free:
                self._working -= 1
                if context is not None and not wide:
                    self._narrow.append(context)
                self._free.notify()

    def _obtain(self, wide: bool) -> LlamaContext:
        if wide:
            if self._wide is None:
                self._wide = self._make(self.wide_threads)
            return self._wide
        with self._free:
            if self._narrow:
                return self._narrow.pop()
        return self._make(self._narrow_threads)

    def close(self) -> None:
        """Free the contexts that are not at work."""
        with self._free:
            self._wide = None
            self._narrow.clear()


class LlamaGenerator:
    """A text model in a GGUF file. `context_length` is the window of every slot, in tokens."""

    def __init__(
        self, name: str, path: Path, digest: str, *, context: int, slots: int, threads: int, socket_dir: Path
    ) -> None:
        self.name = name
        self.digest = digest
        self.context_length = context
        self.slots = slots
        self._path = path
        self._socket_dir = socket_dir
        self._pool = ContextPool(self._make_context, slots=slots, threads=threads)
        with self._pool.take():
            pass

    def _make_context(self, threads: int) -> LlamaContext:
        return LlamaContext(self._path, context=self.context_length, threads=threads, socket_dir=self._socket_dir)

    def generate(self, prompt: Prompt, on_piece: OnPiece) -> Completion:
        """Run one completion; `on_piece` is also called, with an empty text, between the chunks of a prompt.

        Raises InvalidArgument, TextTooLong, Cancelled when `on_piece` returned True, ModelFailed.
        """
        request = chat_request(prompt)
        reader = _ChunkReader(self.name, on_piece)
        with self._pool.take() as context:
            alone = self._pool.alone
            context.server.handle_chat_completions(request, reader)
            if alone and self._pool.alone:
                self._pool.pace.record(
                    wide=context.threads == self._pool.wide_threads,
                    tokens=reader.timings.get("predicted_n", 0),
                    tokens_per_second=reader.timings.get("predicted_per_second", 0.0),
                )
        return reader.completion()

    def close(self) -> None:
        """Free the model's contexts."""
        self._pool.close()


@contextmanager
def private_folder(parent: Path) -> Iterator[Path]:
    """A folder that only its owner can enter, gone after the block; elsewhere if `parent` is too long for a socket."""
    parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    short = len(os.fsencode(parent)) <= MAX_SOCKET_FOLDER
    with tempfile.TemporaryDirectory(prefix="llama-", dir=parent if short else None) as folder:
        yield Path(folder)


def chat_request(prompt: Prompt) -> dict[str, Any]:
    """The body of a chat completion for `prompt`. Raises InvalidArgument."""
    check_text(prompt.text, "prompt")
    if prompt.max_tokens < 1:
        raise InvalidArgument("max_tokens must be at least 1")
    if not 0 <= prompt.seed <= MAX_SEED:
        raise InvalidArgument(f"seed must be non-negative and at most {MAX_SEED}, not {prompt.seed}")
    if not 0 <= prompt.temperature <= 2:
        raise InvalidArgument(f"temperature must be between 0 and 2, not {prompt.temperature}")
    request: dict[str, Any] = {
        "messages": [{"role": "user", "content": prompt.text}],
        "max_tokens": prompt.max_tokens,
        "seed": prompt.seed,
        "temperature": prompt.temperature,
        "stream": True,
        "return_progress": True,
        "cache_prompt": False,
        "reasoning_format": "none",
        "chat_template_kwargs": {"enable_thinking": prompt.thinking},
        "repeat_penalty": 1.0,
    }
    if prompt.temperature == 0:
        request.update(top_k=1, samplers=["top_k"])
    else:
        request.update(top_k=40, top_p=0.95, min_p=0.05, samplers=["top_k", "top_p", "min_p", "temperature"])
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
            raise _error_of(self._model, self._error)
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


def _error_of(model: str, error: dict[str, Any]) -> Exception:
    if error.get("type") == "exceed_context_size_error":
        return TextTooLong(
            f"the text has {error['n_prompt_tokens']} tokens, but the context window of model "
            f'"{model}" holds {error["n_ctx"]}',
            hint="shorten the text, or use a model with a longer context",
        )
    message = f'model "{model}" failed: {error.get("message", error)}'
    return InvalidArgument(message) if error.get("code") == 400 else ModelFailed(message)
