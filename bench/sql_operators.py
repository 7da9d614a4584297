"""Operators by set and by row on the same texts in the same run, each from an empty cache.

``peer`` is the row-wise operator, which profits from the kept beginning too, and then a plain structured call a row
with the same question put before each text, as one would write it without the operators. The answers of the two forms
must be equal. A short set shows less: each of the contexts at work reads the beginning once.
Needs a running server: ``eval "$(pg-steadytext env)"`` first. ``ROWS`` (default 100) texts a repeat; 1000 is the whole
claim.
"""

from __future__ import annotations

import json
import os
import random
import time
from dataclasses import dataclass

import psycopg

from database import own_database
from report import Row, emit, row_of_pairs

ROWS = int(os.environ.get("ROWS", "100"))
REPEATS = int(os.environ.get("REPEATS", "2"))
THINGS = ("parcel", "invoice", "kettle", "lamp", "bicycle", "jacket", "phone", "book")
EVENTS = (
    "arrived broken",
    "came a week late",
    "works very well",
    "was never sent",
    "has the wrong colour",
    "is a gift",
)
CITIES = ("Oslo", "Lyon", "Turin", "Porto", "Bergen", "Gdansk")
SCHEMA = json.dumps(
    {
        "type": "object",
        "properties": {
            "thing": {"type": "string", "maxLength": 12, "description": "what was ordered, in one word"},
            "city": {"type": "string", "maxLength": 12, "description": "where the writer lives"},
        },
        "required": ["thing", "city"],
        "additionalProperties": False,
    }
)
LABELS = "ARRAY['damage', 'delay', 'praise', 'question', 'refund', 'wrong item']"
PROMPT = "p.params ->> 'prefix' || t || (p.params ->> 'suffix')"


@dataclass(frozen=True)
class Operator:
    """One claim: the operator by set and by row, and the plain call."""

    name: str
    by_set: str
    by_row: str
    plan: str
    plain: str


OPERATORS = (
    Operator(
        "filter",
        "steadytext_filter_batch('Is the customer unhappy?', %s)",
        "steadytext_filter('Is the customer unhappy?', t)",
        "_steadytext_filter_plan('Is the customer unhappy?', true, 42, NULL)",
        f"steadytext_generate_choice({PROMPT}, ARRAY['yes', 'no', 'unknown'])",
    ),
    Operator(
        "classify",
        f"steadytext_classify_batch(%s, {LABELS})",
        f"steadytext_classify(t, {LABELS})",
        f"_steadytext_classify_plan({LABELS}, false, true, 42, NULL)",
        f"steadytext_generate_choice({PROMPT}, {LABELS})",
    ),
    Operator(
        "extract",
        f"steadytext_extract_batch(%s, '{SCHEMA}')",
        f"steadytext_extract(t, '{SCHEMA}')",
        f"_steadytext_extract_plan('{SCHEMA}', true, 42, NULL, NULL)",
        f"steadytext_generate_json({PROMPT}, '{SCHEMA}')",
    ),
)


def fresh_texts(count: int) -> list[str]:
    """Short messages of customers, all different."""
    rng = random.Random(time.time_ns())
    return [
        f"Order {rng.randrange(10**5)}: the {rng.choice(THINGS)} {rng.choice(EVENTS)}, I live in {rng.choice(CITIES)}."
        for _ in range(count)
    ]


def rows_per_second(connection: psycopg.Connection, query: str, texts: list[str]) -> tuple[float, list[object]]:
    """Rows per second of a query from an empty cache, and its answers."""
    connection.execute("SELECT steadytext_cache_clear()")
    started = time.perf_counter()
    answers = [row[0] for row in connection.execute(query, (texts,))]
    return len(texts) / (time.perf_counter() - started), answers


def measure(connection: psycopg.Connection, operator: Operator) -> list[Row]:
    """Both rows of one operator."""
    by_set = f"SELECT result FROM {operator.by_set} ORDER BY ordinal"
    unnested = "unnest(%s::text[]) WITH ORDINALITY u (t, n)"
    by_row = f"SELECT {operator.by_row} FROM {unnested} ORDER BY n"
    plain = f"SELECT {operator.plain} FROM {operator.plan} p, {unnested} ORDER BY n"
    warm = fresh_texts(4)
    for query in (by_set, by_row, plain):
        rows_per_second(connection, query, warm)
    against_rows, against_plain = [], []
    for _ in range(REPEATS):
        texts = fresh_texts(ROWS)
        ours, answers = rows_per_second(connection, by_set, texts)
        peer, same = rows_per_second(connection, by_row, texts)
        assert answers == same, f"{operator.name}: the two forms differ"
        without, _ = rows_per_second(connection, plain, texts)
        against_rows.append((ours, peer))
        against_plain.append((ours, without))
    claim = f"{operator.name} of {ROWS} texts, set-wise vs"
    return [
        row_of_pairs(f"{claim} row-wise, identical answers", "rows/s", against_rows, ">= 5"),
        row_of_pairs(f"{claim} a plain structured call a row", "rows/s", against_plain, ">= 5"),
    ]


def main() -> None:
    """Measure all operators."""
    with own_database(), psycopg.connect("", autocommit=True) as connection:
        emit(*(row for operator in OPERATORS for row in measure(connection, operator)))


if __name__ == "__main__":
    main()
