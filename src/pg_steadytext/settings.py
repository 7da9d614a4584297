"""Where things are and which ports they use.

One frozen value read from three places, the first that speaks wins: the environment, ``<home>/settings.toml``
(written by ``pg-steadytext up``), the defaults below. Nothing here is read from the database:
the daemon must start without one.
"""

from __future__ import annotations

import os
import sys
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pg_steadytext.errors import InvalidArgument

DEFAULT_DAEMON_HOST = "127.0.0.1"
DEFAULT_DAEMON_PORT = 5555
DEFAULT_METRICS_PORT = 9464
DEFAULT_TIMEOUT_MS = 300_000
DEFAULT_PG_PORT = 54321
DEFAULT_DATABASE = "steadytext"
DEFAULT_PG_USER = "postgres"
DEFAULT_MEMORY_PORT = 8765

HOME_POINTER = "steadytext-home"
"""A file in the virtual environment's root that names the home its commands work on."""


@dataclass(frozen=True, slots=True)
class Settings:
    """Every path and address the processes of one installation share.

    `memory_port` is None where the home has no memory service; `memory_user` is the role that it logs in as.
    """

    home: Path
    model_dir: Path
    run_dir: Path
    log_dir: Path
    daemon_host: str
    daemon_port: int
    daemon_timeout_ms: int
    metrics_port: int
    pg_host: str
    pg_port: int
    pg_database: str
    pg_user: str
    memory_port: int | None = None
    memory_user: str | None = None

    @classmethod
    def load(cls, env: Mapping[str, str] | None = None) -> Settings:
        """Read the settings of ``STEADYTEXT_HOME``, or of the home this environment or checkout belongs to.

        Raises ``InvalidArgument`` when a port is no port or the file is not TOML.
        """
        env = os.environ if env is None else env
        home = find_home(env)
        path = home / "settings.toml"
        written = _read(path)
        daemon, postgres = _table(written, "daemon", path), _table(written, "postgres", path)
        memory = _table(written, "memory", path)
        run_dir = Path(_text(daemon.get("run_dir"), str(home / "run")))
        return cls(
            home=home,
            model_dir=Path(env.get("STEADYTEXT_MODEL_DIR") or _text(written.get("model_dir"), str(home / "models"))),
            run_dir=run_dir,
            log_dir=home / "log",
            daemon_host=env.get("STEADYTEXT_DAEMON_HOST") or _text(daemon.get("host"), DEFAULT_DAEMON_HOST),
            daemon_port=_port("STEADYTEXT_DAEMON_PORT", env, daemon.get("port"), DEFAULT_DAEMON_PORT),
            daemon_timeout_ms=_whole("STEADYTEXT_DAEMON_TIMEOUT_MS", env, daemon.get("timeout_ms"), DEFAULT_TIMEOUT_MS),
            metrics_port=_port("STEADYTEXT_METRICS_PORT", env, daemon.get("metrics_port"), DEFAULT_METRICS_PORT),
            pg_host=env.get("PGHOST") or _text(postgres.get("host"), str(run_dir)),
            pg_port=_port("PGPORT", env, postgres.get("port"), DEFAULT_PG_PORT),
            pg_database=env.get("PGDATABASE") or _text(postgres.get("database"), DEFAULT_DATABASE),
            pg_user=env.get("PGUSER") or _text(postgres.get("user"), DEFAULT_PG_USER),
            memory_port=_port("STEADYTEXT_MEMORY_PORT", env, memory["port"], DEFAULT_MEMORY_PORT) if memory else None,
            memory_user=_text(memory.get("user"), "") or None,
        )

    @property
    def supervisor_socket(self) -> Path:
        """The Unix socket on which the supervisor takes its one-line requests."""
        return self.run_dir / "supervisor.sock"

    @property
    def daemon_endpoint(self) -> str:
        """The daemon's ZeroMQ address."""
        host = f"[{self.daemon_host}]" if ":" in self.daemon_host else self.daemon_host
        return f"tcp://{host}:{self.daemon_port}"


def own_environment(env: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return ``env`` without libpq's variables, which may lead to a server that is not ours."""
    env = os.environ if env is None else env
    return {name: value for name, value in env.items() if not name.startswith("PG")}


def find_home(env: Mapping[str, str]) -> Path:
    """Find the state directory: named, pointed to by this virtual environment, the checkout's, the user's."""
    if named := env.get("STEADYTEXT_HOME"):
        return Path(named).absolute()
    pointer = Path(sys.prefix) / HOME_POINTER
    if pointer.is_file():
        return Path(pointer.read_text(encoding="utf-8").strip())
    checkout = Path(__file__).resolve().parents[2]
    if (checkout / "pyproject.toml").is_file() and (checkout / "extension").is_dir():
        return checkout / ".local"
    state = env.get("XDG_STATE_HOME") or str(Path(env.get("HOME") or "~").expanduser() / ".local" / "state")
    return Path(state) / "pg_steadytext"


def _read(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InvalidArgument(
            f"{path} is not valid TOML: {error}", hint="Correct it, or remove it and run make up."
        ) from error


def _table(written: Mapping[str, Any], name: str, path: Path) -> Mapping[str, Any]:
    table = written.get(name, {})
    if not isinstance(table, Mapping):
        raise InvalidArgument(f"[{name}] in {path} must be a table", hint="Correct it, or remove it and run make up.")
    return table


def _text(value: object, default: str) -> str:
    return value if isinstance(value, str) and value else default


def _whole(name: str, env: Mapping[str, str], written: object, default: int) -> int:
    given: object = env.get(name) or (default if written is None else written)
    try:
        number = int(str(given))
    except ValueError:
        number = -1
    if number < 1:
        raise InvalidArgument(f"{name} must be a whole number above 0, not {given!r}", hint=f"Unset it for {default}.")
    return number


def _port(name: str, env: Mapping[str, str], written: object, default: int) -> int:
    number = _whole(name, env, written, default)
    if number > 65535:
        raise InvalidArgument(f"{name} must be a port from 1 to 65535, not {number}", hint=f"Unset it for {default}.")
    return number
