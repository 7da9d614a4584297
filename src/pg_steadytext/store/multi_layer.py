"""Memory in layers: what was said (M0), the facts in it (M1), and what the facts come to (M2)."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence
from typing import Any

from psycopg import sql

from pg_steadytext.errors import InvalidArgument
from pg_steadytext.store import config as settings
from pg_steadytext.store.database import Opened, quoted
from pg_steadytext.store.knowledge import FactStore, LayerStore, StatementStore
from pg_steadytext.store.pgai import EventDrivenPgaiStore, PgaiStore
from pg_steadytext.store.records import ChunkData, SearchResult


class MultiLayerPgaiStore(Opened):
    """Writes go to the first layer; the others follow, each by itself. Each can be searched and asked how far it is.

    With automatic embedding a worker makes the facts and statements, a moment after the commit; without, the call does.
    """

    def __init__(self, config: settings.Config | str | os.PathLike[str] | None = None) -> None:
        self.config = settings.given(config)
        self._m1 = settings.layer(self.config, "m1")
        m2 = settings.layer(self.config, "m2")
        self.m0: PgaiStore = EventDrivenPgaiStore(self.config)
        self.m1 = FactStore(self.config, self.m0, self._m1)
        self.m2: StatementStore | None = StatementStore(self.config, self.m1, m2) if m2["enabled"] else None
        self.pool = self.m0.pool

    @property
    def layers(self) -> dict[str, PgaiStore]:
        """The layers by name."""
        found: dict[str, PgaiStore] = {"m0": self.m0, "m1": self.m1}
        return found | ({"m2": self.m2} if self.m2 is not None else {})

    @property
    def _made(self) -> list[LayerStore]:
        return [store for store in self.layers.values() if isinstance(store, LayerStore)]

    async def close(self) -> None:
        """Close the connections."""
        await self.pool.close()

    async def initialize(self) -> None:
        """Make and declare every layer's table where that has not been done."""
        for store in self.layers.values():
            await store.initialize()

    async def write_to_all_layers(self, chunks: Sequence[ChunkData], wait: float | None = None) -> dict[str, list[str]]:
        """Write rows; returns the ids of the rows as ``m0`` and those of the facts drawn from them as ``m1``.

        The rows are committed first. Then it waits until they are completed or failed in M1, at most `wait` seconds
        (by default ``m1.wait`` of the configuration; 0 does not wait), and returns the facts that there are by then.
        """
        ids = await self.m0.add(chunks)
        if self.m0.pgai_config["auto_embedding"]:
            await self.m1.wait(ids, float(self._m1["wait"]) if wait is None else wait)
        else:
            for store in self._made:
                await store.run_layer()
                await store._process_pending_embeddings()
        return {"m0": ids, "m1": await self.m1.of(ids)}

    async def query_all_layers(
        self, query: str, top_k: int = 5, *, layers: Sequence[str] | None = None, mode: str = "hybrid"
    ) -> list[SearchResult]:
        """The best of all layers, or of some, each with the layer that it is from; by reciprocal rank fusion.

        Raises InvalidArgument for no layers, or one that is not there.
        """
        wanted = list(self.layers if layers is None else layers)
        if not wanted or not set(wanted) <= self.layers.keys():
            raise InvalidArgument(f"layers must be some of {', '.join(self.layers)}, not {wanted}")
        chosen = {name: self.layers[name] for name in wanted}
        names = list(chosen)
        relations = sql.SQL("ARRAY[{}]").format(
            sql.SQL(", ").join(sql.Literal(quoted(store.table_name)) for store in chosen.values())
        )
        values = {"query": query, "k": top_k, "mode": mode}
        found = await self.pool.run("search_layers", self.m0.table_name, values, relations=relations)
        return [
            SearchResult(
                key, content, score, similarity, layer=names[place - 1], table=chosen[names[place - 1]].table_name
            )
            for key, content, score, similarity, place in found
        ]

    async def get_processing_stats(self) -> dict[str, Any]:
        """Each layer's statistics, and how far the rows of its source are in it."""
        stats = await asyncio.gather(*(store.get_processing_stats() for store in self.layers.values()))
        found: dict[str, Any] = dict(zip(self.layers, stats, strict=True))
        for name, store in self.layers.items():
            if isinstance(store, LayerStore):
                found[name]["layer"] = await store.layer_status()
        return found

    async def get_health_status(self) -> dict[str, Any]:
        """Whether rows are being worked on; see PgaiStore."""
        return await self.m0.get_health_status()

    async def get_retry_status(self, row_id: str) -> dict[str, dict[str, Any]]:
        """A row's state in M0 (its vector) and in M1 (its facts)."""
        vector, facts = await asyncio.gather(self.m0.get_retry_status(row_id), self.m1.layer_row_status(row_id))
        return {"m0": vector, "m1": facts}
