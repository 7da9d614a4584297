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
SELECT steadytext_autoembed_reembed(%(table)s::regclass, %(model)s, %(destination)s);

-- name: cancel
SELECT steadytext_autoembed_reembed_cancel(%(table)s::regclass, %(destination)s) AS was_under_way;

-- name: pace
SELECT steadytext_autoembed_alter(%(table)s::regclass, backfill_rate => %(rate)s, destination => %(destination)s);

-- name: progress
-- The place that is being filled, which is another one while a model is replaced.
SELECT table_name, model, backfill = 'done' AND backfill_rows >= backfill_total AND replaces IS NULL AS done, backfill_rows AS rows,
       backfill_total AS total, failed, rate, extract(epoch FROM estimated_end - clock_timestamp())::double precision AS left, reason
FROM steadytext_autoembed_status(%(table)s::regclass)
WHERE %(destination)s::text IS NULL OR %(destination)s::text IN (destination, replaces)
ORDER BY replaces IS NULL, id LIMIT 1;
