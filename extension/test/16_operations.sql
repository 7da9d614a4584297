\ir setup.psql
SELECT plan(54);

-- health
SELECT steadytext_health_check() AS health \gset
SELECT is(:'health'::jsonb ->> 'status', 'healthy', 'all is well');
SELECT is((SELECT array_agg(key ORDER BY key) FROM jsonb_each(:'health'::jsonb -> 'checks')), ARRAY['daemon', 'database', 'memory', 'queue', 'workers'], 'five things are looked at');
SELECT ok((:'health'::jsonb #>> '{checks,daemon,latency_ms}')::integer < 1000, 'the daemon has answered');
SELECT is(:'health'::jsonb ->> 'version', steadytext_version(), 'the version is told');
SELECT steadytext_embed_async('waits', dedupe_key => 'w') AS request \gset
SELECT is(steadytext_health_check() ->> 'status', 'degraded', 'requests that wait for no worker degrade it');
SELECT is(st_health_check() #>> '{checks,workers,status}', 'warn', 'which it names');
SELECT _steadytext_worker_register('tap', '15 s') \g /dev/null
SELECT is(steadytext_health_check() ->> 'status', 'healthy', 'a worker heals that');
UPDATE steadytext_queue SET due_at = now() - interval '1 hour';
SELECT is(steadytext_health_check() #>> '{checks,queue,status}', 'warn', 'so does a request that waits too long');
SELECT ok((steadytext_health_check() #>> '{checks,queue,oldest_seconds}')::numeric >= 3600, 'and how long');
SELECT steadytext_config_get('daemon_port') AS right_port \gset
SELECT steadytext_config_set('daemon_auto_start', 'false') \g /dev/null
SELECT steadytext_config_set('daemon_port', '1') \g /dev/null
SELECT is(steadytext_health_check() ->> 'status', 'unhealthy', 'without a daemon and with a backlog nothing goes on');
DELETE FROM steadytext_queue;
SELECT is(steadytext_health_check() ->> 'status', 'degraded', 'without a daemon alone the cache still answers');
SELECT is(steadytext_health_check() #>> '{checks,daemon,status}', 'fail', 'and the daemon is named');
SELECT steadytext_config_set('daemon_port', :'right_port') \g /dev/null
SELECT steadytext_config_set('cache_max_size_mb', '0') \g /dev/null
SELECT length(steadytext_generate('Fill the cache.', 3)) \g /dev/null
SELECT is(steadytext_health_check() #>> '{checks,memory,status}', 'warn', 'a cache over its limit is told');

SELECT steadytext_daemon_status() \g /dev/null
SELECT ok(memory_usage_mb > 10 AND active_connections > 0 AND model_loaded = models_loaded, 'a daemon that is asked tells its memory and who is connected')
FROM steadytext_daemon_health;
SELECT is((steadytext_health_check() #>> '{checks,memory,daemon_mb}')::integer, memory_usage_mb, 'and the health check repeats it')
FROM steadytext_daemon_health;
SELECT ok((system_health ->> 'avg_daemon_memory_mb')::float > 10, 'as the dashboard does') FROM steadytext_performance_dashboard;

-- dashboards
INSERT INTO steadytext_queue (request_type, lane, status, owner, user_id, max_retries, created_at, started_at, completed_at, processing_time_ms, error)
SELECT 'embed', 'embed', 'completed', current_user, 'u', 3, now() - interval '30 s', now() - interval '29 s',
       now() - interval '30 s' + n * interval '100 ms', n * 10, NULL FROM generate_series(1, 101) n
UNION ALL
SELECT 'embed', 'embed', 'failed', current_user, 'user ' || n % 2, 3, now() - interval '30 s', now() - interval '29 s', now() - interval '10 s', NULL, 'boom'
FROM generate_series(1, 3) n
UNION ALL
SELECT 'embed', 'embed', 'failed', current_user, 'old', 3, now() - interval '2 days', NULL, now() - interval '2 days', NULL, 'long ago'
UNION ALL
SELECT 'embed', 'embed', 'pending', current_user, 'u', 3, now() - interval '10 s', NULL, NULL, NULL, NULL;
UPDATE steadytext_queue SET due_at = created_at;
INSERT INTO steadytext_queue_errors (request_id, attempt, code, message) SELECT request_id, 1, '58000', 'boom' FROM steadytext_queue WHERE error = 'boom';
SELECT request_metrics AS requests, cache_metrics AS cache, model_metrics AS models, system_health AS health FROM steadytext_performance_dashboard \gset
SELECT is(:'requests'::jsonb ->> 'completed_requests_1h', '101', 'completed requests are counted');
SELECT is(:'requests'::jsonb ->> 'failed_requests_1h', '3', 'failed ones of the hour too');
SELECT is((:'requests'::jsonb ->> 'p50_processing_ms')::float, 510::float, 'the median of the processing time');
SELECT is((:'requests'::jsonb ->> 'p95_processing_ms')::float, 960::float, 'its 95th percentile');
SELECT is((:'requests'::jsonb ->> 'p99_processing_ms')::float, 1000::float, 'its 99th');
SELECT is(round((:'requests'::jsonb ->> 'p95_latency_ms')::numeric), 9600::numeric, 'latency counts the wait');
SELECT is((:'cache'::jsonb ->> 'cache_entries')::bigint, (SELECT total_entries FROM steadytext_cache_stats()), 'the cache is counted');
SELECT is((:'cache'::jsonb ->> 'cache_hit_rate')::float, (SELECT cache_hit_rate FROM steadytext_cache_stats()), 'with its hit rate');
SELECT is(:'cache'::jsonb #>> '{most_accessed_prompts,0,prompt}', 'Fill the cache.', 'and what is asked most');
SELECT is(:'models'::jsonb #>> '{model_distribution,smollm2-135m-instruct}', '1', 'models that answered');
SELECT ok(:'health'::jsonb ? 'healthy_daemons', 'daemons');
SELECT results_eq('SELECT error_count, error, affected_users, request_type, code FROM steadytext_error_analysis',
    $$VALUES (3::bigint, 'boom', ARRAY['user 0', 'user 1'], 'embed', '58000')$$, 'errors of a day by hour, with whom they met');
SELECT queue_stats AS queue, memory_stats AS memory FROM steadytext_resource_dashboard \gset
SELECT is(:'queue'::jsonb ->> 'pending', '1', 'what waits');
SELECT is((:'queue'::jsonb ->> 'oldest_pending_seconds')::float, 10::float, 'and how long');
SELECT is(:'queue'::jsonb ->> 'workers', '1', 'workers at work');
SELECT is((:'queue'::jsonb ->> 'avg_wait_time_ms')::float, 1000::float, 'how long requests waited');
SELECT ok((:'memory'::jsonb ->> 'database_mb')::float > 1, 'the size of the database');
SELECT steadytext_rate_limit_set('limited', 1) \g /dev/null
SELECT is(rate_limit_stats, '{"total_users": 1, "users_at_limit": 0}', 'nobody is at a limit') FROM steadytext_resource_dashboard;
SELECT steadytext_check_rate_limit('limited') \g /dev/null
SELECT is(rate_limit_stats, '{"total_users": 1, "users_at_limit": 1}', 'now one is') FROM steadytext_resource_dashboard;

-- cleaning up
UPDATE steadytext_queue SET completed_at = now() - interval '8 days' WHERE status = 'failed';
INSERT INTO steadytext_audit_log ("timestamp", user_id, action) VALUES (now() - interval '31 days', 'tap', 'old'), (now() - interval '29 days', 'tap', 'kept');
INSERT INTO steadytext_daemon_health (daemon_id, endpoint, status, last_heartbeat) VALUES ('lost', 'tcp://x:1', 'healthy', now() - interval '6 minutes');
SELECT steadytext_cleanup_job() AS done \gset
SELECT is(:'done'::jsonb - 'folded_hits' - 'stale_daemons', '{"requests": 4, "audit_entries": 1, "evicted": 1}', 'old requests, old audit entries and too large a cache are gone');
SELECT is((SELECT status FROM steadytext_daemon_health WHERE daemon_id = 'lost'), 'unhealthy', 'a silent daemon is unhealthy');
SELECT is((SELECT array_agg(action) FROM steadytext_audit_log WHERE user_id = 'tap'), ARRAY['kept'], 'younger audit entries stay');
SELECT is(st_cleanup_job() - 'stale_daemons' - 'folded_hits', '{"requests": 0, "audit_entries": 0, "evicted": 0}', 'once');

SELECT steadytext_rate_limit_set('counted', 9) \g /dev/null
UPDATE steadytext_rate_limits SET last_reset_hour = now() - interval '2 hours' WHERE user_id = 'counted';
SELECT steadytext_check_rate_limit('counted') \g /dev/null
SELECT ok(last_reset > now() AND last_reset = last_reset_hour, 'a count that began anew is told') FROM steadytext_rate_limits WHERE user_id = 'counted';

-- audit of administrative acts
SELECT is((SELECT details FROM steadytext_audit_log WHERE action = 'config_set' ORDER BY id DESC LIMIT 1), '{"key": "cache_max_size_mb", "from": 500, "to": 0}', 'who set what');
SELECT steadytext_config_set('daemon_client_secret_key', repeat('a', 40)) \g /dev/null
SELECT is((SELECT details FROM steadytext_audit_log WHERE action = 'config_set' ORDER BY id DESC LIMIT 1), '{"key": "daemon_client_secret_key"}', 'but no secret');
SELECT ok(bool_and(event_type = action AND created_at = "timestamp"), 'and when, under two names each') FROM steadytext_audit_log;
SELECT steadytext_cache_clear() \g /dev/null
SELECT ok(EXISTS (SELECT FROM steadytext_audit_log WHERE action = 'cache_clear'), 'who cleared the cache');
SELECT steadytext_model_register('tap-model', 'generation', filename => 'tap.gguf') \g /dev/null
SELECT is((SELECT details ->> 'filename' FROM steadytext_audit_log WHERE action = 'model_register'), 'tap.gguf', 'who registered a model');

-- versions
SELECT is((SELECT version FROM steadytext_version ORDER BY installed_at DESC LIMIT 1), steadytext_version(), 'the version''s history ends with it');
SELECT is(status, 'PASS', 'there is a way to stay') FROM steadytext_pre_migration_check(steadytext_version()) WHERE check_name = 'update_path';
SELECT is(status, 'FAIL', 'but none to a version that is not there') FROM st_pre_migration_check('99.0') WHERE check_name = 'update_path';
SELECT is(count(*), 7::bigint, 'seven checks') FROM steadytext_pre_migration_check('99.0');
SELECT throws_ok($$SELECT steadytext_migrate('99.0')$$, '22023', NULL, 'which is refused');
SELECT throws_ok($$SELECT steadytext_migrate(NULL)$$, '22004', 'target_version cannot be null');
SELECT lives_ok(format('SELECT steadytext_migrate(%L)', steadytext_version()), 'staying is nothing to do');
SELECT is(steadytext_monitoring_enable() ->> 'pg_monitor', 'true', 'monitoring roles are let in');
SELECT ok(has_table_privilege('pg_monitor', 'steadytext_resource_dashboard', 'SELECT')
          AND has_function_privilege('pg_monitor', 'steadytext_health_check()', 'EXECUTE'), 'to the dashboards and the health check');

SELECT * FROM finish();
ROLLBACK;
