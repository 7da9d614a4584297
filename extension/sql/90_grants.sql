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
            WHEN member.proname LIKE '\_%' OR member.proname = 'steadytext_model_register' THEN NULL
            WHEN member.name IN ('version', 'config_get', 'cache_stats', 'cache_key') THEN 'steadytext_reader'
            WHEN member.name LIKE 'generate%' OR member.name LIKE 'embed%' OR member.name = 'semantic_search'
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

ALTER TABLE @extschema@.steadytext_config ENABLE ROW LEVEL SECURITY;
CREATE POLICY steadytext_config_readable ON @extschema@.steadytext_config FOR SELECT TO steadytext_reader
    USING (key <> 'daemon_client_secret_key');
