"""The usage examples of the store's document, as they stand there; only imports and the connection are adapted."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Any

from pg_steadytext.store import ChunkData, EventDrivenPgaiStore, PgaiStore, PgaiStoreFactory
from tests.store.conftest import Store

Postgres = dict[str, object]

PGAI = {
    "enabled": True,
    "auto_embedding": True,
    "immediate_trigger": True,
    "max_retries": 3,
    "retry_interval": 5.0,
    "worker_count": 3,
    "enable_metrics": True,
}


@asynccontextmanager
async def closing(store: PgaiStore) -> AsyncIterator[PgaiStore]:
    try:
        yield store
    finally:
        await store.close()


def example(run: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    """Run an example's coroutine as a test."""

    def test(postgres: Postgres, working: Store) -> None:
        working.run("SELECT steadytext_embed('a model that is loaded')")
        asyncio.run(asyncio.wait_for(run(postgres, working), 60))

    test.__name__ = run.__name__
    test.__doc__ = run.__doc__
    return test


@example
async def test_immediate_trigger_store_setup_insertion_and_monitoring(postgres: Postgres, working: Store) -> None:
    config = {"postgres": postgres, "pgai": PGAI}
    store: PgaiStore = EventDrivenPgaiStore(config=config, table_name="m0_raw")
    await store.close()

    store = PgaiStoreFactory.create_store(config=config)
    assert type(store) is EventDrivenPgaiStore
    async with closing(store):
        await store.initialize()

        chunk_data = ChunkData(
            id="doc_001",
            content="This document discusses advanced machine learning techniques for natural language processing.",
            metadata={
                "source": "research_paper.pdf",
                "timestamp": datetime.now().isoformat(),  # noqa: DTZ005 (as in the document)
                "category": "machine_learning",
            },
        )
        await store.insert_data(chunk_data)
        await asyncio.sleep(0.5)

        results = await store.search("machine learning techniques", top_k=3)
        assert [result.id for result in results] == ["doc_001"]
        assert results[0].metadata["category"] == "machine_learning"
        assert results[0].similarity is not None

        stats = await store.get_processing_stats()
        print(f"Processing rate: {stats['performance']['processing_rate']:.1f} records/sec")
        assert f"{stats['performance']['success_rate']:.2%}" == "100.00%"
        print(f"Average latency: {stats['performance']['avg_processing_time']:.3f}s")
        assert 0 < stats["performance"]["avg_processing_time"] < 0.5

        health = await store.get_health_status()
        assert health["overall_healthy"]
        assert health["components"]["worker_pool"]["active_workers"] == 1
        assert health["components"]["worker_pool"]["queue_size"] == 0


@example
async def test_retry_mechanism(postgres: Postgres, working: Store) -> None:
    async with EventDrivenPgaiStore(config={"postgres": postgres, "pgai": PGAI}) as store:
        problematic_data = ChunkData(id="test_retry", content="", metadata={"test": "retry_mechanism"})
        await store.insert_data(problematic_data)
        for _attempt in range(10):
            await asyncio.sleep(1)
            retry_info = await store.get_retry_status("test_retry")
            print(f"Retry attempt {retry_info['retry_count']}/{retry_info['max_retries']}")
            if retry_info["retry_status"] in ["completed", "failed"]:
                break
        assert retry_info["retry_status"] == "completed"
        assert retry_info["max_retries"] == 3


@example
async def test_backward_compatibility(postgres: Postgres, working: Store) -> None:
    config = {"database": {"postgres": postgres, "pgai": PGAI}}
    chunk_data = ChunkData(id="legacy", content="A query about legacy interfaces.")
    legacy_store = EventDrivenPgaiStore(config=config)
    async with closing(legacy_store):
        await legacy_store.initialize()
        await legacy_store.insert_data(chunk_data)
        await asyncio.sleep(1)
        results = await legacy_store.search("query", top_k=5)
        assert [result.id for result in results] == ["legacy"]

        auto_mode = legacy_store.pgai_config.get("auto_embedding", False)
        assert auto_mode is True


@example
async def test_automatic_then_manual_mode(postgres: Postgres, working: Store) -> None:
    store = PgaiStore(config={"postgres": postgres})
    async with closing(store):
        await store.initialize()
        chunks = [
            ChunkData(chunk_id="doc1", content="First document for processing"),
            ChunkData(chunk_id="doc2", content="Second document for processing"),
        ]
        start_time = time.time()
        chunk_ids = await store.add(chunks)
        insert_time = time.time() - start_time
        print(f"Inserted {len(chunk_ids)} chunks in {insert_time:.3f}s")
        await asyncio.sleep(1)
        results = await store.search("document processing", top_k=2)
        assert {result.id for result in results} == {"doc1", "doc2"}

        store.pgai_config["auto_embedding"] = False
        more = [ChunkData(chunk_id="doc3", content="Third document for processing"), *chunks]
        chunk_ids = await store.add(more)
        assert chunk_ids == ["doc3", "doc1", "doc2"]
        results = await store.search("third document processing", top_k=1, mode="vector")
        assert [result.id for result in results] == ["doc3"]
        assert working.value("SELECT count(*) FROM m0_raw WHERE needs_embedding") == 0


