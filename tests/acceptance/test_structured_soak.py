"""Many documents over many schemas, and many patterns: each answer valid, or a clear refusal.

STRUCTURED_DOCUMENTS documents (15 unless told; `make soak` asks for 500) go round the sample schemas, and as many
patterns are tried, at most all 200.
"""

from __future__ import annotations

import json
import os
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import jsonschema_rs
import pytest

from pg_steadytext.daemon.client import DaemonClient
from pg_steadytext.errors import InvalidArgument, ModelFailed
from tests.support.models import provide_models, texts
from tests.support.runtime import RuntimeDaemon
from tests.support.structured import PATTERNS, SCHEMAS

DOCUMENTS = int(os.environ.get("STRUCTURED_DOCUMENTS", "15"))
MAX_TOKENS = 250


@pytest.fixture(scope="module")
def client(model_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[DaemonClient]:
    """A client of a daemon with the real model."""
    daemon = RuntimeDaemon(tmp_path_factory.mktemp("home"), provide_models(model_dir))
    with daemon.client() as found:
        yield found
    daemon.stop()


def test_every_document_is_valid_or_clearly_refused(client: DaemonClient) -> None:
    counts: Counter[str] = Counter()
    for number, subject in enumerate(texts(DOCUMENTS, (2, 5, 12))):
        schema = SCHEMAS[number % len(SCHEMAS)]
        try:
            answer = client.generate(f"Write about {subject}.", schema=schema, max_new_tokens=MAX_TOKENS).text
        except (InvalidArgument, ModelFailed) as error:
            counts[error.message] += 1
            continue
        assert jsonschema_rs.is_valid(schema, json.loads(answer), validate_formats=True), (schema, answer)
        counts["valid"] += 1
    print(dict(counts))
    assert all(re.search("valid|max_tokens|keyword", told) for told in counts)
    assert counts["valid"] >= 0.95 * DOCUMENTS


def test_every_pattern_is_matched_whole(client: DaemonClient) -> None:
    patterns = PATTERNS[:DOCUMENTS]
    for pattern, subject in zip(patterns, texts(len(patterns), (3,)), strict=True):
        answer = client.generate(f"Write about {subject}.", regex=pattern, max_new_tokens=MAX_TOKENS).text
        assert re.fullmatch(pattern, answer), (pattern, answer)
    print(f"{len(patterns)} patterns matched whole")
