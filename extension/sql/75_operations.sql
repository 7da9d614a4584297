-- What a person on call asks: how is it, how fast is it, what fails; and the work that keeps it small.

-- Every number of the last hour comes from requests that ended in it, not from those that began. Prompts are shown to
-- administrators only, whoever else may read the view.
CREATE VIEW @extschema@.steadytext_performance_dashboard AS
SELECT
    (SELECT pg_catalog.jsonb_build_object(
        'total_requests_1h', count(*) FILTER (WHERE q.created_at > pg_catalog.now() - interval '1 hour'),
        'completed_requests_1h', count(*) FILTER (WHERE q.status = 'completed' AND q.recent),
        'failed_requests_1h', count(*) FILTER (WHERE q.status = 'failed' AND q.recent),
        'cancelled_requests_1h', count(*) FILTER (WHERE q.status = 'cancelled' AND q.recent),
        'avg_latency_ms', avg(q.latency) FILTER (WHERE q.status = 'completed' AND q.recent),
        'p50_latency_ms', percentile_cont(0.5) WITHIN GROUP (ORDER BY q.latency) FILTER (WHERE q.status = 'completed' AND q.recent),
        'p95_latency_ms', percentile_cont(0.95) WITHIN GROUP (ORDER BY q.latency) FILTER (WHERE q.status = 'completed' AND q.recent),
        'p99_latency_ms', percentile_cont(0.99) WITHIN GROUP (ORDER BY q.latency) FILTER (WHERE q.status = 'completed' AND q.recent),
        'p50_processing_ms', percentile_cont(0.5) WITHIN GROUP (ORDER BY q.processing_time_ms) FILTER (WHERE q.status = 'completed' AND q.recent),
        'p95_processing_ms', percentile_cont(0.95) WITHIN GROUP (ORDER BY q.processing_time_ms) FILTER (WHERE q.status = 'completed' AND q.recent),
        'p99_processing_ms', percentile_cont(0.99) WITHIN GROUP (ORDER BY q.processing_time_ms) FILTER (WHERE q.status = 'completed' AND q.recent))
     FROM (SELECT r.status, r.created_at, r.processing_time_ms, r.completed_at > pg_catalog.now() - interval '1 hour' AS recent,
                  1000 * pg_catalog.date_part('epoch', r.completed_at - r.created_at) AS latency
           FROM @extschema@.steadytext_queue r) q) AS request_metrics,
    (SELECT pg_catalog.jsonb_build_object(
        'cache_entries', s.total_entries, 'cache_size_mb', s.total_size_mb, 'cache_hit_rate', s.cache_hit_rate,
        'most_accessed_prompts', CASE WHEN pg_catalog.pg_has_role('steadytext_admin', 'USAGE') THEN (
            SELECT pg_catalog.jsonb_agg(pg_catalog.jsonb_build_object('prompt', pg_catalog.left(t.prompt, 50), 'access_count', t.access_count)
                                        ORDER BY t.access_count DESC, t.id)
            FROM (SELECT c.id, c.prompt, c.access_count FROM @extschema@.steadytext_cache_with_frecency c
                  ORDER BY c.access_count DESC, c.id LIMIT 5) t) END)
     FROM @extschema@.steadytext_cache_stats() s) AS cache_metrics,
    (SELECT pg_catalog.jsonb_build_object(
        'models_used', pg_catalog.jsonb_agg(m.model_name ORDER BY m.model_name),
        'model_distribution', pg_catalog.jsonb_object_agg(m.model_name, m.answers),
        'avg_generation_time_ms', pg_catalog.jsonb_object_agg(m.model_name, m.took))
     FROM (SELECT c.model_name, count(*) AS answers, avg(c.generation_time_ms) AS took FROM @extschema@.steadytext_cache c
           WHERE c.created_at > pg_catalog.now() - interval '1 hour' GROUP BY c.model_name) m) AS model_metrics,
    (SELECT pg_catalog.jsonb_build_object(
        'healthy_daemons', count(*) FILTER (WHERE d.status = 'healthy'), 'total_daemons', count(*),
        'avg_daemon_memory_mb', avg(d.memory_usage_mb), 'total_daemon_requests', sum(d.total_requests),
        'daemon_errors', sum(d.error_count))
     FROM @extschema@.steadytext_daemon_health d) AS system_health;

