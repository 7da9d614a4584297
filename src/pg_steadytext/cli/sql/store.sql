-- name: tables
SELECT table_name, destination::text, mode, state, reason, total, with_embeddings, pending + processing AS waiting, failed,
       coverage_percent, rate, estimated_end, index_state
FROM steadytext_store_stats ORDER BY table_name, destination;

-- name: layers
SELECT layer, source, ask, model, total, completed, pending, processing, failed FROM steadytext_layer_status();

-- name: health
SELECT overall_healthy, daemon_healthy, active_workers, queue_size, failed, broken FROM steadytext_store_health;
