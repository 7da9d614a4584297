"""Long texts in chunks: a table of their own, kept in step with the rows."""

from __future__ import annotations

import pytest

from pg_steadytext.store.chunks import chunks
from tests.queue.workers import until
from tests.store.conftest import Store

SENTENCES = "Trees drink by their roots. Soup is best when it is hot. The bus stops here. " * 3
CHARACTERS = '{"by": "characters", "size": 4, "overlap": 2}'
MARKDOWN = "# A\n\nfirst part\n\n# B\n\nsecond part"


def test_characters_overlap_as_told() -> None:
    assert chunks("abcdefghij", CHARACTERS, "m") == ["abcd", "cdef", "efgh", "ghij"]
    assert chunks("abc", CHARACTERS, "m") == ["abc"]


@pytest.mark.parametrize(
    ("chunking", "text", "wanted"),
    [
        ('{"by": "sentences", "size": 30}', "One is here. Two is here. Three is here.", 2),
        ('{"by": "markdown", "size": 20}', MARKDOWN, 2),
        ('{"by": "tokens", "size": 5}', "one two three four five six", 2),
    ],
)
def test_texts_are_cut_where_they_allow_it(chunking: str, text: str, wanted: int) -> None:
    made = chunks(text, chunking, "all-minilm-l6-v2")
    assert len(made) == wanted
    assert "".join("".join(made).split()) == "".join(text.split())


def test_a_chunked_table_is_kept_in_step_and_found_by_chunk(working: Store) -> None:
    working.run(
        "CREATE TABLE books (shelf text, id int, body text, PRIMARY KEY (id, shelf))",
        """SELECT steadytext_autoembed('books', 'body', chunking => '{"by": "sentences", "size": 60}')""",
        f"INSERT INTO books VALUES ('a', 1, '{SENTENCES}'), ('a', 2, 'Short.'), ('b', 2, NULL)",
    )
    working.settle()
    parts = working.rows(
        "SELECT id, shelf, max(chunk) = count(*), count(*) > 2 FROM books_chunks GROUP BY 1, 2 ORDER BY 1"
    )
    assert parts == [(1, "a", True, True), (2, "a", True, False)]
    assert working.stale("books_chunks", "content") == []
    found = working.rows(
        "SELECT key, content, chunk FROM steadytext_search('books', 'bus', 1, filter => $$shelf = 'a'$$)"
    )
    assert found[0][0] == {"id": 1, "shelf": "a"}
    assert "The bus stops here." in str(found[0][1])
    assert working.rows("SELECT total, embedded FROM steadytext_autoembed_status('books')") == [(3, 2)]
    working.run(
        "UPDATE books SET body = 'Only this.' WHERE id = 1", "DELETE FROM books WHERE id = 2", "UPDATE books SET id = 7"
    )
    working.settle()
    assert working.rows("SELECT id, chunk, content FROM books_chunks") == [(7, 1, "Only this.")]
    assert working.value("SELECT chunk_content FROM books_chunks_view") == "Only this."
    until(lambda: working.value("SELECT index_state FROM steadytext_autoembeddings") == "built", 30)
    working.run("UPDATE books SET body = ' '")
    working.settle()
    assert working.value("SELECT count(*) FROM books_chunks") == 0
    working.run(
        "SELECT steadytext_autoembed_drop('books', drop_vectors => true)", "INSERT INTO books VALUES ('c', 1, 'x')"
    )
    assert working.value("SELECT to_regclass('books_chunks')") is None


def test_a_chunk_table_that_is_dropped_leaves_the_table_usable(working: Store) -> None:
    working.run(
        "CREATE TABLE books (id int PRIMARY KEY, body text)",
        """SELECT steadytext_autoembed('books', 'body', chunking => '{"by": "characters"}')""",
        "DROP TABLE books_chunks CASCADE",
        "INSERT INTO books VALUES (1, 'x')",
    )
    assert working.rows("SELECT state FROM steadytext_autoembed_status('books')") == [("broken",)]
