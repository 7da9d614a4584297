"""What a model makes of a memory: the question, the form of the answer, and what of an answer counts."""

from __future__ import annotations

import json
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

QUESTION = """Read the note and describe it as JSON:
title: a few words
category: what kind of note it is
tags: topics, in lower case
facts: short sentences that the note states, each with its kind and a confidence from 0 to 1

Note:
{note}

JSON:"""


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
    """Ask about a memory's text, of which the beginning is read."""
    return QUESTION.format(note=body.encode()[:MOST_TEXT_TOKENS].decode(errors="ignore"))


def most_tokens(asked: str) -> Tokens:
    """Return what an answer may take at most."""
    return Tokens(len(asked.encode()) + MOST_FRAME_TOKENS, MOST_WRITTEN_TOKENS)


def schema(categories: Sequence[str]) -> dict[str, Any]:
    """Return the JSON schema that the answer is held to; without categories it names none."""
    fact = _object(
        text={"type": "string", "minLength": 3, "maxLength": FACT_CHARACTERS},
        category={"type": "string", "pattern": FACT_CATEGORY},
        confidence={"type": "number", "minimum": 0, "maximum": 1},
    )
    chosen: dict[str, Any] = {"category": {"enum": list(categories)}} if categories else {}
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


def read(answer: str) -> Description:
    """Read an answer that keeps to the schema. What only repeats, or is blank, is left out."""
    told = json.loads(answer)
    facts: dict[str, Fact] = {}
    for fact in told["facts"]:
        text = _line(fact["text"])
        if normalise(text):
            facts.setdefault(normalise(text), Fact(text, fact["category"], round(float(fact["confidence"]), 2)))
    return Description(
        title=_line(told["title"]) or None,
        category=told.get("category"),
        tags=list(dict.fromkeys(_line(tag) for tag in told["tags"])),
        facts=list(facts.values()),
    )


def _line(text: str) -> str:
    return " ".join(text.split())
