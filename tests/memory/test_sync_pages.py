"""What the pages about syncing and about the client show works."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from tests.memory.conftest import NewPerson
from tests.memory.server import MemoryServer

PAGES = Path(__file__).resolve().parents[2] / "docs"


@pytest.mark.parametrize(("page", "name", "count"), [("memory_sync.md", "api", 5), ("memory_client.md", "memories", 7)])
def test_the_pages_examples_run(
    server: MemoryServer, new_person: NewPerson, monkeypatch: pytest.MonkeyPatch, page: str, name: str, count: int
) -> None:
    key = new_person(plan="pro").key
    monkeypatch.setenv("STEADYTEXT_MEMORY_URL", server.url)
    monkeypatch.setenv("STEADYTEXT_MEMORY_KEY", key)
    monkeypatch.setenv("MEMORY_KEY", key)
    text = (PAGES / page).read_text(encoding="utf-8")
    examples = re.findall(r"^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    assert len(examples) == count
    names: dict[str, Any] = {}
    for example in examples:
        exec(compile(example, page, "exec"), names)
    names[name].close()