@example
async def test_monitoring_progress_by_the_tables_own_columns(postgres: Postgres, working: Store) -> None:
    async with PgaiStore(config={"postgres": postgres}) as store:
        chunk_ids = await store.add([ChunkData(f"text number {n}", chunk_id=f"doc{n}") for n in range(20)])
        query = """
            SELECT
                COUNT(*) as total,
                COUNT(CASE WHEN embedding IS NOT NULL THEN 1 END) as with_embeddings,
                COUNT(CASE WHEN needs_embedding = TRUE THEN 1 END) as pending
            FROM m0_raw
            WHERE id = ANY (%s)"""
        for _i in range(30):
            async with store.pool.connection() as conn, conn.cursor() as cur:
                await cur.execute(query, (chunk_ids,))
                total, with_embeddings, pending = await cur.fetchone() or (0, 0, 0)
            if pending == 0:
                break
            await asyncio.sleep(0.2)
        assert (total, with_embeddings, pending) == (20, 20, 0)


class CustomPgaiStore(PgaiStore):
    """The document's store with a table of its own."""

    def __init__(self, config: Postgres) -> None:
        super().__init__(config, table_name="custom_documents")

    async def _setup_schema(self) -> None:
        """Custom schema with additional fields."""
        async with self.pool.connection() as conn, conn.cursor() as cur:
            await cur.execute(
                f"""
                CREATE TABLE IF NOT EXISTS {self.table_name} (
                    id TEXT PRIMARY KEY,
                    title TEXT,
                    content TEXT NOT NULL,
                    category TEXT,
                    metadata JSONB DEFAULT '{{}}',
                    embedding VECTOR(384),
                    needs_embedding BOOLEAN DEFAULT TRUE,
                    created_at TIMESTAMP DEFAULT CURRENT_TIMESTAMP,
                    updated_at TIMESTAMP DEFAULT CURRENT_TIMESTAMP
                )
            """.encode()
            )
            await cur.execute(
                f"""
                CREATE INDEX IF NOT EXISTS idx_{self.table_name}_category
                ON {self.table_name}(category)
            """.encode()
            )


@example
async def test_custom_table_configuration(postgres: Postgres, working: Store) -> None:
    async with CustomPgaiStore({"postgres": postgres}) as custom_store:
        await custom_store.add([ChunkData("Trees drink with their roots.", id="1")])
        await asyncio.sleep(1)
        found = await custom_store.search("how plants take up water", 1, mode="vector")
        assert [result.id for result in found] == ["1"]
        assert (await custom_store.get_processing_stats())["with_embeddings"] == 1


class MultiTableStore:
    """The document's store of several tables."""

    def __init__(self, config: Postgres) -> None:
        self.stores = {
            "documents": PgaiStore(config, table_name="documents"),
            "conversations": PgaiStore(config, table_name="conversations"),
            "knowledge": PgaiStore(config, table_name="knowledge_base"),
        }

    async def search_all_tables(self, query: str, top_k: int = 5) -> list[Any]:
        """Search across all tables."""
        all_results = []
        for table_name, store in self.stores.items():
            results = await store.search(query, top_k=top_k)
            for result in results:
                result.metadata["source_table"] = table_name
            all_results.extend(results)
        all_results.sort(key=lambda x: x.score, reverse=True)
        return all_results[:top_k]


@example
async def test_multiple_table_management(postgres: Postgres, working: Store) -> None:
    store = MultiTableStore({"postgres": postgres})
    for one in store.stores.values():
        await one.initialize()
    for name, text in (("documents", "A contract."), ("conversations", "Hello there."), ("knowledge", "Ice melts.")):
        await store.stores[name].add([ChunkData(text)])
    await asyncio.sleep(1)
    found = await store.search_all_tables("melting ice", 2)
    assert found[0].metadata["source_table"] == "knowledge"
    for one in store.stores.values():
        await one.close()


@example
async def test_the_way_back_is_the_base_store(postgres: Postgres, working: Store) -> None:
    config = {"postgres": postgres, "pgai": {"immediate_trigger": False}}
    assert type(PgaiStoreFactory.create_store(config=config)) is PgaiStore
    async with PgaiStore(config=config) as store:
        assert await store.insert_data(ChunkData("text", id="1")) == "1"
