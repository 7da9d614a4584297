"""Starts the supervisor of a home in the background, tells what it runs, and stops it."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

from pg_steadytext.cluster import control, locks
from pg_steadytext.cluster.account import Account
from pg_steadytext.cluster.home import Home
from pg_steadytext.errors import DaemonUnavailable, ModelFailed
from pg_steadytext.settings import Settings, own_environment

START_SECONDS = 20.0
STOP_SECONDS = 30.0
POLL_SECONDS = 0.05


def command(*arguments: str) -> list[str]:
    """Return the command line of ``pg-steadytext ARGUMENTS`` in this interpreter."""
    return [sys.executable, "-m", "pg_steadytext.cli", *arguments]


def script() -> str:
    """Return what a person types for ``pg-steadytext`` in this environment."""
    path = Path(sys.prefix) / "bin" / "pg-steadytext"
    return str(path) if path.is_file() else "pg-steadytext"


def service_commands(settings: Settings) -> dict[str, list[str]]:
    """Return what a supervisor runs: the daemon, the worker, and the memory service where the home has one."""
    commands = {"daemon": command("daemon", "run"), "worker": command("worker")}
    if settings.memory_port is not None:
        commands["memory"] = command("memory", "serve")
    return commands


def environment(home: Home, env: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return the caller's environment without libpq's variables, pointed at this home."""
    return {**own_environment(env), "STEADYTEXT_HOME": str(home.root)}


def pid(home: Home) -> int | None:
    """Return the process id of the home's supervisor, or None when it does not run."""
    return locks.holder(home.supervisor_lock)


def start(home: Home, account: Account) -> bool:
    """Start the supervisor unless it runs; return whether it was started.

    Raises ``ModelFailed`` when it does not come up.
    """
    if pid(home) is not None:
        return False
    said = home.log / "supervisor-start.log"
    with said.open("wb") as output:
        account.own(said)
        process = subprocess.Popen(
            command("supervise"),
            env=account.environment(environment(home)),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            cwd="/",
            start_new_session=True,
            **account.popen_arguments(),
        )
    give_up = time.monotonic() + START_SECONDS
    while time.monotonic() < give_up and process.poll() is None:
        try:
            control.ask(home.supervisor_socket, "status", timeout=1.0)
        except DaemonUnavailable:
            time.sleep(POLL_SECONDS)
        else:
            return True
    process.poll()
    raise ModelFailed(
        f"the supervisor did not start: {said.read_text(encoding='utf-8', errors='replace').strip()[-2000:]}",
        hint=f"Its log is {home.log / 'supervisor.log'}.",
    )


def stop(home: Home) -> bool:
    """Stop the supervisor with everything it runs, and wait; return False when it was not running."""
    number = pid(home)
    if number is None:
        return False
    os.kill(number, 15)
    give_up = time.monotonic() + STOP_SECONDS
    while time.monotonic() < give_up:
        if not _runs(number):
            return True
        time.sleep(POLL_SECONDS)
    raise ModelFailed(f"the supervisor (pid {number}) does not stop", hint=f"Look into {home.log / 'supervisor.log'}.")


def _runs(number: int) -> bool:
    try:
        return bool(Path("/proc", str(number), "cmdline").read_bytes())  # a zombie's is empty
    except (FileNotFoundError, ProcessLookupError):
        return False
