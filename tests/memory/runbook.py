"""Runs the sections of a runbook as an operator would: console lines in a shell, SQL in psql, one after the other."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

from tests.memory.finding import Finding
from tests.memory.server import SOURCES, Person

PAGES = Path(__file__).resolve().parents[2] / "docs" / "runbooks"


class Runbook:
    """A page, and a shell whose variables last from section to section."""

    def __init__(self, page: str, finding: Finding, folder: Path, admin: Person, **environment: str) -> None:
        text = (PAGES / f"{page}.md").read_text(encoding="utf-8")
        parts = re.split(r"^## (.*)$", text, flags=re.MULTILINE)
        self.sections = {"Symptoms": parts[0], **dict(zip(parts[1::2], parts[2::2], strict=True))}
        assert list(self.sections) == ["Symptoms", "Look", "Mend", "Over"]
        self._folder = folder
        self._variables = folder / "variables.sh"
        self._variables.touch()
        programs = folder / "programs"
        programs.mkdir()
        self._program(programs / "pg-steadytext")
        self._environment = {
            **os.environ, **finding.cluster.client_environment(finding.name), **environment,
            "PATH": f"{programs}:{finding.cluster.binaries.bin_dir}:{os.environ['PATH']}",
            "PYTHONPATH": str(SOURCES), "STEADYTEXT_HOME": str(finding.cluster.home.root),
            "STEADYTEXT_DAEMON_HOST": "127.0.0.1", "STEADYTEXT_DAEMON_PORT": str(finding.daemon_port),
            "STEADYTEXT_MEMORY_URL": finding.server.url, "MEMORY_ADMIN_KEY": admin.key, "MEMORY_KEY": admin.key,
        }  # fmt: skip

    def run(self, section: str) -> str:
        """Run a section's blocks in order; returns what they said. Any that fails fails the test."""
        blocks = re.findall(r"^```(console|sql)\n(.*?)^```", self.sections[section], re.MULTILINE | re.DOTALL)
        script = [f"set -eo pipefail; . {self._variables}"]
        for language, text in blocks:
            if language == "console":
                script += [line.removeprefix("$ ") for line in text.splitlines()]
            else:
                script += [f"psql -X -v ON_ERROR_STOP=1 <<'SQL'\n{text}SQL"]
        script += [f"export -p > {self._variables}"]
        done = subprocess.run(
            ["bash", "-c", "\n".join(script)], cwd=self._folder, env=self._environment, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=120, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout
        return done.stdout

    @staticmethod
    def _program(path: Path) -> None:
        path.write_text(f'#!/bin/sh\nexec {sys.executable} -m pg_steadytext.cli "$@"\n', encoding="utf-8")
        path.chmod(0o755)
