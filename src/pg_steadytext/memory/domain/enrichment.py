"""What a model makes of a memory: the question, the form of the answer, and what of an answer counts."""

from __future__ import annotations

import json
import operator
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from pg_steadytext.memory.domain.spending import Tokens
from pg_steadytext.memory.domain.text import normalise

MODEL = "smollm2-135m-instruct"
SEED = 42
MOST_TEXT_TOKENS = 2000
"""What the model reads of a memory: so many bytes, of which none is more than a token."""
MOST_FRAME_TOKENS = 200
"""What the chat's frame adds to the question."""
MOST_WRITTEN_TOKENS = 2000
"""No answer within the bounds below is longer, even when every character is written as several tokens."""
TITLE_CHARACTERS = 60
MOST_TAGS = 3
MOST_FACTS = 2
FACT_CHARACTERS = 100
TAG = "^[a-z0-9][a-z0-9 -]{1,18}[a-z0-9]$"
FACT_CATEGORY = "^[a-z]{3,20}$"

GROUNDED = 0.7
"""The least share of a title's or a fact's runs of three characters that the note has too."""

BEGINNING = """Describe each note as JSON.

Note: The train to Basel leaves at 8:14 from platform 7.
{"title": "Train to Basel", "category": "travel", "tags": ["train", "basel"], "facts": [{"text": \
"The train to Basel leaves at 8:14.", "category": "schedule", "confidence": 0.9}]}

Note: My doctor says I should drink more water and sleep eight hours.
{"title": "Doctor's advice", "category": "health", "tags": ["doctor", "sleep", "water"], "facts": [{"text": \
"The doctor advises more water and eight hours of sleep.", "category": "advice", "confidence": 0.9}]}

Note: """
"""How every question begins, which the engine keeps: examples, since a small model follows them where it does not
follow instructions."""
EXAMPLES = frozenset(re.findall(r"[a-z0-9]+", BEGINNING.casefold()))
"""The words of the examples."""


@dataclass(frozen=True, slots=True)
class Fact:
    """A sentence that a memory states (layer M1), with its kind in a word and a confidence in [0, 1]."""

    text: str
    category: str
    confidence: float


@dataclass(frozen=True, slots=True)
class Description:
    """What a model made of a memory; None and empty where it found nothing."""

    title: str | None
    category: str | None
    tags: Sequence[str]
    facts: Sequence[Fact]

    def spelled(self) -> str:
        """Spell it as JSON."""
        return json.dumps(asdict(self))


def question(body: str) -> str:
    """Ask about a memory's text, of which so much is read; the words that come after ``BEGINNING``."""
    return body.encode()[:MOST_TEXT_TOKENS].decode(errors="ignore") + "\n"


def most_tokens(asked: str) -> Tokens:
    """Return what an answer to a question may take at most."""
    return Tokens(len((BEGINNING + asked).encode()) + MOST_FRAME_TOKENS, MOST_WRITTEN_TOKENS)


def nearest(vector: Sequence[float], others: Sequence[Sequence[float]]) -> int:
    """Return the place of the unit-length vector that is nearest to another one, the first of equals."""
    likenesses = [sum(map(operator.mul, vector, other)) for other in others]
    return likenesses.index(max(likenesses))


def schema(category: str | None) -> dict[str, Any]:
    """Return the JSON schema that the answer is held to, with the memory's category where it has one."""
    fact = _object(
        text={"type": "string", "minLength": 3, "maxLength": FACT_CHARACTERS},
        category={"type": "string", "pattern": FACT_CATEGORY},
        confidence={"type": "number", "minimum": 0, "maximum": 1},
    )
    chosen: dict[str, Any] = {"category": {"enum": [category]}} if category is not None else {}
    return _object(
        title={"type": "string", "minLength": 3, "maxLength": TITLE_CHARACTERS},
        **chosen,
        tags={"type": "array", "minItems": 1, "maxItems": MOST_TAGS, "items": {"type": "string", "pattern": TAG}},
        facts={"type": "array", "maxItems": MOST_FACTS, "items": fact},
    )


def _object(**properties: dict[str, Any]) -> dict[str, Any]:
    return {
        "type": "object", "properties": properties, "required": list(properties), "additionalProperties": False,
    }  # fmt: skip


def read(answer: str, note: str) -> Description:
    """Read an answer that keeps to the schema.

    What only repeats, or is blank, is left out, and so is what the note does not bear out: a title or a fact of other
    words, a tag in the words of the examples, unless it is the category that was chosen for this note. A weak model
    repeats those, or makes something up.
    """
    told = json.loads(answer)
    said = normalise(note)
    title = _line(told["title"])
    facts: dict[str, Fact] = {}
    for fact in told["facts"]:
        text = _line(fact["text"])
        if normalise(text) and _is_grounded(text, said):
            facts.setdefault(normalise(text), Fact(text, fact["category"], round(float(fact["confidence"]), 2)))
    return Description(
        title=title if title and _is_grounded(title, said) else None,
        category=told.get("category"),
        tags=[
            tag
            for tag in dict.fromkeys(map(_line, told["tags"]))
            if tag == told.get("category") or not EXAMPLES.issuperset(_words(tag)) or _is_grounded(tag, said)
        ],
        facts=list(facts.values()),
    )


def _words(tag: str) -> list[str]:
    return re.split(r"[ -]+", tag)


def _is_grounded(text: str, note: str) -> bool:
    folded = normalise(text)
    runs = _runs(folded)
    return folded in note or len(runs & _runs(note)) >= GROUNDED * len(runs) > 0


def _runs(text: str) -> set[str]:
    return {text[start : start + 3] for start in range(len(text) - 2)}


def _line(text: str) -> str:
    return " ".join(text.split())
