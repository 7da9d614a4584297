"""What needs no database."""

from __future__ import annotations

import base64
import json
from datetime import UTC, datetime
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pg_steadytext.memory.domain import conditions, cursors, ids, markdown, tokens
from pg_steadytext.memory.domain.problems import Problem
from pg_steadytext.memory.domain.text import content_hash, normalise

TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00"), min_size=1)


@settings(deadline=None)
@given(TEXTS)
def test_normalising_twice_is_normalising_once(text: str) -> None:
    assert normalise(normalise(text)) == normalise(text)


@settings(deadline=None)
@given(TEXTS)
def test_case_and_white_space_make_no_other_text(text: str) -> None:
    assert content_hash(f"  {text}\n\t") == content_hash(text)
    assert content_hash(text.casefold()) == content_hash(text)


def test_other_numbers_and_other_words_make_another_text() -> None:
    assert len({content_hash(text) for text in ("pay 12", "pay 21", "don't pay 12", "pay 1 2")}) == 4
    assert content_hash("Straße") == content_hash("STRASSE")
    assert content_hash("ﬁle\u00a0A") == content_hash("FILE a")


@settings(deadline=None)
@given(st.lists(TEXTS, min_size=1, max_size=4), TEXTS)
def test_markdown_keeps_every_body_and_title(bodies: list[str], title: str) -> None:
    written = "".join(markdown.write({"body": body, "title": title, "tags": ["-->"]}) for body in bodies)
    assert list(markdown.read(written)) == [{"body": body, "title": title, "tags": ["-->"]} for body in bodies]


@settings(deadline=None)
@given(st.datetimes(timezones=st.just(UTC)), st.uuids())
def test_a_cursor_is_read_as_it_was_written(at: datetime, entry: UUID) -> None:
    assert cursors.decode(cursors.encode(at, entry)) == (at, entry)


@settings(deadline=None)
@given(st.text(max_size=40) | st.binary(max_size=30).map(lambda raw: raw.hex()))
def test_no_other_text_is_a_cursor(text: str) -> None:
    with pytest.raises(Problem) as refused:
        cursors.decode(text)
    assert refused.value.status == 400


def test_a_cursor_without_a_time_zone_is_refused() -> None:
    naive = base64.urlsafe_b64encode(json.dumps(["2026-01-01T00:00:00", str(UUID(int=1))]).encode()).decode()
    with pytest.raises(Problem):
        cursors.decode(naive)


@settings(deadline=None)
@given(st.integers(0, 2**63), st.binary(min_size=8, max_size=8), st.binary(min_size=8, max_size=8))
def test_ids_sort_by_their_time(nanoseconds: int, one: bytes, other: bytes) -> None:
    first, second = ids.uuid7(nanoseconds, one), ids.uuid7(nanoseconds + 245, other)
    assert first < second
    assert first.version == 7
    assert first.variant == "specified in RFC 4122"


def test_a_token_shows_all_its_bits_and_is_kept_as_a_digest() -> None:
    random = bytes(range(32))
    assert tokens.token(random, "mem_") == "mem_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8"
    assert len(tokens.token_hash("x")) == 32


@pytest.mark.parametrize(
    ("header", "versions"),
    [('"v1"', [1]), (' "v1" , "v12"', [1, 12]), ('W/"v1"', []), ('"other"', []), ("*", None), ('W/"v1", "v2"', [2])],
)
def test_if_match_names_versions(header: str, versions: list[int] | None) -> None:
    assert conditions.known_versions(header, required=True) == versions


@pytest.mark.parametrize("header", ["v1", '"v1', "", '"v1""v2"', '"v1";'])
def test_a_malformed_if_match_is_a_bad_request(header: str) -> None:
    with pytest.raises(Problem) as refused:
        conditions.known_versions(header, required=False)
    assert refused.value.status == 400


@pytest.mark.parametrize(
    ("header", "key"),
    [('"a b"', "a b"), (r'"a\"\\b"', 'a"\\b'), ("bare-key_1", "bare-key_1"), (None, None), (' "x" ', "x")],
)
def test_an_idempotency_key_is_a_quoted_string_or_a_word(header: str | None, key: str | None) -> None:
    assert conditions.idempotency_key(header) == key
