"""The Python that docs/queue.md shows runs."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.databases import Sessions
from tests.support.hand_worker import HandWorker

PAGE = Path(__file__).resolve().parents[2] / "docs" / "queue.md"
EXAMPLES = re.findall(r"^```python\n(.*?)^```", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)


@pytest.fixture
def answering(connect: Sessions) -> Iterator[None]:
    """A worker that answers everything for as long as the test runs."""
    hand, over = HandWorker(connect()), threading.Event()

    def answer() -> None:
        while not over.wait(0.02):
            hand.answer_all()
            for claimed in hand.claim("embed"):
                hand.finish(claimed, "[0.6,0.8]")
            for claimed in hand.claim("rerank"):
                hand.finish(claimed, '[["The bakery opens at six.",0.9],["The train leaves at seven.",0.1]]')

    thread = threading.Thread(target=answer)
    thread.start()
    yield
    over.set()
    thread.join()


@pytest.mark.parametrize("example", EXAMPLES)
@pytest.mark.usefixtures("answering")
def test_python_examples_run(example: str, parameters: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    names = {"host": "PGHOST", "port": "PGPORT", "dbname": "PGDATABASE", "user": "PGUSER"}
    for name, variable in names.items():
        monkeypatch.setenv(variable, str(parameters[name]))
    exec(compile(example, str(PAGE), "exec"), {"__name__": "__main__"})
