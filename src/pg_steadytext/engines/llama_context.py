"""A context of llama.cpp whose results depend on nothing but the request, through xllamacpp.

- Every request has a context of its own. Slots that share a context share batches, and then the shape of the matrix
  products, hence the rounding, depends on the neighbours. The weights are mapped from the file, so contexts share them.
- Flash attention is off: its split over threads changes the order of sums.
- The prompt cache is off, but for the chat template's prefix and one that a request names: a prompt whose beginning is
  reused is computed in other chunks than a fresh one.
- A prompt is read in chunks of a fixed size, small enough that a cancelled request ends within one chunk.
- Weights stay in the file's layout (no repacking), so that contexts can share them.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from xllamacpp import xllamacpp

from pg_steadytext.engines.llama_prefix import TEMPLATE, Abandoned, Prefix, Probe, asking
from pg_steadytext.engines.llama_template import Template
from pg_steadytext.errors import ModelFailed

PROMPT_CHUNK = 64
QUIET = -1
MAX_SOCKET_FOLDER = 70


class LlamaContext:
    """One model context with one slot.

    llama.cpp's server always opens a listener; requests come in process, so it listens on a Unix socket in a private
    folder that is removed as soon as the server stands. Only `template` still asks there.
    """

    def __init__(self, path: Path, *, context: int, threads: int, socket_dir: Path, pooling: str | None = None) -> None:
        self.threads = threads
        params = server_params(path, context=context, threads=threads)
        if pooling is not None:
            params.embedding = True
            params.pooling_type = getattr(xllamacpp.llama_pooling_type, f"LLAMA_POOLING_TYPE_{pooling.upper()}")
            params.n_batch = params.n_ubatch = context
        with private_folder(socket_dir) as folder:
            listener = folder / "listener.sock"
            params.hostnames = [str(listener)]
            try:
                self.server = xllamacpp.Server(params)
            except (RuntimeError, ValueError) as error:
                raise ModelFailed(
                    f"llama.cpp could not load {path}: {error}",
                    hint="pg-steadytext models verify checks the file; it may need more memory than there is",
                ) from error
            self.template = Template(listener)


class ChatContext(LlamaContext):
    """A context for completions, which keeps the beginning that prompts share: the last one that was asked for."""

    def __init__(self, path: Path, *, context: int, threads: int, socket_dir: Path) -> None:
        super().__init__(path, context=context, threads=threads, socket_dir=socket_dir)
        self.prefix = Prefix(self.server)

    def complete(
        self, request: dict[str, Any], on_chunk: Callable[[dict[str, Any]], bool], probe: Probe = TEMPLATE
    ) -> None:
        """Run one streamed completion; it ends early once `on_chunk` returns True. Raises ModelFailed.

        `probe` names the beginning that the slot keeps for prompts like this one.
        """
        if on_chunk({}):  # who left while the context was made need not wait for the prefix
            return
        try:
            reuse = self.prefix.rewind(probe, lambda: on_chunk({}))
        except Abandoned:
            return
        asking(self.server, request)({**request, "cache_prompt": reuse}, on_chunk)


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
    params.n_ctx_checkpoints = 0
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


@contextmanager
def private_folder(parent: Path) -> Iterator[Path]:
    """A folder that only its owner can enter, gone after the block; elsewhere if `parent` is too long for a socket."""
    parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    short = len(os.fsencode(parent)) <= MAX_SOCKET_FOLDER
    with tempfile.TemporaryDirectory(prefix="llama-", dir=parent if short else None) as folder:
        yield Path(folder)
