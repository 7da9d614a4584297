"""A home with everything in it: the server on its port, the database with the extension, the supervisor."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from psycopg import sql

from pg_steadytext import statements
from pg_steadytext.cluster import binaries, config, launch, ports
from pg_steadytext.cluster.account import Account
from pg_steadytext.cluster.home import Home
from pg_steadytext.cluster.postgres import PrivateCluster
from pg_steadytext.errors import DaemonUnavailable, ModelFailed
from pg_steadytext.settings import (
    DEFAULT_DAEMON_PORT,
    DEFAULT_DATABASE,
    DEFAULT_MEMORY_PORT,
    DEFAULT_PG_PORT,
    Settings,
    own_environment,
)

SQL = statements.load("pg_steadytext.cluster", "sql/provision.sql")
PORTS_TO_TRY = 20


@dataclass(frozen=True, slots=True)
class Installation:
    """One home, its account, its settings and its server."""

    home: Home
    account: Account
    settings: Settings
    cluster: PrivateCluster

    @classmethod
    def load(cls, env: Mapping[str, str] | None = None) -> Installation:
        """Read the home's settings; libpq's variables are ignored, since they may name somebody else's server."""
        settings = Settings.load(own_environment(env))
        home, account = Home.at(settings.home), Account.service()
        return cls(home, account, settings, PrivateCluster(home, account, binaries.choose(home.data), settings.pg_port))

    @classmethod
    def prepare(
        cls, *, pg_port: int | None = None, daemon_port: int | None = None, memory_port: int | None = None
    ) -> Installation:
        """Create the home if needed and settle its ports: those asked for, those it has, else free ones.

        The home gets a memory service when what that needs is installed.

        Raises ``DaemonUnavailable`` when a port that was asked for, or that the home has, is taken by somebody else.
        """
        found = cls.load()
        found.home.create(found.account)
        chosen = _settle_ports(found, pg_port, daemon_port, memory_port)
        if found.cluster.pid() is not None and chosen["pg_port"] != found.cluster.port:
            found.cluster.stop()
        served = (found.settings.daemon_port, found.settings.memory_port)
        if served != (chosen["daemon_port"], chosen.get("memory_port")):
            launch.stop(found.home)
        found.home.remember(**chosen, memory_user=config.MEMORY_LOGIN)
        return cls.load()

    @property
    def database(self) -> str:
        """The name of the database with the extension."""
        return DEFAULT_DATABASE

    def ensure_database(self) -> None:
        """Create the database unless it is there."""
        with self.cluster.connect() as connection:
            row = connection.execute(SQL["database_exists"], {"name": self.database}).fetchone()
            if row is not None and not row[0]:
                connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(self.database)))

    def ensure_extension(self) -> str:
        """Create the extension, or update it to the version that is installed on this machine; return that version.

        Raises ``ModelFailed`` when this PostgreSQL has no such extension.
        """
        with self.cluster.connect(self.database) as connection:
            row = connection.execute(SQL["extension_versions"]).fetchone()
            if row is None:
                raise ModelFailed(
                    f"PostgreSQL {self.cluster.binaries.major} has no extension pg_steadytext to create",
                    hint=f"make -C extension install PG_CONFIG={self.cluster.binaries.program('pg_config')}",
                )
            installed, offered = row
            if installed is None:
                connection.execute(SQL["create_extension"])
            elif installed != offered:
                connection.execute(SQL["update_extension"])
            if installed != offered:
                self._build_record.write_text(self._build(offered), encoding="ascii")
            return str(offered)

    def is_other_build(self, version: str) -> bool:
        """Tell whether the database was made from another script of the same version than the one installed now."""
        record = self._build_record
        return record.is_file() and record.read_text(encoding="ascii") != self._build(version)

    @property
    def _build_record(self) -> Path:
        return self.home.root / "created-extension"

    def _build(self, version: str) -> str:
        script = self.cluster.binaries.share_dir / "extension" / f"pg_steadytext--{version}.sql"
        return hashlib.sha256(script.read_bytes()).hexdigest() if script.is_file() else ""

    def configure_database(self) -> None:
        """Tell the extension where this home's daemon is."""
        wanted = {"daemon_host": self.settings.daemon_host, "daemon_port": str(self.settings.daemon_port)}
        with self.cluster.connect(self.database) as connection:
            for key, value in wanted.items():
                connection.execute(SQL["set_config"], {"key": key, "value": value})

    def ensure_memory_login(self) -> None:
        """Have the role that the memory service logs in as, which may only what the service may."""
        with self.cluster.connect(self.database) as connection:
            row = connection.execute(SQL["role_exists"], {"name": config.MEMORY_LOGIN}).fetchone()
            if row is not None and not row[0]:
                connection.execute(SQL["create_memory_login"])

    def sync_models(self) -> None:
        """Have the database ask the daemon for its models."""
        with self.cluster.connect(self.database) as connection:
            connection.execute(SQL["sync_models"])

    def client_environment(self) -> dict[str, str]:
        """Return the variables that lead libpq's clients, and ours, to this installation."""
        return {
            **self.cluster.client_environment(self.database),
            "STEADYTEXT_HOME": str(self.home.root),
            "STEADYTEXT_DAEMON_HOST": self.settings.daemon_host,
            "STEADYTEXT_DAEMON_PORT": str(self.settings.daemon_port),
            **({"STEADYTEXT_MEMORY_URL": self.memory_url} if self.settings.memory_port is not None else {}),
        }

    @property
    def memory_url(self) -> str:
        """Where the memory service answers."""
        return f"http://127.0.0.1:{self.settings.memory_port}"


def _settle_ports(
    found: Installation, pg_port: int | None, daemon_port: int | None, memory_port: int | None
) -> dict[str, int]:
    settled = found.home.settings_file.exists()
    server_runs = found.cluster.pid() is not None
    supervised = launch.pid(found.home) is not None
    has = found.settings
    taken: set[int] = set()

    def settle(asked: int | None, has: int | None, default: int, option: str, ours: bool) -> int:
        if asked is None and (has is None or not settled):
            port = ports.choose(_near(default), taken)
        else:
            port = asked if asked is not None else has or default
            if not (ours and port == has) and not ports.is_free(port):
                raise DaemonUnavailable(
                    f"port {port} is taken by another process",
                    hint=f"Stop that process, or choose another port: pg-steadytext up {option} {ports.choose(())}",
                )
        taken.add(port)
        return port

    asked_by_environment = os.environ.get("STEADYTEXT_DAEMON_PORT")
    if daemon_port is None and asked_by_environment and not settled:
        daemon_port = has.daemon_port
    chosen = {
        "pg_port": settle(pg_port, has.pg_port, DEFAULT_PG_PORT, "--port", server_runs),
        "daemon_port": settle(daemon_port, has.daemon_port, DEFAULT_DAEMON_PORT, "--daemon-port", supervised),
        "metrics_port": has.metrics_port if supervised and settled else ports.choose(_near(has.metrics_port), taken),
    }
    if find_spec("uvicorn") is not None:
        chosen["memory_port"] = settle(memory_port, has.memory_port, DEFAULT_MEMORY_PORT, "--memory-port", supervised)
    elif memory_port is not None:
        raise ModelFailed("the memory service is not installed", hint="pip install 'pg-steadytext[memory]'")
    return chosen


def _near(port: int) -> range:
    return range(port, min(port + PORTS_TO_TRY, 65536))
