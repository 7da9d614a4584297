"""The operating-system account that owns the cluster's files and runs its processes.

PostgreSQL refuses to run as root, and a daemon has no need to: called by root, everything runs as ``postgres``.
"""

from __future__ import annotations

import os
import pwd
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pg_steadytext.errors import NotAllowed

SERVICE_ACCOUNT = "postgres"


@dataclass(frozen=True, slots=True)
class Account:
    """One OS account: who runs the processes, and how to become it."""

    name: str
    uid: int
    gid: int
    home: str

    @classmethod
    def service(cls) -> Account:
        """Return ``postgres`` for root, else the caller."""
        if os.geteuid() != 0:
            return cls._of(pwd.getpwuid(os.geteuid()))
        try:
            return cls._of(pwd.getpwnam(SERVICE_ACCOUNT))
        except KeyError as error:
            raise NotAllowed(
                f"root cannot run PostgreSQL, and there is no account {SERVICE_ACCOUNT!r} to run it as",
                hint="Install the system's PostgreSQL packages (make up does), or call this as an ordinary user.",
            ) from error

    @classmethod
    def _of(cls, entry: pwd.struct_passwd) -> Account:
        return cls(entry.pw_name, entry.pw_uid, entry.pw_gid, entry.pw_dir)

    @property
    def is_caller(self) -> bool:
        """Whether this process already runs as the account."""
        return os.geteuid() == self.uid

    def popen_arguments(self) -> dict[str, Any]:
        """Return what ``subprocess`` needs to start a process as this account."""
        if self.is_caller:
            return {}
        return {"user": self.uid, "group": self.gid, "extra_groups": os.getgrouplist(self.name, self.gid)}

    def environment(self, env: Mapping[str, str]) -> dict[str, str]:
        """Return ``env`` with the account's own HOME, USER and LOGNAME."""
        return {**env, "HOME": self.home, "USER": self.name, "LOGNAME": self.name}

    def run(
        self,
        command: Sequence[str | Path],
        *,
        env: Mapping[str, str] | None = None,
        timeout: float | None = None,
    ) -> subprocess.CompletedProcess[str]:
        """Run a command as the account from ``/`` and return its result, whatever its exit status."""
        return subprocess.run(
            [str(part) for part in command],
            env=self.environment(os.environ if env is None else env),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            cwd="/",
            timeout=timeout,
            check=False,
            **self.popen_arguments(),
        )

    def become(self) -> None:
        """Turn this process into the account for good; nothing to do when it already is."""
        if self.is_caller:
            return
        os.setgroups(os.getgrouplist(self.name, self.gid))
        os.setgid(self.gid)
        os.setuid(self.uid)
        os.environ.update(self.environment({}))

    def own(self, path: Path) -> None:
        """Give a file or folder to the account."""
        if os.geteuid() == 0:
            os.lchown(path, self.uid, self.gid)

    def can_reach(self, path: Path) -> bool:
        """Tell whether the account may enter a folder, or read a file, at this path."""
        test = "-x" if path.is_dir() else "-r"
        return self.run(["/usr/bin/test", test, path]).returncode == 0
