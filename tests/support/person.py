"""Somebody with a home of theirs who types ``pg-steadytext`` commands."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from pg_steadytext.cluster import ports
from pg_steadytext.settings import own_environment
from tests.support.daemon import SOURCES


@dataclass
class Person:
    """Somebody with a home of theirs who types ``pg-steadytext`` commands."""

    home: Path
    model_dir: Path

    def begins(self, *words: str, **environment: str) -> subprocess.Popen[str]:
        """Start a command."""
        env = {
            **own_environment(),
            "STEADYTEXT_HOME": str(self.home),
            "STEADYTEXT_MODEL_DIR": str(self.model_dir),
            "PYTHONPATH": str(SOURCES),
            "COLUMNS": "200",
            **environment,
        }
        command = [sys.executable, "-m", "pg_steadytext.cli", *words]
        return subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def types(self, *words: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """Run a command to its end."""
        return ended(self.begins(*words, **environment))

    def succeeds(self, *words: str) -> str:
        """Run a command that must succeed and return what it printed."""
        done = self.types(*words)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def sees(self) -> dict[str, dict[str, object]]:
        """Return the services of ``status``."""
        services: dict[str, dict[str, object]] = json.loads(self.types("status", "--json").stdout)["services"]
        return services


def ended(process: subprocess.Popen[str]) -> subprocess.CompletedProcess[str]:
    """Wait for a command's end; one that takes too long is killed."""
    with process:
        try:
            out, err = process.communicate(timeout=120)
        except subprocess.TimeoutExpired:
            process.kill()
            raise
    return subprocess.CompletedProcess(process.args, process.returncode, out, err)


def free_ports() -> tuple[str, ...]:
    """Options for ``up`` that keep it off everybody else's ports."""
    first = ports.choose(())
    second = ports.choose((), taken={first})
    third = ports.choose((), taken={first, second})
    return "--port", str(first), "--daemon-port", str(second), "--memory-port", str(third)


def link_or_copy(source: str, target: str) -> None:
    """Save the disk a copy where the file system allows it."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)


@contextmanager
def a_person(model_dir: Path) -> Iterator[Person]:
    """Yield a person with models and a new home; what they leave running is down and gone afterwards."""
    root = Path(tempfile.mkdtemp(prefix="steadytext-home-"))
    root.chmod(0o755)
    models = root / "models"
    shutil.copytree(model_dir, models, copy_function=link_or_copy)
    one = Person(root / "home", models)
    try:
        yield one
    finally:
        one.types("down")
        shutil.rmtree(root, ignore_errors=True)
