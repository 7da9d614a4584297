"""The state directory: its folders, and the file in which ``up`` keeps the ports it chose."""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import dataclass
from pathlib import Path

from pg_steadytext.cluster.account import Account
from pg_steadytext.errors import ModelFailed, NotAllowed

SOCKET_PATH_LIMIT = 107
"""Bytes a Unix socket's path may have on Linux, less its closing zero."""

LONGEST_SOCKET = len("/.s.PGSQL.65535")


@dataclass(frozen=True, slots=True)
class Home:
    """The folders under one state directory; ``run`` may lie elsewhere when the path is too long for a socket."""

    root: Path
    run: Path

    @classmethod
    def at(cls, root: Path) -> Home:
        """Lay out a home at ``root`` without creating anything."""
        root = root.resolve()
        run = root / "run"
        if len(os.fsencode(run)) + LONGEST_SOCKET + 1 > SOCKET_PATH_LIMIT:
            short = hashlib.sha256(os.fsencode(root)).hexdigest()[:12]
            run = Path("/tmp") / f"pg_steadytext-{short}"  # noqa: S108 - created 0700, and its owner is checked
        return cls(root, run)

    @property
    def data(self) -> Path:
        """PostgreSQL's data directory."""
        return self.root / "data"

    @property
    def log(self) -> Path:
        """Where every process of this home writes its log."""
        return self.root / "log"

    @property
    def models(self) -> Path:
        """Where the model files are."""
        return self.root / "models"

    @property
    def settings_file(self) -> Path:
        """The ports and paths that ``up`` chose."""
        return self.root / "settings.toml"

    @property
    def lock(self) -> Path:
        """Held locked by the one ``up`` or ``down`` that is at work here."""
        return self.root / "lock"

    @property
    def pgpass(self) -> Path:
        """libpq's password file for this cluster's superuser."""
        return self.root / "pgpass"

    def heartbeat_socket(self, service: str) -> Path:
        """Where the supervisor hears a service's heartbeat."""
        return self.run / f"{service}.beat"

    @property
    def supervisor_socket(self) -> Path:
        """The supervisor's control socket."""
        return self.run / "supervisor.sock"

    @property
    def supervisor_lock(self) -> Path:
        """Held locked by the one supervisor of this home."""
        return self.run / "supervisor.lock"

    def create(self, account: Account) -> None:
        """Create the folders that are missing and give them to the account; refuse a run folder of somebody else's."""
        for folder, mode in ((self.root, 0o755), (self.log, 0o750), (self.models, 0o755), (self.run, 0o700)):
            _ensure_folder(folder, mode, account)

    def remember(
        self,
        *,
        pg_port: int,
        daemon_port: int,
        metrics_port: int,
        memory_port: int | None = None,
        memory_user: str = "",
    ) -> None:
        """Write the ports, where the sockets are, and who the memory service logs in as to the settings file."""
        text = (
            "# Written by `pg-steadytext up`.\n\n"
            f"[postgres]\nport = {pg_port}\nhost = {json.dumps(str(self.run))}\n\n"
            f"[daemon]\nport = {daemon_port}\nmetrics_port = {metrics_port}\nrun_dir = {json.dumps(str(self.run))}\n"
        )
        if memory_port is not None:
            text += f"\n[memory]\nport = {memory_port}\nuser = {json.dumps(memory_user)}\n"
        if not self.settings_file.exists() or self.settings_file.read_text(encoding="utf-8") != text:
            replacement = self.settings_file.with_suffix(".new")
            replacement.write_text(text, encoding="utf-8")
            replacement.replace(self.settings_file)


def _ensure_folder(folder: Path, mode: int, account: Account) -> None:
    try:
        folder.mkdir(parents=True, mode=mode)
    except FileExistsError:
        status = folder.lstat()
        if status.st_uid not in (account.uid, os.geteuid()):
            raise NotAllowed(
                f"{folder} belongs to user id {status.st_uid}, not to {account.name!r}",
                hint="Remove it, or set STEADYTEXT_HOME to a folder of your own.",
            ) from None
    except OSError as error:
        raise ModelFailed(
            f"cannot create {folder}: {error.strerror}",
            hint="Set STEADYTEXT_HOME to a folder you can write to.",
        ) from error
    else:
        folder.chmod(mode)
    account.own(folder)
