"""An environment of its own for the SDK of memfuse, as the index has it."""

from __future__ import annotations

import os
import subprocess
import venv
from pathlib import Path

MEMFUSE = "0.3.3"

FUTURE = "from __future__ import annotations\n"

# The SDK knows one address where nobody names another; whoever asks for it is led to the test's service.
LEAD = """
import os, socket, sys
plain = socket.socket.connect
def connect(self, address):
    if isinstance(address, tuple) and address[1] == 8765:
        address = ("127.0.0.1", int(os.environ["SERVICE_PORT"]))
    return plain(self, address)
socket.socket.connect = connect
"""


def provide_memfuse_python(folder: Path) -> Path:
    """Return the interpreter of an environment with the SDK and all it asks for, made in `folder` once."""
    python = folder / "bin" / "python"
    ready = folder / f"memfuse-{MEMFUSE}"
    if not ready.exists():
        venv.create(folder, with_pip=True, clear=True)
        pip = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--only-binary", ":all:"]
        subprocess.run([*pip, f"memfuse=={MEMFUSE}"], check=True)
        ready.touch()
    return python


def run_memfuse(python: Path, script: Path | str, *arguments: str, **environment: str) -> str:
    """Run a file or a text in the SDK's environment; returns what it printed."""
    text = script if isinstance(script, str) else script.read_text(encoding="utf-8")
    inherited = {
        name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "MEMFUSE", "OPENAI"))
    }
    done = subprocess.run(
        [str(python), "-c", LEAD + text.replace(FUTURE, ""), *arguments],
        env={**inherited, **environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-3000:]
    return done.stdout
