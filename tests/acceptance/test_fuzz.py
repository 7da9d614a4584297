"""Random input into every function: only the documented errors, and nobody falls over.

``FUZZ_EXAMPLES`` sets the inputs a function gets: 75 in the suite, 10,000 in ``make soak``.
"""

from __future__ import annotations

import json
import os
from typing import Any

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.support.daemon import DaemonProcess
from tests.support.databases import Sessions

EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES", "40"))

DOCUMENTED = {
    "22004",
    "22023",
    "22001",
    "08001",
    "53400",
    "57014",
    "58000",
    "42501",
    "P0002",
    "42601",
    "22P02",
    "23505",
    "55000",
}

text = st.one_of(
    st.none(),
    st.just(""),
    st.just("   \n\t"),
    st.sampled_from(["Hello", "What is a tree?", "'; DROP TABLE steadytext_cache; --", "🌳" * 50, "\u202eabc\u0301"]),
    st.text(st.characters(exclude_characters="\x00", codec="utf-8"), max_size=60),
    st.sampled_from(["long " * 200, "x" * 90_000, "x" * 120_000, "🌳" * 100_001]),
)
integer = st.one_of(st.none(), st.sampled_from([-(2**31), -1, 0, 1, 2, 42, 2**31 - 1]))
tokens = st.one_of(st.none(), st.sampled_from([-(2**31), -1, 0, 1, 2, 3, 2**31 - 1])).map(
    lambda value: 1 if value is None else value
)
real = st.one_of(st.none(), st.sampled_from([0.0, 0.5, 1.0, -1.0, 1e308, float("nan"), float("inf")]))
boolean = st.one_of(st.none(), st.booleans())
name = st.one_of(
    st.none(),
    st.sampled_from(
        ["", "smollm2-135m-instruct", "all-minilm-l6-v2", "../../etc/passwd", "openai:gpt", "nobody", "small"]
    ),
)
words = st.one_of(st.none(), st.lists(text, max_size=5))
blob = st.one_of(st.none(), st.sampled_from(["{}", "[]", "null", '{"max_tokens": 1}', '"x"']))

slug = st.one_of(text, st.sampled_from(["a", "b-c"]))
template = st.one_of(
    text,
    st.lists(st.sampled_from(["{{", "}}", "{%", "%}", "x", "|", "for", "if", "in", "[1]", "end", " ", "."])).map(
        "".join
    ),
)
brief = st.one_of(
    st.none(),
    st.sampled_from(["", " ", "oak", "🌳" * 20]),
    st.text(st.characters(exclude_characters="\x00", codec="utf-8"), max_size=9),
)
field: st.SearchStrategy[Any] = st.sampled_from([None, "0000", [None], {}, "", 5, 10**18])
part = st.fixed_dictionaries({"context": field, "pending": field, "levels": st.lists(field, max_size=2)})
state = st.one_of(
    blob,
    st.fixed_dictionaries(
        {
            "task": st.fixed_dictionaries(
                {"unsafe_mode": st.just(False), "max_tokens": st.sampled_from([1, None, 10**18])}
            ),
            "room": st.just(1000),
            "rows": st.just(1),
            "metadata": field,
            "context": st.one_of(st.just({}), field),
            "pending": st.one_of(st.just("oak"), field),
            "levels": st.just([]),
            "parts": st.one_of(st.just([]), st.lists(part, max_size=2)),
        }
    ).map(json.dumps),
)

GENERATE: dict[str, Any] = {
    "prompt": text, "max_tokens": tokens, "use_cache": boolean, "seed": integer, "eos_string": text, "model": name,
    "model_repo": name, "model_filename": name, "size": name, "unsafe_mode": boolean, "thinking_mode": boolean,
    "temperature": real,
}  # fmt: skip

