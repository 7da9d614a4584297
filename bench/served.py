"""A server process for as long as a benchmark asks it."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

MEMORY_SERVICE = ("-m", "pg_steadytext.cli", "memory", "serve")


@contextmanager
def serving(port: int, *arguments: str, environment: Mapping[str, str] | None = None) -> Iterator[None]:
    """Run Python with these arguments, and ``--port``, until the block ends; entered when it answers over HTTP."""
    command = [sys.executable, *arguments, "--port", str(port)]
    with tempfile.TemporaryFile() as said:
        process = subprocess.Popen(command, stdout=said, stderr=said, env={**os.environ, **(environment or {})})
        try:
            while not _answers(port):
                if process.poll() is not None:
                    said.seek(0)
                    raise RuntimeError(f"{' '.join(command)} did not start:\n{said.read().decode()}")
                time.sleep(0.1)
            yield
        finally:
            process.terminate()
            process.wait(40)


def _answers(port: int) -> bool:
    try:
        urllib.request.urlopen(f"http://127.0.0.1:{port}/openapi.json").close()
    except urllib.error.URLError:
        return False
    return True
