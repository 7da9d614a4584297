"""Memory in layers: facts drawn from what was said, statements that they agree on, each layer by itself."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from pg_steadytext.errors import InvalidArgument
from pg_steadytext.store import ChunkData, MultiLayerPgaiStore
from tests.queue.workers import until
from tests.store.conftest import Store

Postgres = dict[str, object]


def with_layers(config: dict[str, Any], work: Callable[[MultiLayerPgaiStore], Awaitable[None]]) -> None:
    async def run() -> None:
        async with MultiLayerPgaiStore(config) as layers:
            await work(layers)

    asyncio.run(asyncio.wait_for(run(), 120))


@pytest.fixture
def rules(postgres: Postgres) -> dict[str, Any]:
    """Layers whose facts are drawn by rules."""
    return {"postgres": postgres, "m1": {"extractor": "rules"}}


@pytest.fixture
def drained(store: Store) -> Store:
    """A worker that embeds and makes layers."""
    store.start("--lanes", "autoembed,layer")
    store.run("SELECT steadytext_embed('a model that is loaded')")
    return store


def settle(store: Store) -> None:
    """Wait until no layer has anything to do."""
    waiting = "SELECT bool_and(pending + processing = 0) FROM steadytext_layer_status()"
    until(lambda: store.value(waiting) is True, 60, lambda: str(store.rows("SELECT * FROM steadytext_layer_status()")))


def test_one_write_reaches_all_layers_and_one_query_finds_in_all(drained: Store, rules: dict[str, Any]) -> None:
    async def work(layers: MultiLayerPgaiStore) -> None:
        chunks = [
            ChunkData("I live in Lisbon. I work as a baker.", id="id1"),
            ChunkData("Python programming is fun. Anna likes Python.", id="id2"),
        ]
        results = await layers.write_to_all_layers(chunks)
        assert results["m0"] == ["id1", "id2"]
        assert len(results["m1"]) == 4
        settle(drained)
        drained.settle()
        all_results = await layers.query_all_layers("Python programming", top_k=6)
        assert {result.layer for result in all_results} == {"m0", "m1", "m2"}
        assert next(result.id for result in all_results if result.layer == "m0") == "id2"
        assert all_results[0].score == pytest.approx(1 / 61)
        for wrong in (["m3"], []):
            with pytest.raises(InvalidArgument, match="layers must be some of m0, m1, m2"):
                await layers.query_all_layers("Python programming", layers=wrong)
        assert (await layers.get_retry_status("id1"))["m1"]["retry_status"] == "completed"
        stats = await layers.get_processing_stats()
        assert stats["m1"]["layer"] == {"total": 2, "completed": 2, "pending": 0, "processing": 0, "failed": 0}

    with_layers(rules, work)
    assert drained.rows(
        "SELECT subject, relation, object, category FROM m1_episodic WHERE source_id = 'id1' ORDER BY relation"
    ) == [("user", "lives in", "Lisbon", "location"), ("user", "works as", "a baker", "work")]


def test_facts_that_agree_are_merged_and_contradicted_ones_superseded_and_kept(
    drained: Store, rules: dict[str, Any]
) -> None:
    async def work(layers: MultiLayerPgaiStore) -> None:
        for number, text in enumerate(
            ("Ann lives in Paris.", "Bob says hello to us.", "Ann lives in Paris!", "Ann lives in Rome.")
        ):
            await layers.write_to_all_layers([ChunkData(text, id=f"n{number}")])

    with_layers(rules, work)
    settle(drained)
    found = (
        "SELECT object, support, superseded_by IS NULL, valid_to IS NULL FROM m2_semantic"
        " WHERE subject = 'Ann' ORDER BY object"
    )
    assert drained.rows(found) == [("Paris", 2, False, False), ("Rome", 1, True, True)]
    assert drained.rows("SELECT object, is_current FROM m2_semantic_relations ORDER BY object") == [
        ("Paris", False), ("Rome", True),
    ]  # fmt: skip
    assert drained.value("SELECT mentions FROM m2_semantic_entities WHERE name = 'Ann'") == 2

    drained.run("DELETE FROM m0_raw WHERE id = 'n3'")
    assert drained.rows(found) == [("Paris", 2, True, True)]
    drained.run("UPDATE m0_raw SET content = 'Ann does not live in Paris.' WHERE id = 'n2'")
    settle(drained)
    assert drained.rows("SELECT negated, superseded_by IS NULL FROM m2_semantic WHERE subject = 'Ann' ORDER BY 1") == [
        (False, False), (True, True),
    ]  # fmt: skip


def test_a_changed_row_keeps_the_facts_that_it_still_states(drained: Store, rules: dict[str, Any]) -> None:
    async def work(layers: MultiLayerPgaiStore) -> None:
        first = await layers.write_to_all_layers([ChunkData("I like tea. I like jazz.", id="1")])
        second = await layers.write_to_all_layers([ChunkData("I like tea. I like rock.", id="1")])
        assert len(set(first["m1"]) & set(second["m1"])) == 1
        assert len(second["m1"]) == 2
        assert (await layers.write_to_all_layers([ChunkData(" ", id="1")]))["m1"] == []

    with_layers(rules, work)
    settle(drained)
    assert drained.value("SELECT count(*) FROM m2_semantic") == 0


def test_without_automatic_embedding_the_call_itself_makes_every_layer(store: Store, rules: dict[str, Any]) -> None:
    async def work(layers: MultiLayerPgaiStore) -> None:
        results = await layers.write_to_all_layers([ChunkData("I speak Greek.", id="1")])
        assert len(results["m1"]) == 1
        found = await layers.query_all_layers("languages", 3, mode="vector")
        assert {result.layer for result in found} == {"m0", "m1", "m2"}

    with_layers({**rules, "pgai": {"auto_embedding": False}}, work)
    assert store.value("SELECT count(embedding) FROM m1_episodic") == 1
    assert store.value("SELECT count(embedding) FROM m2_semantic") == 1


def test_a_statement_that_many_sure_facts_support_is_settled(store: Store, rules: dict[str, Any]) -> None:
    async def work(layers: MultiLayerPgaiStore) -> None:
        await layers.write_to_all_layers([ChunkData("I speak Greek.", id=f"{number}") for number in range(40)])

    with_layers({**rules, "pgai": {"auto_embedding": False}}, work)
    store.run(
        "UPDATE m1_episodic SET confidence = 1",
        "SELECT m2_semantic_settle(ARRAY(SELECT lower(coalesce(subject, '')) FROM m2_semantic))",
    )
    assert store.rows("SELECT support, confidence FROM m2_semantic") == [(40, 1.0)]


def test_the_model_draws_facts_of_the_schema_and_the_same_ones_each_time(drained: Store, postgres: Postgres) -> None:
    async def work(layers: MultiLayerPgaiStore) -> None:
        text = "Maria moved to Berlin in May and works as a nurse there."
        await layers.write_to_all_layers([ChunkData(text, id="1"), ChunkData(text, id="2")], wait=100)
        states = await layers.get_processing_stats()
        assert states["m1"]["layer"]["completed"] == 2, drained.rows(
            "SELECT * FROM steadytext_layer_failures('m1_episodic')"
        )

    with_layers({"postgres": postgres}, work)
    facts = (
        "SELECT content, category, subject, relation, object, confidence FROM m1_episodic"
        " WHERE source_id = '{}' ORDER BY 1"
    )
    assert drained.rows(facts.format(1)) == drained.rows(facts.format(2))
    assert drained.value(
        "SELECT bool_and(confidence BETWEEN 0 AND 1 AND content <> '' AND category <> '') FROM m1_episodic"
    )


def test_a_poison_row_fails_alone_is_listed_and_tried_again_by_one_call(drained: Store, rules: dict[str, Any]) -> None:
    drained.run(
        "CREATE TABLE notes (id int PRIMARY KEY, content text)",
        "CREATE TABLE lengths (id text PRIMARY KEY, source_id text, size int)",
        "CREATE FUNCTION measured(key text, words text) RETURNS jsonb LANGUAGE sql AS $$"
        " SELECT jsonb_build_array(jsonb_build_object('size', 100 / (length(words) - 4))) $$",
        "SELECT steadytext_layer('notes', 'lengths', 'nothing', 'measured(text,text)')",
        "INSERT INTO notes SELECT n, repeat('x', n) FROM generate_series(1, 20) n",
    )
    settle(drained)
    assert drained.value("SELECT count(*) FROM lengths") == 19
    assert drained.rows("SELECT key, error FROM steadytext_layer_failures('lengths')") == [("4", "division by zero")]
    drained.run(
        "CREATE OR REPLACE FUNCTION measured(key text, words text) RETURNS jsonb LANGUAGE sql AS $$"
        " SELECT jsonb_build_array(jsonb_build_object('size', length(words))) $$"
    )
    assert drained.value("SELECT steadytext_layer_retry('lengths')") == 1
    settle(drained)
    assert drained.rows("SELECT size FROM lengths WHERE source_id = '4'") == [(4,)]
