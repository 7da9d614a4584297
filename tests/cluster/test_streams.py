"""A command whose output goes nowhere, or whose arguments are no text, says so plainly or says nothing."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

SOURCES = Path(__file__).resolve().parents[2] / "src"
COMMAND = f"{sys.executable} -m pg_steadytext.cli"


def run(line: str, **environment: str | bytes) -> tuple[int, str]:
    """Run a line of the shell; returns its exit status and what was said on stderr."""
    done = subprocess.run(
        ["bash", "-o", "pipefail", "-c", line],
        env={**os.environ, "PYTHONPATH": str(SOURCES), **environment},
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL, timeout=60, check=False,
    )  # fmt: skip
    return done.returncode, done.stderr.decode()


@pytest.mark.parametrize("command", ["models list", "--version"])
def test_output_that_cannot_be_written_is_told_in_a_line(command: str) -> None:
    assert run(f"{COMMAND} {command} > /dev/full") == (1, "error: cannot write: No space left on device\n")


def test_a_closed_output_is_nowhere_and_no_other_file_takes_its_place() -> None:
    assert run(f"{COMMAND} models list <&- >&-") == (0, "")


def test_a_reader_that_has_left_is_not_told_of() -> None:
    assert run(f"{COMMAND} models list | true") in ((0, ""), (1, ""))


def test_a_setting_that_is_no_text_is_told_in_a_line() -> None:
    status, said = run(f"{COMMAND} queue status", PGDATABASE=b"a\xffb")
    assert (status, said) == (1, "error: an argument or a setting is no UTF-8: it has the bytes b'\\xff'\n")