FUNCTIONS: dict[str, dict[str, Any]] = {
    "generate": GENERATE,
    "generate_stream": GENERATE,
    "generate_cached": {"prompt": text, "max_tokens": tokens, "seed": integer},
    "embed": {"text_input": text, "use_cache": boolean, "seed": integer, "model": name, "unsafe_mode": boolean},
    "embed_cached": {"text_input": text, "seed": integer, "model": name, "unsafe_mode": boolean},
    "embed_batch": {"texts": words},
    "cache_key": {"prompt": text, "params": blob},
    "semantic_search": {"query_text": text, "limit_results": integer, "similarity_threshold": real},
    "cache_evict": {"max_entries": integer, "max_size_mb": real},
    "cache_evict_by_age": {
        "target_entries": integer,
        "target_size_mb": real,
        "batch_size": integer,
        "min_age_hours": integer,
    },
    "cache_evict_by_frecency": {
        "target_entries": integer,
        "target_size_mb": real,
        "batch_size": integer,
        "min_access_count": integer,
        "min_age_hours": integer,
    },
    "rerank": {"query": text, "documents": words, "task": text, "return_scores": boolean, "seed": integer},
    "rerank_top_k": {"query": text, "documents": words, "top_k": integer},
    "rerank_batch": {"queries": words, "documents": words, "seed": integer},
    "summarize_accumulate": {"state": state, "value": brief, "metadata": blob},
    "summarize_combine": {"state1": state, "state2": state},
    "summarize_finalize": {"state": state},
    "deduplicate_facts": {"facts_array": st.one_of(blob, st.lists(brief).map(json.dumps)), "similarity": real},
    "index_create": {"index_name": text, "documents": words},
    "index_add": {"index_name": text, "documents": words},
    "index_search": {"index_name": text, "query": text, "top_k": integer},
    "index_drop": {"name": text},
    "prompt_create": {"slug": slug, "template": template, "description": text, "metadata": blob},
    "prompt_update": {"slug": slug, "template": template, "metadata": blob},
    "prompt_render": {"slug": slug, "variables": blob, "version": integer, "strict": boolean},
    "prompt_diff": {"slug": slug, "from_version": integer, "to_version": integer},
    "pre_migration_check": {"target_version": text},
    "config_get": {"key": text},
    "config_set": {"key": st.one_of(text, st.sampled_from(["default_max_tokens", "cache_policy"])), "value": text},
}

CASTS = {
    "texts": "text[]", "documents": "text[]", "queries": "text[]", "params": "jsonb", "metadata": "jsonb",
    "variables": "jsonb", "state": "jsonb", "state1": "jsonb", "state2": "jsonb", "facts_array": "jsonb",
}  # fmt: skip


def call(function: str, arguments: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    """The statement that calls a function with named arguments, and its parameters."""
    named = ", ".join(f"{key} => %({key})s{'::' + CASTS[key] if key in CASTS else ''}" for key in arguments)
    return f"SELECT * FROM steadytext_{function}({named})", arguments


@pytest.fixture
def session(connect: Sessions, daemon: DaemonProcess) -> psycopg.Connection:
    connection = connect()
    connection.execute("SET statement_timeout = '120s'")
    return connection


@pytest.mark.parametrize("function", sorted(FUNCTIONS))
def test_random_input_gives_an_answer_or_a_documented_error(function: str, session: psycopg.Connection) -> None:
    @settings(
        max_examples=EXAMPLES, deadline=None, database=None, suppress_health_check=list(HealthCheck), derandomize=True
    )
    @given(st.fixed_dictionaries(FUNCTIONS[function]))
    def attempt(arguments: dict[str, Any]) -> None:
        statement, parameters = call(function, arguments)
        try:
            session.execute(statement, parameters).fetchall()
        except psycopg.Error as error:
            if error.sqlstate not in DOCUMENTED:
                raise AssertionError(f"{error.sqlstate} is not documented") from error

    attempt()
    assert session.execute("SELECT 1").fetchone() == (1,)
