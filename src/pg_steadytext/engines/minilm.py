"""all-MiniLM-L6-v2 on onnxruntime: mean of the token vectors, scaled to unit length.

A vector does not depend on its batch: padding is masked inside the model, and the mean is taken over the text's own
tokens only, row by row, in the same order. Texts longer than the window are cut at it, as the model's authors do.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from onnxruntime import InferenceSession, SessionOptions  # type: ignore[attr-defined]  # exported lazily
from tokenizers import Tokenizer

from pg_steadytext.engines.protocol import Vectors
from pg_steadytext.errors import ModelFailed

MAX_ROWS = 16
TOKEN_BUDGET = 4096

Tokens = Sequence[int]


class MiniLm:
    """The loaded model. `context_length` is the window in tokens, the two special ones included.

    A few texts have all threads in one session, many have a thread a batch in another.
    """

    def __init__(self, name: str, folder: Path, digest: str, *, dimensions: int, context: int, threads: int) -> None:
        self.name = name
        self.digest = digest
        self.dimensions = dimensions
        self.context_length = context
        try:
            self._tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
            self._wide = _open_session(folder, threads)
            self._narrow = _open_session(folder, 1) if threads > 1 else self._wide
        except Exception as error:  # tokenizers and onnxruntime raise nothing narrower
            raise ModelFailed(f'model "{name}" could not be loaded from {folder}: {error}') from error
        self._tokenizer.no_padding()
        self._tokenizer.enable_truncation(context)
        self._inputs = {item.name for item in self._wide.get_inputs()}
        self.useful_calls = min(2, threads)
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix=f"embed-{name}")

    def embed(self, texts: Sequence[str]) -> Vectors:
        """One unit-length float32 row a text, in input order."""
        tokens = [encoding.ids for encoding in self._tokenizer.encode_batch_fast(list(texts))]
        vectors = np.empty((len(tokens), self.dimensions), dtype=np.float32)
        batches = list(batches_by_length([len(ids) for ids in tokens]))
        if len(batches) == 1:
            self._embed_rows(self._wide, tokens, batches[0], vectors)
        else:
            # Beside each other, the longest first: threads that share one batch wait for each other in every operator.
            list(
                self._threads.map(lambda rows: self._embed_rows(self._narrow, tokens, rows, vectors), reversed(batches))
            )
        return vectors

    def _embed_rows(
        self, session: InferenceSession, tokens: Sequence[Tokens], rows: Sequence[int], vectors: Vectors
    ) -> None:
        width = max(len(tokens[row]) for row in rows)
        ids = np.zeros((len(rows), width), dtype=np.int64)
        mask = np.zeros_like(ids)
        for index, row in enumerate(rows):
            ids[index, : len(tokens[row])] = tokens[row]
            mask[index, : len(tokens[row])] = 1
        hidden = self._run(session, ids, mask)
        for index, row in enumerate(rows):
            vectors[row] = unit_mean(hidden[index, : len(tokens[row])])

    def _run(self, session: InferenceSession, ids: NDArray[np.int64], mask: NDArray[np.int64]) -> Vectors:
        feed = {"input_ids": ids, "attention_mask": mask}
        if "token_type_ids" in self._inputs:
            feed["token_type_ids"] = np.zeros_like(ids)
        try:
            hidden = np.asarray(session.run(None, feed)[0], dtype=np.float32)
        except Exception as error:  # onnxruntime raises nothing narrower
            raise ModelFailed(f'model "{self.name}" failed: {error}') from error
        return hidden

    def close(self) -> None:
        """Let the threads end; the sessions go with the object."""
        self._threads.shutdown(wait=False)


def _open_session(folder: Path, threads: int) -> InferenceSession:
    """Load the model with `threads` inside an operator, operators one after the other."""
    options = SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    return InferenceSession(str(folder / "model.onnx"), options, providers=["CPUExecutionProvider"])


def unit_mean(hidden: Vectors) -> Vectors:
    """The mean of token vectors (tokens x dimensions), scaled to unit length."""
    mean = hidden.sum(axis=0, dtype=np.float64)
    unit: Vectors = (mean / np.sqrt(np.square(mean).sum())).astype(np.float32)
    return unit


def batches_by_length(lengths: Sequence[int]) -> Iterator[list[int]]:
    """Row numbers in groups of like length: at most MAX_ROWS rows and TOKEN_BUDGET tokens, padding included."""
    batch: list[int] = []
    for row in sorted(range(len(lengths)), key=lengths.__getitem__):
        if batch and (len(batch) == MAX_ROWS or (len(batch) + 1) * lengths[row] > TOKEN_BUDGET):
            yield batch
            batch = []
        batch.append(row)
    if batch:
        yield batch
