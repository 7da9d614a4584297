"""Long prompts: cached while they fit the model's window, refused with both lengths when they do not."""

from __future__ import annotations

import psycopg
import pytest

from tests.support.databases import Sessions

RULE = "-" * 256  # few tokens for its characters
SECTION = f"{RULE}\nInternational organizations communicate environmental responsibilities.\n"
ASK = "SELECT steadytext_generate(%s, max_tokens => 2)"


def test_a_prompt_of_50000_characters_that_fits_the_window_is_cached(connect: Sessions, daemon: object) -> None:
    session = connect()
    prompt = (SECTION * 500)[:50_000] + "\nWhat is this text about?"
    answer = session.execute(ASK, (prompt,)).fetchone()
    assert answer != ("",)
    session.execute("SELECT steadytext_config_set('daemon_port', '1')")
    assert session.execute(ASK, (prompt,)).fetchone() == answer


def test_a_prompt_beyond_the_window_is_refused_and_both_lengths_are_named(connect: Sessions, daemon: object) -> None:
    with pytest.raises(psycopg.errors.StringDataRightTruncation, match=r"\d+ tokens.* holds 8192"):
        connect().execute(ASK, ("a b c d " * 6000,))


def test_a_prompt_of_a_megabyte_is_refused(connect: Sessions, daemon: object) -> None:
    with pytest.raises(psycopg.errors.StringDataRightTruncation, match="max_prompt_chars"):
        connect().execute(ASK, ("x" * 1_000_000,))
