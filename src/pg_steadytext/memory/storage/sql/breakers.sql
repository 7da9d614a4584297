-- name: rules
SELECT window_seconds, least_calls, failure_rate, slow_rate, slow_ms, cost_micros, open_seconds, probe_seconds
FROM memory.ai_breaker_rules WHERE name IN (%(name)s, '*') ORDER BY name = '*' LIMIT 1;

-- name: read
SELECT state, reason, retry_at, probe, probe_ends, revision, pg_catalog.clock_timestamp()
FROM memory.ai_breakers WHERE name = %(name)s;

-- name: make
INSERT INTO memory.ai_breakers (name) VALUES (%(name)s) ON CONFLICT DO NOTHING;

-- name: lock
SELECT state, reason, retry_at, probe, probe_ends, revision, pg_catalog.clock_timestamp()
FROM memory.ai_breakers WHERE name = %(name)s FOR NO KEY UPDATE;

-- name: write
UPDATE memory.ai_breakers
SET state = %(state)s, reason = %(reason)s, retry_at = %(retry_at)s, probe = %(probe)s, probe_ends = %(probe_ends)s,
    revision = %(revision)s, changed_at = pg_catalog.clock_timestamp()
WHERE name = %(name)s;

-- name: forget
-- What was counted before a change says nothing about what comes after it.
DELETE FROM memory.ai_breaker_calls WHERE name = %(name)s;

-- name: alert
SELECT memory.raise_alert(%(key)s, 'breaker', %(detail)s);

-- name: count
SELECT calls, failures, slow, cost_micros
FROM memory.breaker_count(%(name)s, %(revision)s, %(failed)s, %(slow)s, %(cost)s, %(window)s);