CREATE VIEW @extschema@.steadytext_resource_dashboard AS
SELECT
    (SELECT pg_catalog.jsonb_build_object(
        'database_mb', pg_catalog.pg_database_size(pg_catalog.current_database()) / 1048576.0,
        'cache_mb', s.total_size_mb,
        'cache_table_mb', pg_catalog.pg_total_relation_size('@extschema@.steadytext_cache'::pg_catalog.regclass) / 1048576.0,
        'queue_table_mb', pg_catalog.pg_total_relation_size('@extschema@.steadytext_queue'::pg_catalog.regclass) / 1048576.0,
        'models_loaded', (SELECT pg_catalog.jsonb_agg(DISTINCT l.model)
                          FROM @extschema@.steadytext_daemon_health d, pg_catalog.unnest(d.models_loaded) AS l (model)))
     FROM @extschema@.steadytext_cache_stats() s) AS memory_stats,
    (SELECT pg_catalog.jsonb_build_object(
        'pending', count(*) FILTER (WHERE q.status = 'pending'),
        'processing', count(*) FILTER (WHERE q.status = 'processing'),
        'completed_1h', count(*) FILTER (WHERE q.status = 'completed' AND q.completed_at > pg_catalog.now() - interval '1 hour'),
        'failed_1h', count(*) FILTER (WHERE q.status = 'failed' AND q.completed_at > pg_catalog.now() - interval '1 hour'),
        'avg_wait_time_ms', avg(1000 * pg_catalog.date_part('epoch', q.started_at - q.created_at)) FILTER (WHERE q.started_at IS NOT NULL),
        'oldest_pending_seconds', pg_catalog.date_part('epoch', pg_catalog.now() - min(q.due_at) FILTER (
            WHERE q.status = 'pending' AND q.due_at <= pg_catalog.now())),
        'workers', (SELECT count(*) FROM @extschema@.steadytext_workers w WHERE w.lease_expires_at > pg_catalog.clock_timestamp()))
     FROM @extschema@.steadytext_queue q) AS queue_stats,
    (SELECT pg_catalog.jsonb_build_object(
        'healthy_daemons', count(*) FILTER (WHERE d.status = 'healthy'), 'total_daemons', count(*),
        'total_requests', sum(d.total_requests), 'avg_response_time_ms', avg(d.avg_response_time_ms))
     FROM @extschema@.steadytext_daemon_health d) AS daemon_stats,
    (SELECT pg_catalog.jsonb_build_object(
        'users_at_limit', count(*) FILTER (WHERE
            r.minute_arrival + interval '1 minute' / r.requests_per_minute > pg_catalog.now() + interval '1 minute'
            OR r.hour_arrival + interval '1 hour' / r.requests_per_hour > pg_catalog.now() + interval '1 hour'
            OR r.day_arrival + interval '1 day' / r.requests_per_day > pg_catalog.now() + interval '1 day'),
        'total_users', count(*))
     FROM @extschema@.steadytext_rate_limits r) AS rate_limit_stats;

-- Requests that failed for good in the last day, by hour and error.
CREATE VIEW @extschema@.steadytext_error_analysis AS
SELECT pg_catalog.date_trunc('hour', f.completed_at) AS error_hour, f.error, count(*) AS error_count,
       pg_catalog.array_agg(DISTINCT f.user_id) AS affected_users, min(f.completed_at) AS first_occurrence,
       max(f.completed_at) AS last_occurrence, f.request_type, f.code
FROM (SELECT q.completed_at, q.error, q.user_id, q.request_type,
             (SELECT e.code FROM @extschema@.steadytext_queue_errors e WHERE e.request_id = q.request_id
              ORDER BY e.id DESC LIMIT 1) AS code
      FROM @extschema@.steadytext_queue q
      WHERE q.status = 'failed' AND q.completed_at > pg_catalog.now() - interval '24 hours') f
