"""A model's spelling of a text, read from its file."""

from __future__ import annotations

from pathlib import Path

import pytest

from pg_steadytext.engines.vocabulary import Vocabulary
from tests.support.models import weights


@pytest.fixture(scope="module")
def vocabulary(models: Path) -> Vocabulary:
    return Vocabulary(weights(models))


def test_a_common_word_is_one_token(vocabulary: Vocabulary) -> None:
    assert len(vocabulary.spell("yes")) == len(vocabulary.spell(" Paris")) == 1


def test_every_text_can_be_spelled_in_bytes_at_worst(vocabulary: Vocabulary) -> None:
    for text in ("日本語", "🦄", "\t\n", "naïve café", "<|im_end|>"):
        assert vocabulary.spell(text)


def test_marks_of_the_chat_template_are_spelled_as_text(vocabulary: Vocabulary) -> None:
    assert len(vocabulary.spell("<|im_end|>")) > 1


def test_a_spelling_tells_whether_it_parts_a_character(vocabulary: Vocabulary) -> None:
    parted = {
        text: vocabulary.parts_a_character(text, vocabulary.spell(text)) for text in ("😀", "Да", "об", "yes", "né")
    }
    assert parted == {"😀": True, "Да": True, "об": True, "yes": False, "né": False}
