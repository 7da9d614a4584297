-- Nothing for PUBLIC; each role exactly what its name says.
DO $$
DECLARE
    member record;
    audience text;
BEGIN
    FOR member IN
        SELECT p.oid::regprocedure AS signature,
               pg_catalog.regexp_replace(p.proname, '^(steadytext|st)_', '') AS name, p.proname
        FROM pg_catalog.pg_proc p
        JOIN pg_catalog.pg_depend d ON d.classid = 'pg_catalog.pg_proc'::regclass AND d.objid = p.oid AND d.deptype = 'e'
        JOIN pg_catalog.pg_extension e ON d.refclassid = 'pg_catalog.pg_extension'::regclass AND e.oid = d.refobjid
        WHERE e.extname = 'pg_steadytext'
    LOOP
        EXECUTE pg_catalog.format('REVOKE ALL ON FUNCTION %s FROM PUBLIC', member.signature);
        audience := CASE
            WHEN member.proname IN ('_steadytext_generate_stream') THEN 'steadytext_user'
            WHEN member.proname IN ('_steadytext_cache_unfolded', '_steadytext_frecency', '_steadytext_cache_fold',
                                    'steadytext_models_sync') THEN 'steadytext_admin'
            WHEN member.proname IN ('_steadytext_worker_register', '_steadytext_worker_renew', '_steadytext_worker_leave',
                                    '_steadytext_worker_sleep',
                                    '_steadytext_queue_claim', '_steadytext_queue_keep', '_steadytext_queue_cached', '_steadytext_queue_finish',
                                    '_steadytext_queue_fail', '_steadytext_queue_release', '_steadytext_queue_recover',
                                    '_steadytext_queue_next_due', '_steadytext_queue_lost') THEN 'steadytext_worker'
            WHEN member.proname LIKE '\_%' OR member.proname = 'steadytext_model_register' THEN NULL
            WHEN member.name IN ('version', 'config_get', 'cache_stats', 'cache_key') THEN 'steadytext_reader'
            WHEN member.name LIKE 'generate%' OR member.name LIKE 'embed%' OR member.name LIKE 'rerank%'
                OR member.name IN ('semantic_search', 'check_async', 'get_result', 'get_async_result', 'check_async_batch',
                                   'cancel_async', 'batch_status', 'check_rate_limit')
                THEN 'steadytext_user'
            ELSE 'steadytext_admin' END;
        IF audience IS NOT NULL THEN
            EXECUTE pg_catalog.format('GRANT EXECUTE ON FUNCTION %s TO %I', member.signature, audience);
        END IF;
    END LOOP;
END
$$;

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
