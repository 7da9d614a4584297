-- name: tables
SELECT s.table_name, s.destination::text, s.mode, s.state, s.reason, s.total, s.with_embeddings,
       s.pending + s.processing AS waiting, s.pending, s.processing, s.failed, s.coverage_percent, s.rate, s.estimated_end,
       s.index_state, s.replaces::text, s.outdated, m.oldest_seconds, m.embedded AS written
FROM steadytext_store_stats s JOIN steadytext_store_metrics() m ON m.table_name = s.table_name AND m.destination = s.destination
ORDER BY s.table_name, s.destination;

-- name: layers
SELECT layer, source, ask, model, total, completed, pending, processing, failed FROM steadytext_layer_status();

-- name: health
SELECT overall_healthy, daemon_healthy, active_workers, queue_size, failed, broken FROM steadytext_store_health;

-- name: backfill
SELECT steadytext_autoembed_backfill(%(table)s::regclass, everything => %(everything)s, rate => %(rate)s, destination => %(destination)s);

-- name: reembed
SELECT steadytext_autoembed_reembed(%(table)s::regclass, %(model)s, %(destination)s) AS id;

-- name: cancel
SELECT steadytext_autoembed_reembed_cancel(%(table)s::regclass, %(destination)s) AS was_under_way;

-- name: pace
SELECT steadytext_autoembed_alter(%(table)s::regclass, backfill_rate => %(rate)s, destination => %(destination)s);

-- name: workers
-- Who looks for rows to embed, and what keeps these from being embedded by them.
SELECT h.active_workers AS workers, h.daemon_healthy,
       (SELECT CASE WHEN d.state <> 'active' THEN d.state WHEN d.mode = 'manual' THEN 'manual' END FROM steadytext_autoembeddings d
        WHERE d.relation = %(table)s::regclass AND d.replaces IS NULL
          AND (%(destination)s::text IS NULL OR d.destination = %(destination)s)) AS hindrance
FROM steadytext_store_health h;

-- name: progress
-- The place that is being filled: that declaration which is to replace another, also after it has.
SELECT s.id, s.table_name, s.model, s.backfill = 'done' AND s.backfill_rows >= s.backfill_total AND s.replaces IS NULL AS done,
       s.backfill_rows AS rows, s.backfill_total AS total, s.failed, s.rate,
       extract(epoch FROM s.estimated_end - clock_timestamp())::double precision AS left, s.state, s.reason
FROM steadytext_autoembed_status(%(table)s::regclass) s
WHERE %(destination)s::text IS NULL OR %(destination)s::text IN (s.destination, s.replaces)
ORDER BY s.id IS DISTINCT FROM %(anew)s, s.replaces IS NULL, s.id LIMIT 1;
