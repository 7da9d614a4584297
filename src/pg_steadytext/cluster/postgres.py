"""A PostgreSQL server of one's own: made once, started and stopped with pg_ctl, reached through its own socket."""

from __future__ import annotations

import os
import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import psycopg

from pg_steadytext.cluster import config, ports
from pg_steadytext.cluster.account import Account
from pg_steadytext.cluster.binaries import Binaries
from pg_steadytext.cluster.home import Home
from pg_steadytext.errors import DaemonUnavailable, ModelFailed
from pg_steadytext.settings import own_environment

SUPERUSER = "postgres"
START_SECONDS = 60


@dataclass(frozen=True, slots=True)
class PrivateCluster:
    """One server: ``PrivateCluster(home, account, binaries, port).start()`` makes it if needed and leaves it running.

    ``durable=False`` trades crash safety for speed (tests); ``settings`` are further server settings.
    """

    home: Home
    account: Account
    binaries: Binaries
    port: int
    durable: bool = True
    settings: Mapping[str, str] = field(default_factory=dict)

    def start(self) -> bool:
        """Start the server, making it first if needed; return False when it was already running.

        Raises ``DaemonUnavailable`` when its port is taken or the server does not come up.
        """
        if self.pid() is not None:
            return False
        self.home.create(self.account)
        if not (self.home.data / "PG_VERSION").is_file():
            self._make()
        config.write(self.home, self.account, self.port, durable=self.durable, further=self.settings)
        self._forget_dead_owner()
        if not ports.is_free(self.port):
            raise DaemonUnavailable(
                f"port {self.port}, which this cluster uses, is taken by another process",
                hint=f"Stop that process, or choose another port: pg-steadytext up --port {ports.choose(())}",
            )
        self._pg_ctl("start", "-w", "-t", str(START_SECONDS), "-l", str(self.start_log))
        return True

    def stop(self, mode: str = "fast") -> bool:
        """Stop the server and wait until it is gone; return False when it was not running."""
        if self.pid() is None:
            return False
        self._pg_ctl("stop", "-w", "-t", str(START_SECONDS), "-m", mode)
        return True

    def reload(self) -> None:
        """Write the configuration again and have the server read it."""
        config.write(self.home, self.account, self.port, durable=self.durable, further=self.settings)
        self._pg_ctl("reload")

    @property
    def start_log(self) -> Path:
        """What the server says before its own log collector runs."""
        return self.home.log / "postgres-start.log"

    def pid(self) -> int | None:
        """Return the server's process id, or None when it does not run, whatever a stale postmaster.pid says."""
        try:
            pid = int((self.home.data / "postmaster.pid").read_text(encoding="utf-8").split("\n", 1)[0])
        except (FileNotFoundError, PermissionError, ValueError):
            return None
        return pid if self.home.data in _folders_of(self.account, str(pid)) else None

    def connect(
        self, database: str = "postgres", user: str = SUPERUSER, password: str | None = None
    ) -> psycopg.Connection:
        """Open an autocommit connection through the server's own socket; the superuser needs no password there."""
        return psycopg.connect(
            host=str(self.home.run), port=self.port, dbname=database, user=user, password=password or "",
            passfile=str(self.home.pgpass), autocommit=True, connect_timeout=10,
        )  # fmt: skip

    def client_environment(self, database: str) -> dict[str, str]:
        """Return the libpq variables that lead any client to this server."""
        return {
            "PGHOST": str(self.home.run),
            "PGPORT": str(self.port),
            "PGDATABASE": database,
            "PGUSER": SUPERUSER,
            "PGPASSFILE": str(self.home.pgpass),
        }

    def _make(self) -> None:
        password = secrets.token_urlsafe(24)
        self._write_secret(self.home.pgpass, f"*:*:*:{SUPERUSER}:{password}\n")
        password_file = self.home.root / "initdb-password"
        self._write_secret(password_file, password + "\n")
        unfinished = self.home.root / "data.unfinished"
        try:
            self.account.run(["rm", "-rf", unfinished])
            self._run(
                "initdb", "--pgdata", str(unfinished), "--username", SUPERUSER, "--pwfile", str(password_file),
                "--encoding", "UTF8", "--locale", "C.UTF-8", "--auth-host", "scram-sha-256", "--auth-local", "peer",
                "--data-checksums", *(() if self.durable else ("--no-sync",)),
            )  # fmt: skip
            unfinished.rename(self.home.data)
        finally:
            password_file.unlink(missing_ok=True)

    def _write_secret(self, path: Path, text: str) -> None:
        path.unlink(missing_ok=True)
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(text)
        self.account.own(path)

    def _forget_dead_owner(self) -> None:
        """Remove the lock files of a server that died, when their number is not free.

        PostgreSQL itself deals with a number that belongs to nobody, and with backends that outlived their postmaster
        (those still work in the data directory). It refuses for good when the number is a zombie's, or was given to an
        unrelated process.
        """
        socket_lock = self.home.run / f".s.PGSQL.{self.port}.lock"
        for lock in (self.home.data / "postmaster.pid", socket_lock):
            if not lock.is_file():
                continue
            number = lock.read_text(encoding="utf-8").split("\n", 1)[0].strip()
            if Path("/proc", number).is_dir() and self.home.data not in _folders_of(self.account, "[0-9]*"):
                lock.unlink()

    def _pg_ctl(self, action: str, *arguments: str) -> None:
        self._run("pg_ctl", action, "-s", "-D", str(self.home.data), *arguments)

    def _run(self, program: str, *arguments: str) -> None:
        began = time.time()
        done = self.account.run([self.binaries.program(program), *arguments], env=own_environment())
        if done.returncode == 0:
            return
        said = (done.stderr or done.stdout).strip()
        if self.start_log.is_file() and self.start_log.stat().st_mtime >= began:
            said += "\n" + "\n".join(self.start_log.read_text(encoding="utf-8", errors="replace").splitlines()[-15:])
        raise ModelFailed(f"{program} failed: {said}", hint=f"PostgreSQL's logs are in {self.home.log}.")


def _folders_of(account: Account, processes: str) -> set[Path]:
    """Return where the account's processes work; which ones, a number or a pattern says.

    It asks as the account, since a container's root, without CAP_SYS_PTRACE, may not look into others' processes.
    """
    return {Path(line) for line in account.run(["sh", "-c", f"readlink /proc/{processes}/cwd"]).stdout.splitlines()}
