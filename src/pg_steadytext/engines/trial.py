"""Loading a GGUF file on trial, in a process of its own.

llama.cpp ends the process on some damaged or unsupported files; a file that nobody vouches for therefore has to load
and answer once in a child before it is installed. The child is `python -m pg_steadytext.engines.trial FILE [POOLING]`.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

from pg_steadytext.errors import ModelFailed, SteadyTextError

TRIAL_CONTEXT = 512
TRIAL_SECONDS = 600
RANK = "rank"


def trial_load(file: Path, *, pooling: str | None = None) -> None:
    """Load a file and let it answer once; `pooling` tries an embedding model or a cross-encoder. Raises ModelFailed."""
    command = [sys.executable, "-m", "pg_steadytext.engines.trial", str(file), *([pooling] if pooling else [])]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=TRIAL_SECONDS)
    except subprocess.TimeoutExpired:
        raise ModelFailed(f"{file} did not load within {TRIAL_SECONDS} seconds") from None
    if done.returncode != 0:
        why = done.stderr.strip().splitlines()[-1:] or [f"the process ended with {done.returncode}"]
        raise ModelFailed(
            f"llama.cpp cannot use {file}: {why[0][:300]}",
            hint="the file may be damaged, or of an architecture that is not supported",
        )


def _answer_once(file: Path, pooling: str | None) -> None:
    from pg_steadytext.engines.llama import LlamaGenerator
    from pg_steadytext.engines.llama_cross_encoder import CrossEncoder
    from pg_steadytext.engines.llama_embedding import LlamaEmbedder
    from pg_steadytext.engines.protocol import Prompt, Ranking

    with tempfile.TemporaryDirectory() as sockets:
        if pooling is None:
            generator = LlamaGenerator(
                "trial", file, "", context=TRIAL_CONTEXT, slots=1, threads=1, socket_dir=Path(sockets)
            )
            generator.generate(Prompt("hello", max_tokens=1), lambda _piece: False)
            return
        if pooling == RANK:
            encoder = CrossEncoder("trial", file, "", context=TRIAL_CONTEXT, threads=1, socket_dir=Path(sockets))
            encoder.rerank(Ranking("hello", ("hello",)), lambda: False)
            return
        LlamaEmbedder(
            "trial",
            file,
            "",
            dimensions=sys.maxsize,
            context=TRIAL_CONTEXT,
            pooling=pooling,
            prefix="",
            threads=1,
            socket_dir=Path(sockets),
        ).embed(["hello"])


if __name__ == "__main__":
    try:
        _answer_once(Path(sys.argv[1]), sys.argv[2] if len(sys.argv) > 2 else None)
    except SteadyTextError as error:
        sys.exit(error.message)
