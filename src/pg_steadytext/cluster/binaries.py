"""The PostgreSQL installations of this machine, and the one to use."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from pg_steadytext.errors import ModelFailed

OLDEST_MAJOR = 14
DEBIAN_ROOT = Path("/usr/lib/postgresql")


@dataclass(frozen=True, slots=True)
class Binaries:
    """One PostgreSQL installation: its major version, its programs and its shared files."""

    major: int
    bin_dir: Path
    share_dir: Path

    @classmethod
    def from_pg_config(cls, pg_config: Path) -> Binaries:
        """Ask a ``pg_config`` where its installation lies."""
        asked = [str(pg_config), "--version", "--bindir", "--sharedir"]
        try:
            lines = subprocess.run(asked, capture_output=True, text=True, check=True).stdout.splitlines()
        except (OSError, subprocess.CalledProcessError) as error:
            raise ModelFailed(
                f"{pg_config} does not run: {error}", hint="Set PG_CONFIG to a working pg_config."
            ) from error
        version = re.search(r"(\d+)", lines[0])
        if version is None:
            raise ModelFailed(f"{pg_config} names no version: {lines[0]!r}")
        return cls(int(version.group(1)), Path(lines[1]), Path(lines[2]))

    def program(self, name: str) -> Path:
        """Return the path of one of the installation's programs."""
        return self.bin_dir / name

    def offers(self, extension: str) -> bool:
        """Tell whether ``CREATE EXTENSION`` would find the extension's control file."""
        return self._control_file(extension).is_file()

    def offered_version(self, extension: str) -> str:
        """Return the version that ``CREATE EXTENSION`` would make of one that is there; empty where it names none."""
        text = self._control_file(extension).read_text(encoding="utf-8")
        found = re.search(r"^\s*default_version\s*=\s*'([^']*)'", text, re.MULTILINE)
        return found[1] if found else ""

    def _control_file(self, extension: str) -> Path:
        return self.share_dir / "extension" / f"{extension}.control"


def installed() -> list[Binaries]:
    """List the installations with a server, newest first; ``PG_CONFIG`` in the environment is the only one when set."""
    if named := os.environ.get("PG_CONFIG"):
        return [Binaries.from_pg_config(Path(named))]
    found = [Binaries.from_pg_config(path) for path in DEBIAN_ROOT.glob("*/bin/pg_config")]
    if not found and (on_path := shutil.which("pg_config")):
        found = [Binaries.from_pg_config(Path(on_path))]
    usable = [one for one in found if one.major >= OLDEST_MAJOR and one.program("initdb").is_file()]
    return sorted(usable, key=lambda one: one.major, reverse=True)


def choose(data: Path | None = None) -> Binaries:
    """Pick the installation: the data directory's major if it has one, else the newest that has our extension.

    Raises ``ModelFailed`` when there is none.
    """
    candidates = installed()
    if data is not None and (data / "PG_VERSION").is_file():
        wanted = int((data / "PG_VERSION").read_text(encoding="ascii"))
        for one in candidates:
            if one.major == wanted:
                return one
        raise ModelFailed(
            f"{data} was made by PostgreSQL {wanted}, which is not installed here",
            hint=f"Install postgresql-{wanted}, or move the folder away to start with an empty cluster.",
        )
    if not candidates:
        raise ModelFailed(
            f"no PostgreSQL server of version {OLDEST_MAJOR} or later is installed",
            hint="Run make up, or install the packages named in docs/install.md.",
        )
    return max(candidates, key=lambda one: (one.offers("pg_steadytext"), one.offers("plpython3u"), one.major))
