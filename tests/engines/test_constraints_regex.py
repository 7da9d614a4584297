"""Regular expressions: what an automaton and its grammar accept, and what is refused."""

from __future__ import annotations

import re
import time

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pg_steadytext.engines.constraints import constraint as constraints
from pg_steadytext.engines.constraints.automaton import MatchesNothing, TooComplex, build
from pg_steadytext.engines.constraints.compiled import compiled
from pg_steadytext.engines.constraints.dialect import read_pattern, read_search
from pg_steadytext.errors import InvalidArgument, ModelFailed
from tests.support.grammars import GrammarReader
from tests.support.structured import PATTERNS

SETTINGS = settings(deadline=None, max_examples=60, suppress_health_check=list(HealthCheck))


@SETTINGS
@given(data=st.data())
def test_texts_made_from_a_pattern_are_accepted(data: st.DataObject) -> None:
    pattern = data.draw(st.sampled_from(PATTERNS))
    text = data.draw(st.from_regex(re.compile(pattern, re.ASCII), fullmatch=True))
    if "\0" in text or re.search(r"[\x1c-\x1f\ud800-\udfff]", text):
        return
    assert build(read_pattern(pattern), "it").accepts(text)
    if text and not text[0].isspace():
        assert GrammarReader(compiled(constraints.regex(pattern)).grammar).accepts(text)


@SETTINGS
@given(data=st.data())
def test_what_is_accepted_matches_whole(data: st.DataObject) -> None:
    pattern = data.draw(st.sampled_from(PATTERNS))
    begin = data.draw(st.from_regex(pattern, fullmatch=True))
    text = data.draw(st.sampled_from([begin, begin[:-1], begin + "a", begin[::-1], begin.upper(), begin + "\n"]))
    if build(read_pattern(pattern), "it").accepts(text):
        assert re.fullmatch(pattern, text)


@SETTINGS
@given(
    st.sampled_from(["b", "^b", "b$", "^b$", "^(b|c)$", "a|^b", "[0-9]{2}", "^a.c"]), st.text("abc0 1\n", max_size=6)
)
def test_a_search_finds_what_python_finds(pattern: str, text: str) -> None:
    found = re.search(pattern.replace("$", r"\Z"), text) is not None
    assert build(read_search(pattern), "it").accepts(text) == found


@pytest.mark.parametrize("pattern", PATTERNS[:54])
def test_a_grammar_and_its_automaton_accept_the_same(pattern: str) -> None:
    automaton = build(read_pattern(pattern), "it")
    reader = GrammarReader(compiled(constraints.regex(pattern)).grammar)
    for text in ("yes", "no", "abc", "12:30", "2024-01-31", "aab", "é", "a" * 30, "b", "xxy", "very good", "[1]"):
        assert reader.accepts(text) == automaton.accepts(text)


@pytest.mark.parametrize(
    ("pattern", "named"),
    [
        ("(?=a)b", "lookaround"),
        ("(?<!a)b", "lookaround"),
        (r"(a)\1", "backreference"),
        ("(?P<x>a)(?P=x)", "backreference"),
        ("(a)?(?(1)b|c)", "conditional"),
        ("(?>ab)", "atomic"),
        ("a++", "possessive"),
        ("(?i)a", "IGNORECASE"),
        ("(?i:a)b", "flag"),
        (r"\bword", r"\\b"),
        ("a^b", r"\^"),
        ("a$b", r"\$"),
        ("(a", "not a regular expression"),
        (r"\p{L}", "not a regular expression"),
        ("a{2,1}", "not a regular expression"),
    ],
)
def test_what_the_dialect_lacks_is_refused_by_name(pattern: str, named: str) -> None:
    with pytest.raises(InvalidArgument, match=named):
        compiled(constraints.regex(pattern))


@pytest.mark.parametrize(
    "pattern",
    [
        "a{1,100000}", "(a{0,1000}){0,1000}", "(a|b)*a(a|b){30}", "((((a{1,99}){1,99}){1,99}){1,99})", "a" * 9000,
        "((a|b|c|ab|bc|abc){1,20}x?){1,30}", "(.*a.*b.*c){1,20}", "(" * 5000 + "a" + ")" * 5000, "x" * 20_000,
        "[a-z]{500}{500}", "(a{1,50}b?){1,50}(c{1,50}d?){1,50}",
    ],
)  # fmt: skip
def test_a_hostile_pattern_is_refused_at_once(pattern: str) -> None:
    began = time.process_time()
    with pytest.raises(InvalidArgument):
        compiled(constraints.regex(pattern))
    assert time.process_time() - began < 5


def test_patterns_that_make_a_backtracking_engine_slow_are_small_automata() -> None:
    for pattern in ("(a+)+b", "(a|a)*b", "(a*)*b", "(x+x+)+y", "(.*)*z"):
        assert len(build(read_pattern(pattern), "it").states) <= 4


def test_a_pattern_that_nothing_matches_is_refused() -> None:
    for pattern in (r"\0", "", " +", r"[^\s\S]"):
        with pytest.raises(InvalidArgument):
            compiled(constraints.regex(pattern))
    with pytest.raises(MatchesNothing, match="no text satisfies the pattern"):
        compiled(constraints.regex(r"\0"))


def test_classes_write_everyday_characters_and_exclude_all_of_their_kind() -> None:
    assert build(read_pattern(r"\w+"), "it").accepts("Straße日本")
    assert not build(read_pattern(r"\d"), "it").accepts("٣")
    assert not build(read_pattern(r"\D"), "it").accepts("٣")
    assert not build(read_pattern(r"[^\d]"), "it").accepts("٣")


def test_an_answer_that_does_not_match_is_the_models_failure() -> None:
    with pytest.raises(ModelFailed, match="pattern"):
        compiled(constraints.regex("a+")).check("b")


def test_a_constraint_is_compiled_once() -> None:
    first, second = constraints.regex("abc{2,7}"), constraints.regex("abc{2,7}")
    assert first == second
    assert hash(first) == hash(second)
    assert compiled(first) is compiled(second)


@pytest.mark.parametrize(
    ("make", "value", "message"),
    [
        (constraints.regex, "", "Pattern cannot be empty"),
        (constraints.schema, {}, "Schema cannot be empty"),
        (constraints.schema, " ", "Schema cannot be empty"),
        (constraints.schema, "{", "not valid JSON"),
        (constraints.schema, [1], "must be a JSON object, not an array"),
        (constraints.choices, None, "Choices cannot be null"),
        (constraints.choices, [], "Choices array cannot be empty"),
        (constraints.choices, ["a"], "Choices array must contain at least 2 options"),
        (constraints.choices, ["a", "b", "a"], "Choices array cannot contain duplicates"),
        (constraints.choices, ["a", None], "choice must be a text"),
        (constraints.choices, ["a", " "], "Choice cannot be empty"),
        (constraints.choices, "ab", "list of texts"),
    ],
)
def test_what_is_no_constraint_is_refused(make: object, value: object, message: str) -> None:
    with pytest.raises(InvalidArgument, match=message):
        make(value)  # type: ignore[operator]


def test_too_large_a_pattern_is_one_kind_of_bad_argument() -> None:
    assert issubclass(TooComplex, InvalidArgument)
