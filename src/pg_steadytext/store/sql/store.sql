-- Names in braces are identifiers or literals that Python fills in by psycopg.sql.

-- name: extension_schema
SELECT n.nspname FROM pg_catalog.pg_extension e JOIN pg_catalog.pg_namespace n ON n.oid = e.extnamespace
WHERE e.extname = 'pg_steadytext';

-- name: columns
SELECT a.attname FROM pg_catalog.pg_attribute a
WHERE a.attrelid = pg_catalog.to_regclass({name}) AND a.attnum > 0 AND NOT a.attisdropped;

-- name: has_triggers
SELECT pg_catalog.count(*) = 1 FROM pg_catalog.pg_trigger t
WHERE t.tgrelid = pg_catalog.to_regclass({name}) AND t.tgname = {trigger};

-- name: alone
-- Several processes that start at once make what is missing one after the other.
SELECT pg_catalog.pg_advisory_xact_lock(pg_catalog.hashtextextended('pg_steadytext store', 0));

-- name: declared
SELECT e.mode, e.model_name, e.dimensions FROM {steadytext}.steadytext_autoembeddings e
WHERE e.relation = pg_catalog.to_regclass({name}) AND e.destination = 'embedding';

-- name: declare
SELECT {steadytext}.steadytext_autoembed({name}::regclass, 'content', model => {model}, mode => {mode});

-- name: set_mode
SELECT {steadytext}.steadytext_autoembed_alter({name}::regclass, mode => {mode}, destination => 'embedding');

-- name: put
INSERT INTO {table} AS t (id, content, metadata)
SELECT g.id, g.content, g.metadata::jsonb
FROM ROWS FROM (unnest(%(ids)s::text[]), unnest(%(contents)s::text[]), unnest(%(metadata)s::text[])) AS g (id, content, metadata)
ORDER BY g.id
ON CONFLICT (id) DO UPDATE SET content = excluded.content, metadata = excluded.metadata;

-- name: get
SELECT t.id, t.content, t.metadata FROM {table} AS t WHERE t.id = ANY (%(ids)s::text[]);

-- name: delete
DELETE FROM {table} AS t WHERE t.id = ANY (%(ids)s::text[]);

-- name: embed
SELECT {steadytext}.steadytext_autoembed_run({name}::regclass, %(batch)s, 'embedding');

-- name: unembedded
-- Rows of these that were to have a vector and have none.
SELECT t.id, (SELECT f.error FROM {steadytext}.steadytext_autoembed_row_status({name}::regclass, t.id, 'embedding') f)
FROM {table} AS t WHERE t.id = ANY (%(ids)s::text[]) AND t.embedding IS NULL AND t.content ~ '\S';

-- name: search
SELECT t.id, s.content, s.score, s.similarity, t.metadata
FROM {steadytext}.steadytext_search({name}::regclass, %(query)s, %(k)s, %(mode)s, %(filter)s, destination => 'embedding') s
JOIN {table} AS t ON t.id = s.key ->> 'id'
ORDER BY s.score DESC, t.id;

-- name: row_status
SELECT r.retry_status, r.retry_count, r.max_retries, r.last_retry_at, r.error, EXISTS (SELECT FROM {table} AS t WHERE t.id = %(id)s)
FROM {steadytext}.steadytext_autoembed_row_status({name}::regclass, %(id)s, 'embedding') r;

-- name: stats
SELECT s.total, s.with_embeddings, s.pending, s.processing, s.failed, s.coverage_percent, s.success_rate, s.rate
FROM {steadytext}.steadytext_store_stats s WHERE s.relation = pg_catalog.to_regclass({name}) AND s.destination = 'embedding';

-- name: latency
-- Seconds from a row's write to its vector: the mean of the thousand latest rows.
SELECT coalesce(pg_catalog.avg(extract(epoch FROM l.embedded_at - l.updated_at)), 0)::double precision
FROM (SELECT t.embedded_at, t.updated_at FROM {table} AS t
      WHERE t.embedded_at >= t.updated_at ORDER BY t.created_at DESC LIMIT 1000) l;

-- name: health
SELECT h.overall_healthy, h.daemon_healthy, h.active_workers, h.queue_size, h.failed, h.broken
FROM {steadytext}.steadytext_store_health h;
