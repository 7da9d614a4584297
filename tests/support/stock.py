"""An environment of its own for SteadyText's stock client."""

from __future__ import annotations

import os
import subprocess
import venv
from pathlib import Path

STEADYTEXT = "2025.11.25"
WHEELS = ("numpy", "pyzmq", "pydantic", "platformdirs", "tqdm", "huggingface_hub", "filelock", "typing_extensions")


def provide_stock_python(folder: Path) -> Path:
    """Return the interpreter of an environment with the stock package in `folder`, made there once."""
    python = folder / "bin" / "python"
    ready = folder / f"steadytext-{STEADYTEXT}"
    if not ready.exists():
        venv.create(folder, with_pip=True, clear=True)
        pip = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        # Its metadata names no Python above 3.13.
        subprocess.run([*pip, "--no-deps", "--ignore-requires-python", f"steadytext=={STEADYTEXT}"], check=True)
        subprocess.run([*pip, *WHEELS], check=True)
        stand_in_for_llama_cpp(python)
        ready.touch()
    return python


def stand_in_for_llama_cpp(python: Path) -> None:
    """The package imports llama_cpp, which a client never calls and which has no wheel: give it empty names."""
    where = subprocess.run(
        [str(python), "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"],
        check=True,
        capture_output=True,
        text=True,
    )
    module = Path(where.stdout.strip()) / "llama_cpp.py"
    module.write_text("class Llama: ...\nclass LlamaGrammar: ...\nclass LogitsProcessorList(list): ...\n")


def run_stock(python: Path, script: str, given: str, *arguments: str, cache: Path) -> str:
    """Run a script in the stock client's environment with `given` on its standard input; returns what it printed."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        [str(python), "-c", script, *arguments],
        env={**environment, "XDG_CACHE_HOME": str(cache)},
        input=given,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout
