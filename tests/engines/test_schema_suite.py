"""The public JSON-Schema-Test-Suite (draft 2020-12, its required part): refused by name, or kept to.

SUITE_DOCUMENTS schemas (6 unless told, spread over the suite; `make soak` asks for all) are also written by the model.
https://github.com/json-schema-org/JSON-Schema-Test-Suite
"""

from __future__ import annotations

import json
import os
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest

from pg_steadytext.engines.constraints import constraint as constraints
from pg_steadytext.engines.constraints.compiled import Compiled, compiled
from pg_steadytext.engines.constraints.constraint import Constraint
from pg_steadytext.engines.protocol import Prompt
from pg_steadytext.errors import InvalidArgument, ModelFailed
from tests.support.grammars import GrammarReader
from tests.support.models import Engines

SUITE = Path(__file__).resolve().parents[1] / "data" / "json-schema-test-suite" / "draft2020-12"
DOCUMENTS = int(os.environ.get("SUITE_DOCUMENTS", "6"))
MAX_TOKENS = 60
NAMED = re.compile(r'keyword "([^"]+)"|^(multipleOf)')
UNSATISFIABLE = "no finite text satisfies the schema"


@dataclass(frozen=True)
class Case:
    """A schema of the suite with its instances; `ready` or else `refusal`."""

    file: str
    description: str
    schema: Any
    instances: list[dict[str, Any]]
    constraint: Constraint | None = None
    ready: Compiled | None = None
    refusal: str = ""


def read_cases() -> Iterator[Case]:
    for path in sorted(SUITE.glob("*.json")):
        for group in json.loads(path.read_text("utf-8")):
            given = (path.name, group["description"], group["schema"], group["tests"])
            try:
                constraint = constraints.schema(group["schema"])
                yield Case(*given, constraint, compiled(constraint))
            except InvalidArgument as error:
                yield Case(*given, refusal=error.message)


@pytest.fixture(scope="module")
def cases() -> list[Case]:
    return list(read_cases())


def passes(case: Case, text: str) -> bool:
    """Whether a text would be given away as an answer to the schema."""
    assert case.ready is not None
    try:
        case.ready.check(text)
    except ModelFailed:
        return False
    return True


def test_every_schema_is_compiled_or_refused_by_its_keyword(cases: list[Case]) -> None:
    refused = [case for case in cases if case.ready is None]
    counts: Counter[str] = Counter()
    for case in refused:
        named = NAMED.search(case.refusal)
        assert named or case.refusal.startswith(UNSATISFIABLE), (case.file, case.description, case.refusal)
        counts[next(filter(None, named.groups())) if named else UNSATISFIABLE] += 1
    print(f"{len(cases)} schemas, {len(cases) - len(refused)} compiled, {len(refused)} refused: {dict(counts)}")
    assert len(cases) - len(refused) >= 291


def test_a_schema_that_nothing_satisfies_has_no_instance_that_postgresql_could_keep(cases: list[Case]) -> None:
    for case in cases:
        if case.refusal.startswith(UNSATISFIABLE):
            valid = [instance["data"] for instance in case.instances if instance["valid"]]
            assert all("\0" in data for data in valid), case


def test_no_invalid_instance_can_be_an_answer(cases: list[Case]) -> None:
    judged = 0
    for case in cases:
        for instance in case.instances if case.ready else ():
            text = json.dumps(instance["data"], ensure_ascii=False)
            if not instance["valid"]:
                assert not passes(case, text), (case.file, case.description, instance["description"])
                judged += 1
            else:  # formats are more than annotations here
                assert passes(case, text) or case.file == "format.json", (case.file, case.description, text)
    assert judged >= 437


def test_the_grammar_itself_keeps_to_what_it_is_said_to_write(cases: list[Case]) -> None:
    from pg_steadytext.engines.constraints.keywords import CHECKED

    for case in cases:
        if case.ready is None or any(f'"{keyword}"' in json.dumps(case.schema) for keyword in (*CHECKED, "oneOf")):
            continue
        grammar = GrammarReader(case.ready.grammar)
        for instance in case.instances:
            text = json.dumps(instance["data"], ensure_ascii=False)
            assert instance["valid"] or not grammar.accepts(text), (case.file, case.description, text)


def test_what_a_model_writes_is_valid_or_clearly_refused(cases: list[Case], engines: Engines) -> None:
    generator = engines.generator()
    able = [case for case in cases if case.constraint is not None]
    step = max(1, len(able) // DOCUMENTS)
    counts: Counter[str] = Counter()
    for case in able[::step]:
        prompt = Prompt("Write an example.", max_tokens=MAX_TOKENS, constraint=case.constraint)
        try:
            text = generator.generate(prompt, lambda _piece: False).text
        except (InvalidArgument, ModelFailed) as error:
            told = re.search(r"max_tokens|keyword \"\w+\"", error.message)
            counts[told[0] if told else f"{case.file}: {case.description}: {error.message}"] += 1
            continue
        assert jsonschema_rs.is_valid(case.schema, json.loads(text), validate_formats=True), (case.schema, text)
        counts["valid"] += 1
    print(dict(counts))
    assert all(re.fullmatch(r'valid|max_tokens|keyword "\w+"', told) for told in counts)
    assert counts["valid"] >= 0.4 * counts.total()
