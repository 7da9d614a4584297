"""The store's classes: a table whose rows are found by meaning; a thin face over steadytext_autoembed and its kin."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from typing import Any

from psycopg import sql

from pg_steadytext.errors import InvalidArgument, NotFound, SteadyTextError
from pg_steadytext.store import config as settings
from pg_steadytext.store import schema
from pg_steadytext.store.database import Connection, Database, Opened
from pg_steadytext.store.records import ChunkData, SearchResult


class EmbeddingFailed(SteadyTextError):  # noqa: N818 (it says the case)
    """Rows of a synchronous insert could not be embedded; nothing of it was kept."""


class PgaiStore(Opened):
    """A table of texts, each with the vector of its present text.

    `pgai_config["auto_embedding"]` says who embeds: a worker, a moment after the commit, or this call, before it
    returns. Whoever uses a store owns its table.
    """

    def __init__(
        self,
        config: settings.Config | str | os.PathLike[str] | None = None,
        table_name: str | None = None,
        *,
        database: Database | None = None,
    ) -> None:
        self.config = settings.given(config)
        self.pgai_config = settings.pgai(self.config)
        self._m0 = settings.layer(self.config, "m0")
        self.table_name = str(self._m0["messages"]) if table_name is None else table_name
        self.pool = database or Database(settings.connection(self.config))
        self._is_shared = database is not None

    async def close(self) -> None:
        """Close the connections."""
        if not self._is_shared:
            await self.pool.close()

    # the table

    @property
    def _view(self) -> str:
        if self.table_name == self._m0["messages"]:
            return str(self._m0["embedding_view"])
        return f"{self.table_name}_embedding"

    @property
    def _mode(self) -> str:
        return "auto" if self.pgai_config["auto_embedding"] else "manual"

    async def initialize(self) -> None:
        """Make the table and declare its embedding, each only where that has not been done: again it changes nothing.

        Raises InvalidArgument, and psycopg.Error for what the database refuses.
        """
        if not self.pgai_config["enabled"]:
            raise InvalidArgument("the store is switched off: pgai.enabled is false")
        await self.pool.open()
        if not await self._is_schema_ready():
            await self._setup_schema()
        async with self.pool.connection() as connection:
            await self._declare(connection)

    async def _is_schema_ready(self) -> bool:
        async with self.pool.connection() as connection:
            if type(self)._setup_schema is not PgaiStore._setup_schema:
                return await schema.columns(self.pool, connection, self.table_name) >= schema.NEEDED
            return await schema.is_ready(self.pool, connection, self.table_name)

    async def _setup_schema(self) -> None:
        """Make the table; a subclass may make one of its own, with columns id (text), content and metadata (jsonb)."""
        async with self.pool.connection() as connection:
            await self.pool.rows(connection, "alone", self.table_name)
            await schema.build(self.pool, connection, self.table_name)
            await self._declare(connection)
            await schema.finish(self.pool, connection, self.table_name, self._view)

    async def _declare(self, connection: Connection) -> None:
        found = await self.pool.rows(connection, "declared", self.table_name)
        if not found:
            await self.pool.rows(connection, "alone", self.table_name)
            found = await self.pool.rows(connection, "declared", self.table_name)
        if not found:
            model = sql.Literal(settings.model(self.pgai_config["embedding_model"]))
            mode = sql.Literal(self._mode)
            await self.pool.rows(connection, "declare", self.table_name, model=model, mode=mode)
            found = await self.pool.rows(connection, "declared", self.table_name)
        ((mode_now, _, dimensions),) = found
        if dimensions != self.pgai_config["embedding_dimensions"]:
            raise InvalidArgument(
                f"pgai.embedding_dimensions is {self.pgai_config['embedding_dimensions']},"
                f" but the vectors of {self.table_name} have {dimensions}"
            )
        if mode_now == "manual" and self._mode == "auto":
            await self.pool.rows(connection, "set_mode", self.table_name, mode=sql.Literal("auto"))

    async def migrate(self, from_table: str = "m0_messages") -> None:
        """Take over a table of the older schema, with its rows: renamed, completed and declared, in one transaction."""
        async with self.pool.connection() as connection:
            await schema.rename(self.pool, connection, from_table, self.table_name)
            await schema.build(self.pool, connection, self.table_name)
            await self._declare(connection)
            await schema.finish(self.pool, connection, self.table_name, self._view)

    async def undo_migration(self, to_table: str | None = "m0_messages") -> None:
        """The way back: the old name and no automatic embedding; rows, vectors and added columns stay."""
        async with self.pool.connection() as connection:
            await schema.undo(self.pool, connection, self.table_name, self._view, to_table)

    # rows

    async def insert_data(self, chunk: ChunkData) -> str:
        """Insert a row, or replace the one with its id; returns the id."""
        return (await self.add([chunk]))[0]

    async def add(self, chunks: Sequence[ChunkData]) -> list[str]:
        """Insert rows, or replace those with their ids, in one transaction; returns the ids.

        With automatic embedding it returns at once. Without, the vectors are there when it returns; where one cannot
        be made, nothing is inserted and EmbeddingFailed is raised.
        """
        async with self.pool.connection() as connection:
            ids = await self._put(connection, chunks)
            if self._mode == "manual":
                await self._embed_now(connection, ids)
        return ids

    async def _put(self, connection: Connection, chunks: Sequence[ChunkData]) -> list[str]:
        rows = {chunk.id: chunk for chunk in chunks}
        values = {
            "ids": list(rows),
            "contents": [chunk.content for chunk in rows.values()],
            "metadata": [json.dumps(chunk.metadata) for chunk in rows.values()],
        }
        await self.pool.rows(connection, "put", self.table_name, values)
        return [chunk.id for chunk in chunks]

    async def _embed_now(self, connection: Connection, ids: Sequence[str]) -> None:
        batch = {"batch": self.pgai_config["batch_size"]}
        while (await self.pool.rows(connection, "embed", self.table_name, batch))[0][0]:
            pass
        if failed := await self.pool.rows(connection, "unembedded", self.table_name, {"ids": list(ids)}):
            row, error = failed[0]
            raise EmbeddingFailed(f"{len(failed)} of {len(ids)} rows could not be embedded, first {row}: {error}")

    async def get(self, ids: Sequence[str]) -> list[ChunkData]:
        """Rows by their ids, those that exist."""
        found = await self.pool.run("get", self.table_name, {"ids": list(ids)})
        return [ChunkData(content, metadata, id=key) for key, content, metadata in found]

    async def delete(self, ids: Sequence[str]) -> None:
        """Delete rows by their ids."""
        await self.pool.run("delete", self.table_name, {"ids": list(ids)})

    async def search(
        self,
        query: str,
        top_k: int = 5,
        *,
        mode: str = "hybrid",
        filter: str | None = None,  # noqa: A002 (SQL's name)
    ) -> list[SearchResult]:
        """The rows nearest to a query, best first; `mode` and `filter` are those of steadytext_search."""
        values = {"query": query, "k": top_k, "mode": mode, "filter": filter}
        found = await self.pool.run("search", self.table_name, values)
        return [
            SearchResult(key, content, score, similarity, metadata or {}, table=self.table_name)
            for key, content, score, similarity, metadata in found
        ]

    async def query(self, query: str, top_k: int = 5) -> list[SearchResult]:
        """The same as search."""
        return await self.search(query, top_k)

    # what is going on

    async def get_retry_status(self, row_id: str) -> dict[str, Any]:
        """A row's state (pending, processing, completed, failed), its retries and its error. Raises NotFound."""
        found = await self.pool.run("row_status", self.table_name, {"id": row_id})
        state, count, most, last, error, exists = found[0]
        if not exists:
            raise NotFound(f"{self.table_name} has no row {row_id!r}")
        return {
            "retry_status": state, "retry_count": count, "max_retries": most, "last_retry_at": last, "error": error,
        }  # fmt: skip

    async def get_processing_stats(self) -> dict[str, Any]:
        """What is embedded, waits and failed; rows a second, the share that succeeds, seconds from write to vector."""
        async with self.pool.connection() as connection:
            found = await self.pool.rows(connection, "stats", self.table_name)
            if not found:
                raise NotFound(f"{self.table_name} is not declared", hint="call initialize() first")
            total, embedded, pending, processing, failed, coverage, success, rate = found[0]
            has_times = "embedded_at" in await schema.columns(self.pool, connection, self.table_name)
            seconds = (await self.pool.rows(connection, "latency", self.table_name))[0][0] if has_times else 0.0
        return {
            "total": total,
            "with_embeddings": embedded,
            "pending": pending,
            "processing": processing,
            "failed": failed,
            "coverage_percent": float(coverage or 0),
            "performance": {"processing_rate": rate, "success_rate": success, "avg_processing_time": seconds},
        }

    async def get_health_status(self) -> dict[str, Any]:
        """Whether rows are being embedded: the daemon, the workers, and what waits for them."""
        found = await self.pool.run("health", self.table_name)
        healthy, daemon, workers, size, failed, broken = found[0]
        return {
            "overall_healthy": healthy,
            "components": {
                "daemon": {"healthy": daemon},
                "worker_pool": {"healthy": workers > 0, "active_workers": workers, "queue_size": size},
                "tables": {"healthy": broken == 0, "broken": broken, "failed_rows": failed},
            },
        }

    async def _process_pending_embeddings(self) -> None:
        """Embed now, in this call, what waits in the table."""
        batch = {"batch": self.pgai_config["batch_size"]}
        while (await self.pool.run("embed", self.table_name, batch))[0][0]:
            pass


class EventDrivenPgaiStore(PgaiStore):
    """The same: every store here is told of its rows by the database, and none polls."""


class PgaiStoreFactory:
    """Chooses a store's class by its configuration."""

    @staticmethod
    def create_store(
        config: settings.Config | str | os.PathLike[str] | None = None, table_name: str | None = None
    ) -> PgaiStore:
        """An EventDrivenPgaiStore where `immediate_trigger` is set, as it is by default, else a PgaiStore."""
        found: Mapping[str, Any] = settings.given(config)
        chosen = EventDrivenPgaiStore if settings.pgai(found)["immediate_trigger"] else PgaiStore
        return chosen(found, table_name)
