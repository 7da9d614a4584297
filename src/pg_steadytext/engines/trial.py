"""Loads a GGUF file and runs it once: `python -m pg_steadytext.engines.trial FILE [POOLING]`.

The exit status is 0 if it works; otherwise standard error ends with the reason.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from pg_steadytext.engines.llama import LlamaGenerator
from pg_steadytext.engines.llama_embedding import LlamaEmbedder
from pg_steadytext.engines.protocol import Prompt
from pg_steadytext.errors import SteadyTextError

TRIAL_CONTEXT = 512


def main(file: Path, pooling: str | None) -> None:
    """Load the file with a small window and let it answer once."""
    with tempfile.TemporaryDirectory() as sockets:
        if pooling is None:
            generator = LlamaGenerator(
                "trial", file, "", context=TRIAL_CONTEXT, slots=1, threads=1, socket_dir=Path(sockets)
            )
            generator.generate(Prompt("hello", max_tokens=1), lambda _piece: False)
        else:
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
        main(Path(sys.argv[1]), sys.argv[2] if len(sys.argv) > 2 else None)
    except SteadyTextError as error:
        sys.exit(error.message)
