-- name: extension_is_there
SELECT EXISTS (SELECT FROM pg_catalog.pg_extension WHERE extname = 'pg_steadytext') AS there;

-- name: fold_hits
-- Hits are appended to a log when they happen; this adds them to the entries' counters.
SELECT _steadytext_cache_fold();

-- name: evict
SELECT steadytext_cache_scheduled_eviction();

-- name: sync_models
-- A daemon that has just started may have other models, or other weights, than the database knows of.
SELECT steadytext_models_sync();

-- name: daemon_is_healthy
INSERT INTO steadytext_daemon_health AS known
       (daemon_id, endpoint, last_heartbeat, status, version, uptime_seconds, models_loaded,
        total_requests, error_count, avg_response_time_ms, memory_usage_mb, active_connections)
VALUES ('default', %(endpoint)s, pg_catalog.now(), 'healthy', %(version)s, %(uptime)s, %(models)s,
        %(requests)s, %(errors)s, %(milliseconds)s, %(memory)s, %(connections)s)
ON CONFLICT (daemon_id) DO UPDATE
   SET endpoint = excluded.endpoint, last_heartbeat = excluded.last_heartbeat, status = excluded.status,
       version = excluded.version, uptime_seconds = excluded.uptime_seconds, models_loaded = excluded.models_loaded,
       total_requests = excluded.total_requests, error_count = excluded.error_count,
       avg_response_time_ms = excluded.avg_response_time_ms, memory_usage_mb = excluded.memory_usage_mb,
       active_connections = excluded.active_connections;

-- name: daemon_is_unhealthy
-- The heartbeat stays what it was: the moment the daemon was last seen alive.
UPDATE steadytext_daemon_health SET status = 'unhealthy', memory_usage_mb = NULL, active_connections = 0
 WHERE daemon_id = 'default' AND status = 'healthy';

-- name: lead
-- A session lock: held until the leader's session ends, however it ends.
SELECT pg_catalog.pg_try_advisory_lock(pg_catalog.hashtextextended('pg_steadytext worker leader', 0));

-- name: lead_for_now
-- Where a session lasts no longer than a transaction.
SELECT pg_catalog.pg_try_advisory_xact_lock(pg_catalog.hashtextextended('pg_steadytext worker leader', 0));

-- name: is_oldest
SELECT %(worker)s::bigint IS NOT NULL AND NOT EXISTS (
    SELECT FROM steadytext_workers w WHERE w.worker_id < %(worker)s::bigint AND w.lease_expires_at > pg_catalog.clock_timestamp());

-- name: is_kept_from_leading
-- Anybody may take an advisory lock: whether one has the leader's whose role is no worker's.
SELECT EXISTS (
    SELECT FROM pg_catalog.pg_locks l JOIN pg_catalog.pg_stat_activity a ON a.pid = l.pid
    WHERE l.locktype = 'advisory' AND l.granted AND l.objsubid = 1 AND a.datname = pg_catalog.current_database()
      AND (l.classid::bigint << 32) | l.objid::bigint = pg_catalog.hashtextextended('pg_steadytext worker leader', 0)
      AND NOT pg_catalog.pg_has_role(a.usesysid, 'steadytext_worker', 'MEMBER'));

-- name: cron_is_there
SELECT EXISTS (SELECT FROM pg_catalog.pg_extension WHERE extname = 'pg_cron') AS there;

-- name: cron_commands
SELECT command FROM cron.job WHERE active AND database = pg_catalog.current_database();

-- name: purge
SELECT steadytext_queue_purge(batch_size => %(rows)s);

-- name: cleanup_is_there
SELECT EXISTS (
    SELECT FROM pg_catalog.pg_extension e JOIN pg_catalog.pg_proc p ON p.pronamespace = e.extnamespace
    WHERE e.extname = 'pg_steadytext' AND p.proname = 'steadytext_cleanup_job') AS there;

-- name: clean
SELECT steadytext_cleanup_job();

-- name: queue_is_there
SELECT EXISTS (
    SELECT FROM pg_catalog.pg_extension e JOIN pg_catalog.pg_proc p ON p.pronamespace = e.extnamespace
    WHERE e.extname = 'pg_steadytext' AND p.proname = '_steadytext_worker_register') AS there;

-- name: is_standby
SELECT pg_catalog.pg_is_in_recovery();
