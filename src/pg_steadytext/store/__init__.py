"""The store: embeddings that keep themselves up to date, and memory in layers.

store = PgaiStore(table_name="notes")
await store.initialize()
await store.add([ChunkData("Roots take up water.")])
found = await store.search("how do trees drink")
"""

from __future__ import annotations

from pg_steadytext.store.config import load as load_config
from pg_steadytext.store.multi_layer import MultiLayerPgaiStore
from pg_steadytext.store.pgai import EmbeddingFailed, EventDrivenPgaiStore, PgaiStore, PgaiStoreFactory
from pg_steadytext.store.records import ChunkData, SearchResult

__all__ = [
    "ChunkData",
    "EmbeddingFailed",
    "EventDrivenPgaiStore",
    "MultiLayerPgaiStore",
    "PgaiStore",
    "PgaiStoreFactory",
    "SearchResult",
    "load_config",
]
