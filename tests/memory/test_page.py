"""What docs/memory.md shows works."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from tests.memory.conftest import NewPerson
from tests.memory.server import MemoryServer

PAGE = Path(__file__).resolve().parents[2] / "docs" / "memory.md"


def test_the_pages_examples_run(server: MemoryServer, new_person: NewPerson, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STEADYTEXT_MEMORY_URL", server.url)
    monkeypatch.setenv("MEMORY_KEY", new_person(plan="pro").key)
    examples = re.findall(r"^```python\n(.*?)^```", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    assert len(examples) == 6
    names: dict[str, Any] = {}
    for example in examples:
        exec(compile(example, str(PAGE), "exec"), names)
    names["api"].close()
