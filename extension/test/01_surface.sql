\ir setup.psql
SELECT plan(129);

SELECT has_function('steadytext_' || name) FROM unnest(ARRAY['generate', 'generate_stream', 'embed', 'embed_batch',
    'semantic_search', 'daemon_start', 'daemon_stop', 'daemon_status', 'version', 'generate_async', 'embed_async',
    'rerank_async', 'generate_batch_async', 'embed_batch_async', 'rerank_batch_async', 'check_async', 'get_result',
    'get_async_result', 'check_async_batch', 'cancel_async', 'batch_status', 'check_rate_limit', 'prompt_create',
    'prompt_update', 'prompt_get', 'prompt_render', 'prompt_list', 'prompt_versions', 'prompt_delete', 'prompt_diff',
    'generate_prompt', 'rerank',
    'rerank_docs_only', 'rerank_top_k', 'rerank_batch', 'index_create', 'index_add', 'index_search',
    'index_list', 'index_drop', 'health_check', 'cleanup_job', 'monitoring_enable', 'pre_migration_check',
    'migrate', 'generate_json', 'generate_regex', 'generate_choice', 'generate_json_async', 'generate_regex_async',
    'generate_choice_async', 'summarize', 'summarize_partial', 'summarize_final', 'summarize_accumulate',
    'summarize_combine', 'summarize_finalize', 'summarize_text', 'agg', 'extract_facts', 'deduplicate_facts',
    'filter', 'filter_batch', 'classify', 'classify_batch',
    'classify_scores', 'classify_scores_batch', 'extract', 'extract_batch', 'score', 'score_batch', 'similarity',
    'similarity_batch', 'translate', 'translate_batch', 'sentiment', 'sentiment_batch', 'mask', 'mask_batch',
    'autoembed', 'autoembed_status', 'autoembed_wait', 'autoembed_failures', 'store_metrics', 'search_context',
    'autoembed_row_status', 'autoembed_retry', 'autoembed_pause', 'autoembed_resume', 'autoembed_drop', 'autoembed_alter',
    'autoembed_run', 'autoembed_backfill', 'autoembed_reembed', 'autoembed_reembed_cancel', 'autoembed_switch', 'search']) name;
SELECT is_empty($$SELECT proname FROM pg_proc WHERE proname ~ '^(steadytext|st)_' AND prokind = 'a' AND proparallel <> 'u'$$,
    'no aggregate that asks the model runs in parts');
SELECT has_table(name) FROM unnest(ARRAY['steadytext_cache', 'steadytext_config', 'steadytext_models',
    'steadytext_daemon_health', 'steadytext_queue', 'steadytext_rate_limits', 'steadytext_audit_log',
    'steadytext_prompts', 'steadytext_prompt_versions', 'steadytext_indexes', '_steadytext_index_documents',
    'steadytext_version', 'steadytext_migrations', 'steadytext_autoembeddings']) name;
SELECT has_view(name) FROM unnest(ARRAY['steadytext_cache_with_frecency', 'steadytext_performance_dashboard',
    'steadytext_resource_dashboard', 'steadytext_error_analysis', 'steadytext_store_stats', 'steadytext_store_health']) name;
SELECT has_role(name) FROM unnest(ARRAY['steadytext_reader', 'steadytext_user', 'steadytext_admin', 'steadytext_remote',
    'steadytext_worker']) name;
SELECT volatility_is('steadytext_embed', 'stable');
SELECT volatility_is('steadytext_cache_key', 'immutable');
SELECT is((SELECT count(*) FROM pg_proc WHERE proname LIKE ANY ('{steadytext\_%,\_steadytext\_%,st\_%}')
           AND pronamespace = 'public'::regnamespace AND provolatile = 'i' AND prokind = 'f'
           AND proname NOT IN ('steadytext_cache_key', 'st_cache_key', '_steadytext_vector',
                               '_steadytext_is_size', '_steadytext_vector_text')), 0::bigint, 'nothing else is immutable');
SELECT is_empty($$
    SELECT p.proname FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace
    WHERE p.proname LIKE 'steadytext\_%' AND p.proname NOT LIKE 'steadytext\_model%' AND NOT EXISTS (
        SELECT FROM pg_proc a WHERE a.pronamespace = p.pronamespace AND a.proname = 'st_' || substr(p.proname, 12)
        AND pg_get_function_arguments(a.oid) = pg_get_function_arguments(p.oid)
        AND pg_get_function_result(a.oid) = pg_get_function_result(p.oid) AND a.provolatile = p.provolatile)
$$, 'every function has its st_ alias with the same arguments');
SELECT is(pg_get_function_arguments('steadytext_generate'::regproc),
    'prompt text, max_tokens integer DEFAULT NULL::integer, use_cache boolean DEFAULT true, seed integer DEFAULT 42, '
    'eos_string text DEFAULT ''[EOS]''::text, model text DEFAULT NULL::text, model_repo text DEFAULT NULL::text, '
    'model_filename text DEFAULT NULL::text, size text DEFAULT NULL::text, unsafe_mode boolean DEFAULT false, '
    'thinking_mode boolean DEFAULT false, temperature double precision DEFAULT 0', 'generate keeps SteadyText''s arguments');
SELECT is(st_version(), (SELECT extversion FROM pg_extension WHERE extname = 'pg_steadytext'), 'version is the extension''s');

SELECT * FROM finish();
ROLLBACK;
