"""The peers: the bare engines, as anybody would call them in ten lines, on the model files that the daemon uses."""

from __future__ import annotations

import itertools
import os
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from onnxruntime import InferenceSession  # type: ignore[attr-defined]  # exported lazily
from tokenizers import Tokenizer
from xllamacpp import xllamacpp

from pg_steadytext.settings import Settings

CONTEXT = 2048
Answer = Callable[[str], int]
"""Answers a prompt and returns the number of tokens made."""


def text_server(slots: int, *, exact: bool) -> xllamacpp.Server:
    """A bare llama.cpp server on the default text model.

    ``exact``: without flash attention, which makes answers depend on threads and load; else with xllamacpp's own
    defaults. The prompt cache is off for both, since a benchmark's prompts repeat.
    """
    params = xllamacpp.CommonParams()
    params.model.path = str(Settings.load().model_dir / "smollm2-135m-instruct" / "SmolLM2-135M-Instruct.Q4_1.gguf")
    params.n_parallel = slots
    params.n_ctx = CONTEXT * slots
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = os.cpu_count() or 1
    params.verbosity = -1
    params.hostnames = [str(Path(tempfile.mkdtemp()) / "bare.sock")]
    if exact:
        params.flash_attn_type = xllamacpp.llama_flash_attn_type.LLAMA_FLASH_ATTN_TYPE_DISABLED
        params.cache_prompt = False
        params.cache_ram_mib = 0
    return xllamacpp.Server(params)


def answering(server: xllamacpp.Server, max_tokens: int) -> Answer:
    """A function that answers one prompt on a bare server."""

    def answer(prompt: str) -> int:
        replies: list[dict[str, Any]] = []
        body = {
            "messages": [{"role": "user", "content": prompt}],
            "max_tokens": max_tokens,
            "temperature": 0,
            "seed": 42,
            "cache_prompt": False,
        }
        server.handle_chat_completions(body, replies.append)
        return int(replies[0]["usage"]["completion_tokens"])

    return answer


def tokens_per_second(clients: int, prompts: Sequence[str], answer: Answer) -> float:
    """Tokens per second of ``clients`` threads that answer all prompts, each prompt once."""
    taken = itertools.count()

    def work() -> int:
        made = 0
        while (index := next(taken)) < len(prompts):
            made += answer(prompts[index])
        return made

    started = time.perf_counter()
    with ThreadPoolExecutor(clients) as pool:
        made = sum(future.result() for future in [pool.submit(work) for _ in range(clients)])
    return made / (time.perf_counter() - started)


def first_token_ms(server: xllamacpp.Server, prompt: str, max_tokens: int) -> float:
    """Milliseconds to the first token of a streamed answer, which is then given up."""
    arrived = threading.Event()

    def stop_at_first(reply: dict[str, Any]) -> bool:
        if any(choice["delta"].get("content") for choice in reply.get("choices", ())):
            arrived.set()
        return arrived.is_set()

    started = time.perf_counter()
    body = {"messages": [{"role": "user", "content": prompt}], "max_tokens": max_tokens, "temperature": 0}
    server.handle_chat_completions({**body, "stream": True, "cache_prompt": False}, stop_at_first)
    return (time.perf_counter() - started) * 1000


class EmbeddingSession:
    """A plain onnxruntime session on the default embedding model, with mean pooling and unit length."""

    def __init__(self) -> None:
        folder = Settings.load().model_dir / "all-minilm-l6-v2"
        self._session = InferenceSession(str(folder / "model.onnx"), providers=["CPUExecutionProvider"])
        self._tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self._tokenizer.enable_truncation(256)
        self._tokenizer.enable_padding()

    def embed(self, batch: Sequence[str]) -> None:
        """Embed one batch."""
        encoded = self._tokenizer.encode_batch(list(batch))
        ids = np.array([item.ids for item in encoded], dtype=np.int64)
        mask = np.array([item.attention_mask for item in encoded], dtype=np.int64)
        feed = {"input_ids": ids, "attention_mask": mask, "token_type_ids": np.zeros_like(ids)}
        hidden = np.asarray(self._session.run(None, feed)[0])
        mean = (hidden * mask[..., None]).sum(1) / mask.sum(1)[:, None]
        mean /= np.linalg.norm(mean, axis=1, keepdims=True)

    def texts_per_second(self, texts: Sequence[str], size: int) -> float:
        """Texts per second in batches of ``size``, sorted by length: the bare session's best case."""
        ordered = sorted(texts, key=len)
        started = time.perf_counter()
        for start in range(0, len(ordered), size):
            self.embed(ordered[start : start + size])
        return len(texts) / (time.perf_counter() - started)
