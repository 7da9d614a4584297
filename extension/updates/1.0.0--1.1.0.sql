-- What is there already has its aliases and its rights, perhaps also those that an administrator gave: 80_aliases and
-- 90_grants are for functions that this list does not name.
SELECT pg_catalog.set_config('pg_steadytext.functions_before', pg_catalog.array_agg(d.objid)::pg_catalog.text, true)
FROM pg_catalog.pg_depend d JOIN pg_catalog.pg_extension e ON e.oid = d.refobjid
WHERE d.refclassid = 'pg_catalog.pg_extension'::pg_catalog.regclass AND d.deptype = 'e'
  AND d.classid = 'pg_catalog.pg_proc'::pg_catalog.regclass AND e.extname = 'pg_steadytext';

-- These have more arguments now.
DROP FUNCTION @extschema@.st_rerank_async, @extschema@.st_rerank_batch_async,
    @extschema@.steadytext_rerank_async, @extschema@.steadytext_rerank_batch_async,
    @extschema@._steadytext_rerank_prepare;

INSERT INTO @extschema@.steadytext_models (name, kind, context_length)
VALUES ('qwen3-reranker-4b', 'rerank', 8192), ('bge-reranker-mini', 'rerank', 512) ON CONFLICT (name) DO NOTHING;
ALTER TABLE @extschema@.steadytext_daemon_health ADD COLUMN model_loaded text[] GENERATED ALWAYS AS (models_loaded) STORED;
COMMENT ON COLUMN @extschema@.steadytext_daemon_health.model_loaded IS 'models_loaded under the name that some dashboards ask for';

ALTER TABLE @extschema@._steadytext_settings ADD COLUMN prompt_policy text;
COMMENT ON COLUMN @extschema@._steadytext_settings.prompt_policy IS 'Null while it is off';
COMMENT ON COLUMN @extschema@._steadytext_settings.generation_key IS
    'The model part of a cache key''s canonical parameters; null where no answer may be given unseen';
COMMENT ON COLUMN @extschema@._steadytext_settings.generation_params IS
    'The cache key''s canonical parameters of a call that names none; null where no answer may be given unseen';

ALTER TABLE @extschema@._steadytext_settings ADD COLUMN hit_sampling integer NOT NULL DEFAULT 1,
    ADD COLUMN owner_code_seconds integer NOT NULL DEFAULT 30;
ALTER TABLE @extschema@._steadytext_cache_hits ADD COLUMN hits integer NOT NULL DEFAULT 1;
ALTER TABLE @extschema@.steadytext_cache SET (autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_insert_scale_factor = 0.02);
INSERT INTO @extschema@._steadytext_config_keys (key, kind, default_value, minimum, maximum, description)
VALUES ('cache_hit_sampling', 'integer', '1', 1, 1000, 'Count one hit in so many, as that many; 1 counts each'),
    ('owner_code_seconds', 'integer', '30', 1, 3600, 'Seconds that code of a table''s owner may run in a worker before it is cancelled');
INSERT INTO @extschema@.steadytext_config (key, value, description)
SELECT key, default_value, description FROM @extschema@._steadytext_config_keys WHERE key IN ('cache_hit_sampling', 'owner_code_seconds');

GRANT SELECT ON @extschema@.steadytext_workers TO steadytext_worker;

DROP INDEX @extschema@.steadytext_queue_batch_idx;
CREATE INDEX steadytext_queue_batch_idx ON @extschema@.steadytext_queue (batch_id, id) WHERE batch_id IS NOT NULL;

-- Columns that SteadyText's own extension has. Calls lock the settings before these tables, so the update does.
ALTER TABLE @extschema@.steadytext_rate_limits ADD COLUMN last_reset timestamptz NOT NULL DEFAULT pg_catalog.now();
COMMENT ON COLUMN @extschema@.steadytext_rate_limits.last_reset IS 'When one of the counts last began anew';
ALTER TABLE @extschema@.steadytext_audit_log ADD COLUMN event_id uuid NOT NULL DEFAULT pg_catalog.gen_random_uuid(),
    ADD COLUMN event_type text GENERATED ALWAYS AS (action) STORED,
    ADD COLUMN created_at timestamptz GENERATED ALWAYS AS ("timestamp") STORED;
COMMENT ON COLUMN @extschema@.steadytext_audit_log.event_type IS 'action under the name that SteadyText''s own log has for it';
COMMENT ON COLUMN @extschema@.steadytext_audit_log.created_at IS '"timestamp" under the name that SteadyText''s own log has for it';
