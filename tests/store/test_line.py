"""The whole way: declare, insert, find."""

from __future__ import annotations

from tests.queue.workers import until
from tests.store.conftest import Store


def test_a_row_is_found_by_meaning_a_moment_after_its_insert(articles: Store) -> None:
    articles.run(
        "INSERT INTO articles VALUES (1, 'Trees', 'Roots take up water from the soil.'), (2, 'Food', 'Soup is hot.'),"
        " (3, 'City', 'The bus stops here.')"
    )
    articles.settle()
    assert articles.stale("articles") == []
    found = articles.rows("SELECT key, rank_vector FROM steadytext_search('articles', 'how do plants drink', 2)")
    assert found[0] == ({"id": 1}, 1)


def test_rows_that_were_there_before_are_embedded_too(working: Store) -> None:
    working.run(
        "CREATE TABLE notes (id int PRIMARY KEY, body text)",
        "INSERT INTO notes SELECT n, 'note ' || n FROM generate_series(1, 3000) n",
        "SELECT steadytext_autoembed('notes', 'body')",
    )
    working.settle(120)
    assert working.value("SELECT count(embedding) FROM notes") == 3000
    assert working.stale("notes WHERE id % 100 = 0") == []


def test_each_mode_of_search_finds_its_own(articles: Store) -> None:
    articles.run(
        "INSERT INTO articles VALUES (1, 't', 'A tree takes up water.'), (2, 't', 'Zebra crossings have stripes.'),"
        " (3, 't', 'The kettle boils.')"
    )
    articles.settle()
    assert articles.rows("SELECT key ->> 'id' FROM steadytext_search('articles', 'zebra', mode => 'keyword')") == [
        ("2",)
    ]
    near = articles.rows("SELECT key ->> 'id' FROM steadytext_search('articles', 'making tea', 1, mode => 'vector')")
    assert near == [("3",)]
    both = articles.rows(
        "SELECT key ->> 'id', rank_vector, rank_keyword FROM steadytext_search('articles', 'zebra', 1)"
    )
    assert both == [("2", 1, 1)]
    kept = articles.rows("SELECT key ->> 'id' FROM steadytext_search('articles', 'zebra', filter => 'id <> 2')")
    assert {key for (key,) in kept} == {"1", "3"}


def test_indexes_are_built_after_the_backfill_and_used(articles: Store) -> None:
    articles.run("INSERT INTO articles SELECT n, 't', 'text number ' || n FROM generate_series(1, 200) n")
    articles.settle()
    until(lambda: articles.value("SELECT index_state FROM steadytext_autoembeddings") == "built", 30)
    articles.run("ANALYZE articles", "SET enable_seqscan = off")
    near = "SELECT id FROM articles ORDER BY embedding <=> steadytext_embed('text') LIMIT 3"
    words = (
        "SELECT id FROM articles WHERE to_tsvector('english', coalesce(body, '')) @@ plainto_tsquery('english', '77')"
    )
    for query, index in ((near, "steadytext_autoembed_1_vector"), (words, "steadytext_autoembed_1_words")):
        assert index in str(articles.rows(f"EXPLAIN {query}"))
    articles.run("SELECT steadytext_autoembed_drop('articles')")
    assert articles.rows("SELECT indexname FROM pg_indexes WHERE indexname ~ 'steadytext_autoembed_1'") == []
