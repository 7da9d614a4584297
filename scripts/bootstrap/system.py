"""Running commands: as the caller, as root, as the service account."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bootstrap.console import CannotGoOnError

SERVICE_ACCOUNT = "postgres"
LINES_OF_A_FAILURE = 25
SHOW_LIFE_EVERY = 15.0


def is_root() -> bool:
    """Whether this process runs as root."""
    return os.geteuid() == 0


def has_terminal() -> bool:
    """Whether a person could answer a question, such as sudo's for a password."""
    return sys.stdin is not None and sys.stdin.isatty()


def root_prefix() -> list[str]:
    """Return what to put before a command that only root may run."""
    if is_root():
        return []
    if not shutil.which("sudo"):
        raise CannotGoOnError(
            "root has to do something, and there is no sudo",
            "Run make up once as root, or do by hand what docs/install.md describes.",
        )
    return ["sudo"] if has_terminal() else ["sudo", "-n"]


def output(command: Sequence[str | Path]) -> str:
    """Return what a command prints, or nothing when it fails or does not exist."""
    try:
        done = subprocess.run([str(part) for part in command], capture_output=True, text=True, check=False)
    except OSError:
        return ""
    return done.stdout if done.returncode == 0 else ""


def run(
    command: Sequence[str | Path],
    *,
    remedy: str,
    as_root: bool = False,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
) -> None:
    """Run a command quietly, showing signs of life; say its last lines when it fails.

    Raises ``CannotGoOnError`` with ``remedy``.
    """
    words = (root_prefix() if as_root else []) + [str(part) for part in command]
    if as_root and env and not is_root():
        words[len(root_prefix()) : len(root_prefix())] = ["env", *(f"{name}={value}" for name, value in env.items())]
    try:
        process = subprocess.Popen(
            words, cwd=cwd, env={**os.environ, **(env or {})}, stdin=None if has_terminal() else subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace",
        )  # fmt: skip
    except OSError as error:
        raise CannotGoOnError(f"{words[0]} does not run: {error}", remedy) from error
    lines = _collect(process)
    if process.wait() != 0:
        last = "\n".join(lines[-LINES_OF_A_FAILURE:])
        raise CannotGoOnError(f"`{' '.join(words)}` failed:\n{last}", remedy)


def _collect(process: subprocess.Popen[str]) -> list[str]:
    lines: list[str] = []
    shown = time.monotonic()
    assert process.stdout is not None
    for line in process.stdout:
        lines.append(line.rstrip())
        if time.monotonic() - shown >= SHOW_LIFE_EVERY and lines[-1]:
            shown = time.monotonic()
            print(f"    … {lines[-1][:110]}", flush=True)
    return lines


def service_arguments() -> dict[str, Any]:
    """Return what ``subprocess`` needs to run a command as the account that will run PostgreSQL."""
    if not is_root():
        return {}
    try:
        entry = pwd.getpwnam(SERVICE_ACCOUNT)
    except KeyError as error:
        raise CannotGoOnError(
            f"there is no account {SERVICE_ACCOUNT!r} to run PostgreSQL as",
            "PostgreSQL's packages make it; reinstall postgresql-common.",
        ) from error
    return {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": [entry.pw_gid]}


def service_output(command: Sequence[str | Path]) -> str | None:
    """Return what a command prints when the service account runs it, or None when it cannot."""
    try:
        done = subprocess.run(
            [str(part) for part in command],
            capture_output=True,
            text=True,
            cwd="/",
            check=False,
            stdin=subprocess.DEVNULL,
            **service_arguments(),
        )
    except OSError:
        return None
    return done.stdout if done.returncode == 0 else None
