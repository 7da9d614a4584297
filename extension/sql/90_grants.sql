-- Nothing for PUBLIC; each role exactly what its name says. An update does it for new functions only.
DO $$
DECLARE
    member record;
    audience text;
BEGIN
    FOR member IN
        SELECT p.oid::regprocedure AS signature,
               pg_catalog.regexp_replace(p.proname, '^(steadytext|st|ai)_', '') AS name, p.proname
        FROM pg_catalog.pg_proc p
        JOIN pg_catalog.pg_depend d ON d.classid = 'pg_catalog.pg_proc'::regclass AND d.objid = p.oid AND d.deptype = 'e'
        JOIN pg_catalog.pg_extension e ON d.refclassid = 'pg_catalog.pg_extension'::regclass AND e.oid = d.refobjid
        WHERE e.extname = 'pg_steadytext'
          AND p.oid <> ALL (coalesce(pg_catalog.current_setting('pg_steadytext.functions_before', true), '{}')::oid[])
    LOOP
        EXECUTE pg_catalog.format('REVOKE ALL ON FUNCTION %s FROM PUBLIC', member.signature);
        audience := CASE
            WHEN member.proname IN ('_steadytext_generate_stream', '_steadytext_generate_hit', '_steadytext_embed_hit',
                                    '_steadytext_search_plan', '_steadytext_search_vector',
                                    '_steadytext_search_pending', '_steadytext_search_admitted',
                                    '_steadytext_search_check', '_steadytext_search_relations', '_steadytext_search_by_vector', '_steadytext_search_by_keyword',
                                    '_steadytext_search_texts', '_steadytext_search', '_steadytext_context_plan',
                                    '_steadytext_search_context_check', '_steadytext_chunks_joined') THEN 'steadytext_user'
            WHEN member.proname = '_steadytext_store_daemon' THEN 'steadytext_reader'
            WHEN member.proname IN ('_steadytext_cache_unfolded', '_steadytext_frecency', '_steadytext_cache_fold',
                                    '_steadytext_cache_import',
                                    'steadytext_models_sync') THEN 'steadytext_admin'
            WHEN member.proname IN ('_steadytext_worker_register', '_steadytext_worker_renew', '_steadytext_worker_leave',
                                    '_steadytext_worker_sleep',
                                    '_steadytext_queue_claim', '_steadytext_queue_keep', '_steadytext_queue_cached', '_steadytext_queue_finish',
                                    '_steadytext_queue_fail', '_steadytext_queue_release', '_steadytext_queue_recover',
                                    '_steadytext_queue_next_due', '_steadytext_queue_lost',
                                    '_steadytext_autoembed_claim', '_steadytext_autoembed_finish',
                                    '_steadytext_autoembed_release', '_steadytext_autoembed_look_after',
                                    '_steadytext_autoembed_unindexed', '_steadytext_autoembed_indexed', '_steadytext_reembed_advance',
                                    '_steadytext_layer_read', '_steadytext_layer_put') THEN 'steadytext_worker'
            WHEN member.proname LIKE '\_%' OR member.proname = 'steadytext_model_register' THEN NULL
            WHEN member.name LIKE 'prompt\_pattern\_%' THEN 'steadytext_admin'
            WHEN member.name IN ('version', 'config_get', 'cache_stats', 'cache_key', 'health_check') THEN 'steadytext_reader'
            WHEN member.name LIKE 'generate%' OR member.name LIKE 'embed%' OR member.name LIKE 'rerank%'
                OR member.name IN ('semantic_search', 'check_async', 'get_result', 'get_async_result', 'check_async_batch',
                                   'cancel_async', 'batch_status', 'check_rate_limit')
                OR member.name LIKE 'autoembed%' OR member.name LIKE 'layer%' OR member.name IN ('search', 'search_context', 'search_layers', 'store_metrics')
                OR member.name LIKE 'prompt\_%' OR member.name LIKE 'index\_%'
                OR member.name LIKE 'summarize%' OR member.name IN ('agg', 'extract_facts', 'deduplicate_facts')
                OR member.name ~ '^(filter|classify|classify_scores|extract|score|similarity|translate|sentiment|mask)(_batch)?$'
                THEN 'steadytext_user'
            ELSE 'steadytext_admin' END;
        IF audience IS NOT NULL THEN
            EXECUTE pg_catalog.format('GRANT EXECUTE ON FUNCTION %s TO %I', member.signature, audience);
        END IF;
    END LOOP;
END
$$;
