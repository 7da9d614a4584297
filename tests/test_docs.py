"""What the documentation shows works: its SQL runs, its commands exist, its links lead somewhere."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.core import TyperGroup
from typer.main import get_command

from pg_steadytext.cli.main import app
from tests.support.daemon import DaemonProcess
from tests.support.databases import Sessions

CHECKOUT = Path(__file__).resolve().parents[1]
PAGES = [CHECKOUT / "README.md", *sorted((CHECKOUT / "docs").glob("*.md"))]
NAMES = [page.relative_to(CHECKOUT).as_posix() for page in PAGES]


def blocks(page: Path, language: str) -> Iterator[str]:
    """Yield the fenced blocks of one language."""
    yield from re.findall(rf"^```{language}\n(.*?)^```", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("name", [name for name, page in zip(NAMES, PAGES, strict=True) if any(blocks(page, "sql"))])
def test_sql_examples_run(name: str, connect: Sessions, daemon: DaemonProcess) -> None:
    connection = connect()
    roles_before = set(connection.execute("SELECT rolname FROM pg_roles").fetchall())
    try:
        for block in blocks(CHECKOUT / name, "sql"):
            connection.execute(block.encode())
    finally:
        for (role,) in set(connection.execute("SELECT rolname FROM pg_roles").fetchall()) - roles_before:
            connection.execute(f'DROP ROLE "{role}"'.encode())


@pytest.mark.parametrize("name", NAMES)
def test_commands_of_the_examples_exist(name: str) -> None:
    for block in blocks(CHECKOUT / name, "console"):
        for line in re.findall(r"^\$ (.*)$", block, re.MULTILINE):
            for arguments in re.findall(r"pg-steadytext ([^)\"#&]*)", line):
                follow(shlex.split(arguments))
            if target := re.match(r"make (\w+)", line):
                makefile = (CHECKOUT / "Makefile").read_text(encoding="utf-8")
                assert re.search(rf"^{target.group(1)}:", makefile, re.MULTILINE), line


@pytest.mark.parametrize("name", NAMES)
def test_commands_of_the_prose_exist(name: str) -> None:
    page = (CHECKOUT / name).read_text(encoding="utf-8")
    for arguments in re.findall(r"`pg-steadytext ([^`]*)`", page):
        follow(shlex.split(arguments))


def follow(words: list[str]) -> None:
    """Walk down the command's tree along the words; options must be ones the command has."""
    command: Any = get_command(app)
    for word in words:
        if isinstance(command, TyperGroup):
            found = command.get_command(command.make_context("pg-steadytext", [], resilient_parsing=True), word)
            assert found is not None, f"no command {word!r}"
            command = found
        elif word.startswith("--"):
            assert word in {option for parameter in command.params for option in parameter.opts}, f"no option {word!r}"


@pytest.mark.parametrize("name", NAMES)
def test_links_lead_somewhere(name: str) -> None:
    page = CHECKOUT / name
    for target in re.findall(r"\]\(([^)#:]+)\)", page.read_text(encoding="utf-8")):
        assert (page.parent / target).exists(), f"{name} links to {target}"
