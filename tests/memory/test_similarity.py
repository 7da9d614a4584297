"""What is a near duplicate and what only looks like one."""

from __future__ import annotations

import asyncio
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

import near_duplicates
from pg_steadytext.memory.domain.similarity import judge

TEXTS = st.text(max_size=60)
NUMBERS = st.integers(0, 10**7)
DATES = st.sampled_from(["Monday", "Tuesday", "May", "June", "tomorrow", "today", "3pm", "4pm", "10:15", "10:30"])


def test_the_labelled_pairs_are_told_with_a_precision_of_95_percent() -> None:
    pairs = near_duplicates.read_pairs()
    assert len(pairs) >= 60
    similarities = asyncio.run(near_duplicates.cosines(pairs))
    verdicts = near_duplicates.judged(pairs, similarities)
    found = near_duplicates.quality(pairs, [verdict.is_suggested for verdict in verdicts])
    assert found.precision >= 0.95
    assert found.recall >= 0.85
    # What must agree is what makes it precise, for likeness alone takes nearly every pair.
    assert all(cosine > 0.5 for cosine in similarities)
    assert {"numbers", "dates", "negation", "opposites", "names"} <= {verdict.because for verdict in verdicts}


@given(TEXTS)
def test_a_denial_is_never_a_duplicate(text: str) -> None:
    for denied in (f"I do not like {text}", f"I don't like {text}", f"I never like {text}", f"I dislike {text}"):
        assert not judge(f"I like {text}", denied, 1.0).is_suggested


@given(TEXTS, TEXTS, NUMBERS, NUMBERS)
def test_another_number_is_never_a_duplicate(before: str, after: str, one: int, other: int) -> None:
    verdict = judge(f"{before} meet at {one} {after}", f"{before} meet at {other} {after}", 1.0)
    assert verdict.is_suggested == (one == other)


@given(DATES, DATES, TEXTS)
def test_another_date_is_never_a_duplicate(one: str, other: str, text: str) -> None:
    verdict = judge(f"the dentist is on {one} {text}", f"the dentist is on {other} {text}", 1.0)
    assert verdict.is_suggested == (one == other)


@given(TEXTS, TEXTS, st.none() | st.floats(-1, 1))
def test_the_order_of_the_pair_does_not_matter(one: str, other: str, cosine: float | None) -> None:
    assert judge(one, other, cosine) == judge(other, one, cosine)


@given(TEXTS)
def test_a_text_is_a_duplicate_of_itself(text: str) -> None:
    assert judge(text, f" {text.upper().lower()} ".strip(), 1.0, same_hash=True).is_suggested
    assert judge(text, text, None).because == "hash"


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("meet at 5", "meet at five"),
        ("pay 1,200 euros", "pay 1200 euros"),
        ("the train at 5 pm", "the train at 17:00"),
        ("ask Ada on the 3rd of May", "ask Ada on 3 May"),
        ("I can't swim", "I cannot swim"),
    ],
)
def test_the_same_number_time_or_denial_spelt_otherwise_agrees(one: str, other: str) -> None:
    assert judge(one, other, 0.95).is_suggested


@pytest.mark.parametrize(
    ("one", "other", "because"),
    [
        ("I like tea, not coffee", "I like coffee, not tea", "negation"),
        ("Ann owes Bob a book", "Bob owes Ann a book", "names"),
        ("drive from berlin to paris", "drive from paris to berlin", "order"),
        ("the train to leeds", "the train from leeds", "direction"),
        ("the light is on", "the light is off", "negation"),
        ("call my sister", "call my brother", "opposites"),
        ("the lock code of the bike", "the lock code of the shed", "subject"),
        ("buy milk", "buy milk, bread, butter, flour and cheese", "words"),
    ],
)
def test_what_only_looks_alike_is_told_by_why(one: str, other: str, because: str) -> None:
    verdict = judge(one, other, 0.99)
    assert (verdict.is_suggested, verdict.because) == (False, because)


def test_the_labelled_set_holds_both_kinds_and_no_pair_twice() -> None:
    pairs = near_duplicates.read_pairs()
    assert min(Counter(pair.is_same for pair in pairs).values()) >= 30
    assert len({(pair.one, pair.other) for pair in pairs}) == len(pairs)
