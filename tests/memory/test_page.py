"""What docs/memory.md and the pages beside it show works."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from tests.memory.conftest import NewPerson
from tests.memory.finding import Finding
from tests.memory.server import SOURCES, MemoryServer
from tests.queue.workers import WorkerProcess
from tests.support.daemon import DaemonProcess

PAGES = Path(__file__).resolve().parents[2] / "docs"


def run_examples(page: str, count: int) -> None:
    """Run a page's examples one after the other."""
    text = (PAGES / page).read_text(encoding="utf-8")
    examples = re.findall(r"^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    assert len(examples) == count
    names: dict[str, Any] = {}
    for example in examples:
        exec(compile(example, page, "exec"), names)
    names["api"].close()


@pytest.mark.parametrize(("page", "count"), [("memory.md", 6), ("reminders.md", 8)])
def test_the_pages_examples_run(
    server: MemoryServer, new_person: NewPerson, monkeypatch: pytest.MonkeyPatch, page: str, count: int
) -> None:
    monkeypatch.setenv("STEADYTEXT_MEMORY_URL", server.url)
    monkeypatch.setenv("MEMORY_KEY", new_person(plan="pro").key)
    run_examples(page, count)


def test_the_examples_for_agents_run(
    server: MemoryServer, new_person: NewPerson, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = new_person().key
    monkeypatch.setenv("STEADYTEXT_MEMORY_URL", server.url)
    monkeypatch.setenv("MEMORY_KEY", key)
    monkeypatch.setenv("STEADYTEXT_MEMORY_KEY", key)
    monkeypatch.setenv("PYTHONPATH", str(SOURCES))
    run_examples("memory_agents.md", 2)


def test_the_examples_of_near_duplicates_run(
    finding: Finding, worker: WorkerProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    admin = finding.person(is_admin=True, scopes=("memories:read", "memories:write", "admin"))
    monkeypatch.setenv("STEADYTEXT_MEMORY_URL", finding.server.url)
    monkeypatch.setenv("MEMORY_ADMIN_KEY", admin.key)
    monkeypatch.setenv("MEMORY_KEY", finding.person().key)
    run_examples("memory_duplicates.md", 4)


def test_the_examples_of_search_run(finding: Finding, worker: WorkerProcess, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STEADYTEXT_MEMORY_URL", finding.server.url)
    monkeypatch.setenv("MEMORY_KEY", finding.person().key)
    run_examples("memory_search.md", 4)


def test_the_examples_of_enrichment_run(
    finding: Finding, daemon: DaemonProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    finding.start_worker(STEADYTEXT_MEMORY_ENRICHMENT="1")
    monkeypatch.setenv("STEADYTEXT_MEMORY_URL", finding.server.url)
    monkeypatch.setenv("MEMORY_KEY", finding.person().key)
    run_examples("memory_enrichment.md", 5)
    finding.stop_workers()
