"""A store's tables: made once, completed where they are older, and given back."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from pg_steadytext.errors import InvalidArgument, NotFound
from pg_steadytext.store import (
    ChunkData,
    EmbeddingFailed,
    EventDrivenPgaiStore,
    MultiLayerPgaiStore,
    PgaiStore,
    PgaiStoreFactory,
    load_config,
)
from tests.store.conftest import Store

Postgres = dict[str, object]
MANUAL = {"auto_embedding": False}

COUNT_DDL = """
CREATE TABLE ddl (tag text);
CREATE FUNCTION note_ddl() RETURNS event_trigger LANGUAGE plpgsql AS
    $$ BEGIN INSERT INTO ddl VALUES (tg_tag); END $$;
CREATE EVENT TRIGGER note_ddl ON ddl_command_start EXECUTE FUNCTION note_ddl();
"""


def with_store(store: PgaiStore, work: Callable[[PgaiStore], Awaitable[None]]) -> None:
    async def run() -> None:
        try:
            await work(store)
        finally:
            await store.close()

    asyncio.run(asyncio.wait_for(run(), 60))


@pytest.mark.parametrize("kind", [EventDrivenPgaiStore, MultiLayerPgaiStore])
def test_stores_that_are_initialised_at_once_make_the_schema_once(kind: Any, postgres: Postgres, store: Store) -> None:
    async def initialize() -> None:
        stores = [kind({"postgres": postgres, "m1": {"extractor": "rules"}}) for _ in range(4)]
        try:
            await asyncio.gather(*(each.initialize() for each in stores))
        finally:
            await asyncio.gather(*(each.close() for each in stores))

    asyncio.run(asyncio.wait_for(initialize(), 60))
    tables = 3 if kind is MultiLayerPgaiStore else 1
    assert store.value("SELECT count(*) FROM steadytext_autoembed_status()") == tables


@pytest.mark.parametrize("name", ["", "a.b.c", "a.", "100%", "x" * 44])
def test_a_table_name_that_cannot_be_used_is_refused(name: str, postgres: Postgres, store: Store) -> None:
    async def work(refused: PgaiStore) -> None:
        with pytest.raises(InvalidArgument, match="table_name must"):
            await refused.initialize()

    with_store(PgaiStore({"postgres": postgres}, name), work)


@pytest.mark.parametrize("kind", [EventDrivenPgaiStore, MultiLayerPgaiStore])
def test_a_second_initialize_does_no_ddl(kind: Any, postgres: Postgres, store: Store) -> None:
    async def initialize() -> None:
        async with kind({"postgres": postgres, "m1": {"extractor": "rules"}}):
            pass

    asyncio.run(initialize())
    store.run(COUNT_DDL)
    asyncio.run(initialize())
    assert store.rows("SELECT tag FROM ddl") == []
    store.run("CREATE TABLE seen ()")
    assert store.rows("SELECT tag FROM ddl") == [("CREATE TABLE",)]


OLDER = """
CREATE TABLE m0_messages (id text PRIMARY KEY, content text NOT NULL, metadata jsonb DEFAULT '{}',
    embedding vector(384), needs_embedding boolean DEFAULT true, created_at timestamp DEFAULT current_timestamp,
    updated_at timestamp DEFAULT current_timestamp);
CREATE FUNCTION notify_embedding_needed() RETURNS trigger LANGUAGE plpgsql AS
    $$ BEGIN PERFORM pg_notify('embedding_needed', NEW.id); RETURN NEW; END $$;
CREATE TRIGGER embedding_notification_trigger AFTER INSERT ON m0_messages FOR EACH ROW
    WHEN (NEW.needs_embedding) EXECUTE FUNCTION notify_embedding_needed();