GROUP BY pg_catalog.date_trunc('hour', f.completed_at), f.error, f.request_type, f.code
ORDER BY error_hour DESC, error_count DESC;

GRANT SELECT ON @extschema@.steadytext_performance_dashboard, @extschema@.steadytext_resource_dashboard,
    @extschema@.steadytext_error_analysis TO steadytext_admin;

CREATE FUNCTION @extschema@._steadytext_health_daemon() RETURNS jsonb
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    started constant timestamptz := clock_timestamp();
    answer json := @extschema@._steadytext_daemon_ask(1000);
BEGIN
    IF answer IS NULL THEN
        RETURN jsonb_build_object('status', 'fail', 'error', 'the daemon does not answer within a second',
                                  'endpoint', (SELECT s.endpoint FROM @extschema@._steadytext_settings s));
    END IF;
    RETURN jsonb_build_object('status', 'pass', 'latency_ms', @extschema@._steadytext_ms_since(started),
                              'version', answer ->> 'version', 'uptime_seconds', (answer ->> 'uptime_s')::numeric);
END
$$;

CREATE FUNCTION @extschema@._steadytext_health_database() RETURNS jsonb
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    oldest bigint;
BEGIN
    SELECT age(d.datfrozenxid) INTO oldest FROM pg_database d WHERE d.datname = current_database();
    RETURN jsonb_build_object('status', CASE WHEN oldest > 1900000000 THEN 'fail' WHEN oldest > 1500000000 THEN 'warn' ELSE 'pass' END,
                              'in_recovery', pg_is_in_recovery(), 'oldest_transaction_age', oldest);
END
$$;

-- The queue warns when it is nearly full, or when something has waited five times as long as nothing should.
CREATE FUNCTION @extschema@._steadytext_health_queue() RETURNS jsonb
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    settings @extschema@._steadytext_settings;
    depth bigint;
    waiting bigint;
    oldest double precision;
    workers bigint;
BEGIN
    SELECT s.* INTO settings FROM @extschema@._steadytext_settings s;
    SELECT count(*), count(*) FILTER (WHERE q.status = 'pending'),
           coalesce(extract(epoch FROM clock_timestamp() - min(q.due_at) FILTER (
               WHERE q.status = 'pending' AND q.due_at <= clock_timestamp())), 0)
    INTO depth, waiting, oldest
    FROM @extschema@.steadytext_queue q WHERE q.status IN ('pending', 'processing');
    SELECT count(*) INTO workers FROM @extschema@.steadytext_workers w WHERE w.lease_expires_at > clock_timestamp();
    RETURN jsonb_build_object(
        'queue', jsonb_build_object(
            'status', CASE WHEN depth > 0.9 * settings.max_queue_size
                             OR oldest > 5 * extract(epoch FROM settings.queue_max_wait) THEN 'warn' ELSE 'pass' END,
            'queue_depth', depth, 'threshold', settings.max_queue_size, 'oldest_seconds', round(oldest::numeric, 3)),
        'workers', jsonb_build_object(
            'status', CASE WHEN workers = 0 AND waiting > 0 THEN 'warn' ELSE 'pass' END, 'workers', workers, 'waiting', waiting));
END
$$;

CREATE FUNCTION @extschema@._steadytext_health_memory() RETURNS jsonb
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    used double precision;
    allowed integer := @extschema@.steadytext_config_get('cache_max_size_mb')::integer;
BEGIN
    SELECT s.total_size_mb INTO used FROM @extschema@.steadytext_cache_stats() s;
    RETURN jsonb_build_object(
        'status', CASE WHEN used > 1.1 * allowed THEN 'warn' ELSE 'pass' END, 'cache_mb', round(used::numeric, 3),
        'threshold_mb', allowed,
        'daemon_mb', (SELECT sum(d.memory_usage_mb) FROM @extschema@.steadytext_daemon_health d WHERE d.status = 'healthy'));
END
$$;

