"""The store's figures for Prometheus, read from the database whenever they are asked for."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import psycopg
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from pg_steadytext.queue.sessions import SQL as WORKER
from pg_steadytext.settings import Settings
from pg_steadytext.store.indexes import SQL

CONNECT_SECONDS, ANSWER_MS = 3, 3000
LABELS = ("table", "destination")

log = logging.getLogger(__name__)


class StoreCollector(Collector):
    """Asks the settings' database. Where it does not answer, ``steadytext_store_up`` is 0 and nothing else is told."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    def describe(self) -> list[Metric]:
        """Nothing: being registered asks no database."""
        return []

    def collect(self) -> Iterator[Metric]:
        """The figures now."""
        up = GaugeMetricFamily("steadytext_store_up", "Whether the database told its figures")
        try:
            rows, workers = self._ask()
        except psycopg.Error as error:
            log.warning("the store's figures cannot be read: %s", error)
            up.add_metric([], 0)
            yield up
            return
        up.add_metric([], 1)
        yield up
        yield GaugeMetricFamily("steadytext_store_workers", "Workers whose lease holds", value=workers)
        yield GaugeMetricFamily("steadytext_store_tables", "Embedded tables", value=len(rows))
        state = GaugeMetricFamily(
            "steadytext_store_state", "1 for the state that an embedding is in", labels=(*LABELS, "state")
        )
        waiting = GaugeMetricFamily(
            "steadytext_store_rows", "Rows that wait, are in work, or failed", labels=(*LABELS, "state")
        )
        oldest = GaugeMetricFamily(
            "steadytext_store_oldest_seconds", "How long the longest waiting row has waited", labels=LABELS
        )
        embedded = CounterMetricFamily("steadytext_store_embedded_rows", "Vectors written", labels=LABELS)
        rate = GaugeMetricFamily("steadytext_store_rows_per_second", "Vectors written a second, lately", labels=LABELS)
        for table, destination, is_in, pending, processing, failed, seconds, written, speed in rows:
            names = [table, destination]
            state.add_metric([*names, is_in], 1)
            for name, count in (("pending", pending), ("processing", processing), ("failed", failed)):
                waiting.add_metric([*names, name], count)
            oldest.add_metric(names, seconds)
            embedded.add_metric(names, written)
            rate.add_metric(names, speed)
        yield from (state, waiting, oldest, embedded, rate)

    def _ask(self) -> tuple[list[tuple[str, str, str, int, int, int, float, int, float]], int]:
        settings = self._settings
        with psycopg.connect(
            host=settings.pg_host, port=settings.pg_port, dbname=settings.pg_database, user=settings.pg_user,
            application_name="pg_steadytext metrics", connect_timeout=CONNECT_SECONDS, prepare_threshold=None,
            client_encoding="UTF8",
        ) as connection:  # fmt: skip
            connection.execute(WORKER["prepare"], {"local": True})
            connection.execute(SQL["patience"], {"ms": str(ANSWER_MS)})
            rows = connection.execute(SQL["metrics"]).fetchall()
            ((workers,),) = connection.execute(SQL["workers"]).fetchall()
            return rows, workers
