-- Relations: who reads what, and whose rows. Writing is for the functions alone. Topics later than 1.0.0 say it beside
-- their own tables.
GRANT SELECT ON @extschema@.steadytext_cache, @extschema@.steadytext_cache_with_frecency TO steadytext_admin;
GRANT SELECT ON @extschema@.steadytext_config, @extschema@.steadytext_models, @extschema@.steadytext_daemon_health
    TO steadytext_reader;

GRANT SELECT ON @extschema@.steadytext_queue, @extschema@.steadytext_queue_errors TO steadytext_reader;
GRANT SELECT ON @extschema@.steadytext_dead_letters, @extschema@.steadytext_workers, @extschema@.steadytext_audit_log,
    @extschema@.steadytext_rate_limits TO steadytext_admin;

-- A worker's duties beside the queue.
GRANT EXECUTE ON FUNCTION @extschema@._steadytext_cache_fold(), @extschema@.steadytext_cache_scheduled_eviction(),
    @extschema@.steadytext_models_sync(), @extschema@.steadytext_queue_purge(interval, integer) TO steadytext_worker;
GRANT SELECT, INSERT, UPDATE ON @extschema@.steadytext_daemon_health TO steadytext_worker;
GRANT SELECT ON @extschema@.steadytext_workers TO steadytext_worker;

-- A request is its owner's; administrators see all. Writing is for the functions alone.
ALTER TABLE @extschema@.steadytext_queue ENABLE ROW LEVEL SECURITY;
CREATE POLICY steadytext_queue_own ON @extschema@.steadytext_queue FOR SELECT TO steadytext_reader
    USING (owner = CURRENT_USER::text OR pg_catalog.pg_has_role('steadytext_admin', 'USAGE'));
ALTER TABLE @extschema@.steadytext_queue_errors ENABLE ROW LEVEL SECURITY;
CREATE POLICY steadytext_queue_errors_own ON @extschema@.steadytext_queue_errors FOR SELECT TO steadytext_reader
    USING (EXISTS (SELECT FROM @extschema@.steadytext_queue q WHERE q.request_id = steadytext_queue_errors.request_id));

ALTER TABLE @extschema@.steadytext_config ENABLE ROW LEVEL SECURITY;
CREATE POLICY steadytext_config_readable ON @extschema@.steadytext_config FOR SELECT TO steadytext_reader
    USING (key <> 'daemon_client_secret_key');