-- healthy: every check passes. degraded: something waits, is full, or is answered from the cache only. unhealthy: the
-- daemon is away and requests wait for it, or the database is about to refuse writes.
CREATE FUNCTION @extschema@.steadytext_health_check() RETURNS jsonb
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    checks jsonb := jsonb_build_object(
        'daemon', @extschema@._steadytext_health_daemon(), 'database', @extschema@._steadytext_health_database(),
        'memory', @extschema@._steadytext_health_memory()) || @extschema@._steadytext_health_queue();
    state text;
BEGIN
    state := CASE
        WHEN checks #>> '{database,status}' = 'fail' THEN 'unhealthy'
        WHEN checks #>> '{daemon,status}' = 'fail'
            AND 'warn' IN (checks #>> '{queue,status}', checks #>> '{workers,status}') THEN 'unhealthy'
        WHEN EXISTS (SELECT FROM jsonb_each(checks) c WHERE c.value ->> 'status' <> 'pass') THEN 'degraded'
        ELSE 'healthy' END;
    RETURN jsonb_build_object('status', state, 'timestamp', clock_timestamp(), 'version', @extschema@.steadytext_version(),
                              'checks', checks);
END
$$;

-- Forget what is older than its retention, call daemons unhealthy that nobody has heard of for five minutes, count hits
-- and evict. Returns what it did.
CREATE FUNCTION @extschema@.steadytext_cleanup_job() RETURNS jsonb
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    batch constant integer := 10000;
    purged bigint;
    requests bigint := 0;
    audited bigint;
    stale bigint;
    folded bigint;
    before bigint;
BEGIN
    LOOP
        purged := @extschema@.steadytext_queue_purge(NULL, batch);
        requests := requests + purged;
        EXIT WHEN purged < batch;
    END LOOP;
    DELETE FROM @extschema@.steadytext_audit_log a WHERE a."timestamp" < clock_timestamp() - make_interval(
        days => @extschema@.steadytext_config_get('audit_retention_days')::integer);
    GET DIAGNOSTICS audited = ROW_COUNT;
    UPDATE @extschema@.steadytext_daemon_health d SET status = 'unhealthy'
    WHERE d.status <> 'unhealthy' AND coalesce(d.last_heartbeat, '-infinity') < clock_timestamp() - interval '5 minutes';
    GET DIAGNOSTICS stale = ROW_COUNT;
    folded := @extschema@._steadytext_cache_fold();
    SELECT count(*) INTO before FROM @extschema@.steadytext_cache;
    PERFORM @extschema@.steadytext_cache_scheduled_eviction();
    RETURN jsonb_build_object('requests', requests, 'audit_entries', audited, 'stale_daemons', stale, 'folded_hits', folded,
                              'evicted', before - (SELECT count(*) FROM @extschema@.steadytext_cache));
END
$$;

GRANT EXECUTE ON FUNCTION @extschema@.steadytext_cleanup_job() TO steadytext_worker;

-- Let monitoring roles (pg_monitor) see the dashboards and the health check, and have pg_cron clean up each hour where
-- it is in this database. Returns what has been enabled.
CREATE FUNCTION @extschema@.steadytext_monitoring_enable() RETURNS jsonb
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    scheduled boolean := EXISTS (SELECT FROM pg_extension e WHERE e.extname = 'pg_cron');
BEGIN
    GRANT SELECT ON @extschema@.steadytext_performance_dashboard, @extschema@.steadytext_resource_dashboard,
        @extschema@.steadytext_error_analysis TO pg_monitor;
    GRANT EXECUTE ON FUNCTION @extschema@.steadytext_health_check(), @extschema@.st_health_check(),
        @extschema@.steadytext_cache_stats(), @extschema@._steadytext_cache_unfolded(),
        @extschema@._steadytext_frecency(bigint, timestamptz, timestamptz) TO pg_monitor;
    IF scheduled THEN
        EXECUTE format('SELECT cron.schedule(%L, %L, %L)', 'steadytext-cleanup', '0 * * * *',
                       'SELECT @extschema@.steadytext_cleanup_job()');
    END IF;
    PERFORM @extschema@._steadytext_audit('monitoring_enable', jsonb_build_object('pg_cron', scheduled));
    RETURN jsonb_build_object('pg_monitor', true, 'pg_cron', scheduled);
END
$$;
