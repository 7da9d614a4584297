-- name: tables
SELECT table_name, destination::text, mode, state, reason, total, with_embeddings, pending + processing AS waiting, failed,
       coverage_percent, rate, estimated_end, index_state, replaces::text, outdated
FROM steadytext_store_stats ORDER BY table_name, destination;

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