CREATE INDEX idx_needs_embedding ON m0_messages (needs_embedding) WHERE needs_embedding;
INSERT INTO m0_messages (id, content) SELECT 'old' || n, 'an older text, number ' || n FROM generate_series(1, 30) n;
UPDATE m0_messages SET embedding = array_fill(0.05, ARRAY[384])::vector, needs_embedding = false WHERE id = 'old1';
"""


def test_a_table_of_the_older_schema_is_taken_over_with_its_rows_and_given_back(
    postgres: Postgres, working: Store
) -> None:
    working.run(OLDER)

    async def work(store: PgaiStore) -> None:
        await store.migrate("m0_messages")
        await store.initialize()
        await store.insert_data(ChunkData("a newer text", id="new"))
        await asyncio.to_thread(working.settle)
        assert [found.id for found in await store.search("newer", 1)] == ["new"]
        with pytest.raises(NotFound, match="there is no table m0_messages to migrate"):
            await store.migrate("m0_messages")

        assert working.stale("m0_raw", "content") == []
        assert working.value("SELECT count(*) FROM m0_raw WHERE NOT needs_embedding") == 31
        assert working.value("SELECT count(*) FROM pg_trigger WHERE tgname = 'embedding_notification_trigger'") == 0
        assert working.value("SELECT count(*) FROM m0_raw_embedding WHERE retry_status = 'completed'") == 31

        await store.undo_migration("m0_messages")

    with_store(EventDrivenPgaiStore({"postgres": postgres}), work)
    assert working.value("SELECT count(embedding) FROM m0_messages") == 31
    assert working.value("SELECT to_regclass('m0_raw') IS NULL") is True
    assert working.rows("SELECT * FROM steadytext_autoembed_status()") == []
    assert (
        working.rows("SELECT tgname FROM pg_trigger WHERE tgrelid = 'm0_messages'::regclass AND NOT tgisinternal") == []
    )
    working.run("INSERT INTO m0_messages (id, content) VALUES ('after', 'as before')")


def test_an_older_table_of_the_right_name_is_completed_by_initialize(postgres: Postgres, working: Store) -> None:
    working.run(OLDER, "ALTER TABLE m0_messages RENAME TO m0_raw")

    async def work(store: PgaiStore) -> None:
        await store.initialize()
        await asyncio.to_thread(working.settle)
        assert (await store.get_processing_stats())["with_embeddings"] == 30

    with_store(EventDrivenPgaiStore({"postgres": postgres}), work)


def test_a_changed_text_has_no_vector_until_its_own_is_there(postgres: Postgres, store: Store) -> None:
    async def work(found: PgaiStore) -> None:
        await found.initialize()
        await found.insert_data(ChunkData("one", id="1"))
        store.run("UPDATE m0_raw SET content = 'two'")
        assert store.rows("SELECT embedding IS NULL, needs_embedding, retry_status FROM m0_raw") == [
            (True, True, "pending")
        ]
        assert (await found.get_retry_status("1"))["retry_status"] == "pending"
        await found._process_pending_embeddings()
        assert store.stale("m0_raw", "content") == []

    with_store(PgaiStore({"postgres": postgres, "pgai": MANUAL}), work)


def test_a_synchronous_insert_that_cannot_be_embedded_keeps_nothing(postgres: Postgres, store: Store) -> None:
    async def work(found: PgaiStore) -> None:
        await found.initialize()
        store.run(
            "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS"
            " $$ BEGIN IF NEW.embedding IS NOT NULL AND NEW.content = 'bad' THEN"
            " RAISE 'not this one'; END IF; RETURN NEW; END $$",
            "CREATE TRIGGER refuse BEFORE UPDATE ON m0_raw FOR EACH ROW EXECUTE FUNCTION refuse()",
        )
        with pytest.raises(EmbeddingFailed, match="1 of 2 rows could not be embedded, first b: not this one"):
            await found.add([ChunkData("good", id="a"), ChunkData("bad", id="b")])
        assert store.value("SELECT count(*) FROM m0_raw") == 0

    with_store(PgaiStore({"postgres": postgres, "pgai": MANUAL}), work)


def test_names_with_a_schema_and_quotes_are_taken_literally(postgres: Postgres, store: Store) -> None:
    store.run('CREATE SCHEMA "My Schema"')

    async def work(found: PgaiStore) -> None:
        await found.initialize()
        await found.insert_data(ChunkData("text", id="1"))
        assert [one.id for one in await found.search("text")] == ["1"]

    with_store(PgaiStore({"postgres": postgres, "pgai": MANUAL}, table_name='My Schema.o"dd'), work)
    assert store.value('SELECT count(embedding) FROM "My Schema"."o""dd"') == 1


def test_a_configuration_file_of_the_documents_shape_is_read(tmp_path: Path) -> None:
    file = tmp_path / "pgai.yaml"
    file.write_text(
        """
database:
  postgres: {host: localhost, port: 5433, database: memfuse, user: someone, password: secret}
  pgai:
    enabled: true
    auto_embedding: false
    immediate_trigger: false
    embedding_model: "all-MiniLM-L6-v2"
    batch_size: 20
m0:
  messages: "other_raw"
"""
    )
    store = PgaiStoreFactory.create_store(config=file)
    assert type(store) is PgaiStore
    assert store.table_name == "other_raw"
    assert store.pgai_config["batch_size"] == 20
    assert store.pgai_config["max_retries"] == 3
    assert load_config(file)["m0"] == {"messages": "other_raw"}


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"pgai": {"auto_embeding": True}}, "pgai has no setting 'auto_embeding'"),
        ({"pgai": {"batch_size": "20"}}, "pgai.batch_size must be of type int, not str"),
        ({"pgai": {"worker_count": True}}, "pgai.worker_count must be of type int, not bool"),
        ({"pgai": 3}, "pgai must be a mapping, not int"),
        ({"postgres": {"hosst": "x"}}, "postgres has no setting 'hosst'"),
        ({"m0": {"message": "x"}}, "m0 has no setting 'message'"),
        ("/nowhere.yaml", "cannot read the store's configuration /nowhere.yaml"),
    ],
)
def test_a_configuration_that_means_nothing_is_refused_by_name(config: Any, message: str) -> None:
    with pytest.raises(InvalidArgument, match=message):
        PgaiStore(config)


def test_wrong_dimensions_and_a_switched_off_store_are_refused(postgres: Postgres, store: Store) -> None:
    async def refused(settings: dict[str, object], message: str) -> None:
        found = PgaiStore({"postgres": postgres, "pgai": settings})
        with pytest.raises(InvalidArgument, match=message):
            await found.initialize()
        await found.close()

    asyncio.run(refused({"enabled": False}, "the store is switched off"))
    asyncio.run(refused({"embedding_dimensions": 768}, "is 768, but the vectors of m0_raw have 384"))
    assert store.value("SELECT to_regclass('m0_raw') IS NULL") is True


def test_importing_the_store_loads_no_model_runtime() -> None:
    heavy = "{'onnxruntime', 'xllamacpp', 'numpy', 'tokenizers', 'zmq', 'semantic_text_splitter'}"
    code = f"import sys, pg_steadytext.store; print(sorted({heavy} & set(sys.modules)))"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"
