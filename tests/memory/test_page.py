"""What docs/memory.md and the pages beside it show works."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from tests.memory.conftest import NewPerson
from tests.memory.server import MemoryServer

DOCS = Path(__file__).resolve().parents[2] / "docs"


@pytest.mark.parametrize(("page", "number"), [("memory.md", 6), ("reminders.md", 8)])
def test_the_pages_examples_run(
    server: MemoryServer, new_person: NewPerson, monkeypatch: pytest.MonkeyPatch, page: str, number: int
) -> None:
    monkeypatch.setenv("MEMORY_URL", server.url)
    monkeypatch.setenv("MEMORY_KEY", new_person(plan="pro").key)
    examples = re.findall(r"^```python\n(.*?)^```", (DOCS / page).read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    assert len(examples) == number
    names: dict[str, Any] = {}
    for example in examples:
        exec(compile(example, page, "exec"), names)
    names["api"].close()
