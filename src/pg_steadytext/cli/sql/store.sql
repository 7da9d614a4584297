-- name: tables
SELECT s.table_name, s.destination::text, s.mode, s.state, s.reason, s.total, s.with_embeddings,
       s.pending + s.processing AS waiting, s.pending, s.processing, s.failed, s.coverage_percent, s.rate, s.estimated_end,
       s.index_state, m.oldest_seconds, m.embedded AS written
FROM steadytext_store_stats s JOIN steadytext_store_metrics() m ON m.table_name = s.table_name AND m.destination = s.destination
ORDER BY s.table_name, s.destination;

-- name: layers
SELECT layer, source, ask, model, total, completed, pending, processing, failed FROM steadytext_layer_status();

-- name: health
SELECT overall_healthy, daemon_healthy, active_workers, queue_size, failed, broken FROM steadytext_store_health;
