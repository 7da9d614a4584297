"""Questions with known answers, out of text that every machine with Python has: the standard library's docstrings.

The first paragraph of a docstring tells in one sentence what a function or class is for; what follows tells how. The
first is a question, the second the memory that answers it. They were written by hundreds of people as two texts about
one thing, and the answer does not hold the question. The same interpreter gives the same questions.
"""

from __future__ import annotations

import ast
import sysconfig
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

LEFT_OUT = {"site-packages", "dist-packages", "test", "tests", "idlelib", "lib2to3", "__pycache__"}
QUESTION = range(20, 151)
MEMORY = range(150, 601)


@dataclass(frozen=True, slots=True)
class Pair:
    """A question, and the text that answers it."""

    question: str
    memory: str


def pairs() -> list[Pair]:
    """Return every pair of the library, in the order of the files; no question and no memory comes twice."""
    found = list(_found())
    questions = Counter(pair.question for pair in found)
    memories = Counter(pair.memory for pair in found)
    return [pair for pair in found if questions[pair.question] == memories[pair.memory] == 1]


def _found() -> Iterator[Pair]:
    root = Path(sysconfig.get_path("stdlib"))
    for path in sorted(root.rglob("*.py")):
        if LEFT_OUT.isdisjoint(path.relative_to(root).parts):
            yield from _pairs_of(path)


def _pairs_of(path: Path) -> Iterator[Pair]:
    try:
        tree = ast.parse(path.read_text(encoding="utf-8"))
    except (SyntaxError, UnicodeDecodeError):
        return
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            first, _, rest = (ast.get_docstring(node) or "").partition("\n\n")
            question, memory = " ".join(first.split()), rest.strip()
            # A signature is no sentence, and a memory that repeats the question would be no test.
            if "(" not in question and len(question) in QUESTION and len(memory) in MEMORY and question not in memory:
                yield Pair(question, memory)
