"""The tables of the upper layers, each a store of its own over rows that another layer's were made into."""

from __future__ import annotations

import json
from typing import Any

from psycopg import sql

from pg_steadytext.errors import InvalidArgument
from pg_steadytext.store import schema
from pg_steadytext.store.database import Connection, Database, beside, identifier, quoted
from pg_steadytext.store.pgai import PgaiStore

PROMPT = (
    "List what the text says about people and things, one fact each, with its subject, relation and object.\n\n"
    "Text: {text}\n\nFacts:"
)
SHORT: dict[str, Any] = {"type": "string", "minLength": 1, "maxLength": 40}
SCHEMA: dict[str, Any] = {
    "type": "object",
    "required": ["facts"],
    "additionalProperties": False,
    "properties": {
        "facts": {
            "type": "array",
            "maxItems": 4,
            "items": {
                "type": "object",
                "required": ["content", "category", "subject", "relation", "object", "confidence"],
                "additionalProperties": False,
                "properties": {
                    "content": {"type": "string", "minLength": 1, "maxLength": 120},
                    "category": SHORT,
                    "subject": SHORT,
                    "relation": SHORT,
                    "object": SHORT,
                    "confidence": {"enum": [0.2, 0.4, 0.6, 0.8, 1.0]},
                },
            },
        }
    },
}
MAX_TOKENS = 400
EXTRACTORS = ("model", "rules")


class LayerStore(PgaiStore):
    """A layer's table: its rows are made by the layer, so it is searched and looked at, and not written to."""

    def __init__(self, config: Any, table: str, source: PgaiStore) -> None:
        super().__init__(config, table, database=source.pool)
        self.source = source
        self.pgai_config = source.pgai_config

    def _beside(self, pattern: str) -> sql.Identifier:
        return identifier(beside(self.table_name, pattern))

    async def _add_layer(
        self, connection: Connection, ask: str, function: str, options: dict[str, Any], model: str | None
    ) -> None:
        if (await self.pool.rows(connection, "is_layer", self.table_name))[0][0]:
            return
        await self.pool.rows(
            connection, "layer", self.table_name,
            source=sql.Literal(quoted(self.source.table_name)), ask=sql.Literal(ask),
            function=sql.Literal(f"{quoted(beside(self.table_name, function))}(text,text)"),
            options=sql.Literal(json.dumps(options)), model=sql.Literal(model),
        )  # fmt: skip

    async def _is_layer(self) -> bool:
        async with self.pool.connection() as connection:
            there = await schema.columns(self.pool, connection, self.table_name) >= schema.NEEDED
            return there and bool((await self.pool.rows(connection, "is_layer", self.table_name))[0][0])

    async def _is_schema_ready(self) -> bool:
        return await self._is_layer()

    # what the layer itself does

    async def run_layer(self) -> None:
        """Work now, in this call, on what waits for this layer."""
        while (await self.pool.run("layer_run", self.table_name))[0][0]:
            pass

    async def wait(self, keys: list[str] | None, seconds: float) -> bool:
        """Wait until rows of the source, or all, are completed or failed here; False when that takes longer."""
        values = {"keys": keys, "seconds": seconds}
        return bool((await self.pool.run("layer_wait", self.table_name, values))[0][0])

    async def layer_status(self) -> dict[str, int]:
        """Rows of the source by their state in this layer."""
        names = ("total", "completed", "pending", "processing", "failed")
        return dict(zip(names, (await self.pool.run("layer_status", self.table_name))[0], strict=True))

    async def layer_row_status(self, key: str) -> dict[str, Any]:
        """The state of one row of the source in this layer; None as its `retry_status` where it was never there."""
        names = ("retry_status", "retry_count", "max_retries", "last_retry_at", "error")
        found = await self.pool.run("layer_row_status", self.table_name, {"key": key})
        return dict(zip(names, found[0], strict=True))


class FactStore(LayerStore):
    """M1: facts drawn from the first layer's rows, by the model or by rules."""

    def __init__(self, config: Any, source: PgaiStore, settings: dict[str, Any]) -> None:
        super().__init__(config, str(settings["facts"]), source)
        if settings["extractor"] not in EXTRACTORS:
            raise InvalidArgument(f"m1.extractor must be model or rules, not {settings['extractor']!r}")
        self.extractor: str = settings["extractor"]
        self.model: str | None = settings["model"]

    async def _setup_schema(self) -> None:
        m0 = identifier(self.source.table_name)
        async with self.pool.connection() as connection:
            await self.pool.rows(connection, "alone", self.table_name)
            if not await schema.columns(self.pool, connection, self.table_name):
                await self.pool.rows(connection, "m1_table", self.table_name, m0=m0)
            index = sql.Identifier(f"idx_{self.table_name.rpartition('.')[2]}_source")
            await self.pool.rows(connection, "m1_index", self.table_name, index=index)
            await self.pool.rows(connection, "m1_rules", self.table_name, rules=self._beside("{}_by_rules"), m0=m0)
            await self.pool.rows(connection, "m1_model", self.table_name, model=self._beside("{}_by_model"), m0=m0)
            if self.extractor == "model":
                options = {"prompt": PROMPT, "schema": SCHEMA, "max_tokens": MAX_TOKENS}
                await self._add_layer(connection, "generate", "{}_by_model", options, self.model)
            else:
                await self._add_layer(connection, "nothing", "{}_by_rules", {}, None)

    async def of(self, ids: list[str]) -> list[str]:
        """The ids of the facts that rows of the first layer were made into."""
        return [fact for (fact,) in await self.pool.run("fact_ids", self.table_name, {"ids": ids})]


class StatementStore(LayerStore):
    """M2: what facts agree on, with what contradicts it and when it held; entities and relations are views of it."""

    def __init__(self, config: Any, source: PgaiStore, settings: dict[str, Any]) -> None:
        super().__init__(config, str(settings["statements"]), source)
        self.similarity = float(settings["similarity"])

    async def _setup_schema(self) -> None:
        async with self.pool.connection() as connection:
            await self.pool.rows(connection, "alone", self.table_name)
            if not await schema.columns(self.pool, connection, self.table_name):
                await self.pool.rows(connection, "m2_table", self.table_name)
            await self._declare(connection)
            await self._make(connection, self.pool)
            await self._add_layer(connection, "embed", "{}_merge", {}, None)

    async def _make(self, connection: Connection, database: Database) -> None:
        ((vector,),) = await database.rows(connection, "vector_schema", self.table_name)
        name = self.table_name.rpartition(".")[2]
        parts: dict[str, sql.Composable] = {
            "m1": identifier(self.source.table_name),
            "sources": self._beside("{}_sources"),
            "settle": self._beside("{}_settle"),
            "merge": self._beside("{}_merge"),
            "gone": self._beside("{}_gone"),
            "entities": self._beside("{}_entities"),
            "relations": self._beside("{}_relations"),
            "trigger": sql.Identifier(f"{name}_gone"),
            "by_subject": sql.Identifier(f"idx_{name}_subject"),
            "by_statement": sql.Identifier(f"idx_{name}_sources_statement"),
            "vector": sql.Identifier(vector),
            "similarity": sql.Literal(self.similarity),
        }
        for statement in (
            "m2_sources", "m2_indexes", "m2_sources_index", "m2_entities", "m2_relations",
            "m2_settle", "m2_merge", "m2_gone", "m2_gone_trigger",
        ):  # fmt: skip
            await database.rows(connection, statement, self.table_name, None, **parts)
