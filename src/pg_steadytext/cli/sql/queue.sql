-- name: find_extension
-- Names below are the extension's, wherever it is.
SELECT pg_catalog.set_config('search_path', pg_catalog.quote_ident(n.nspname) || ', pg_catalog', false)
  FROM pg_catalog.pg_extension e JOIN pg_catalog.pg_namespace n ON n.oid = e.extnamespace
 WHERE e.extname = 'pg_steadytext';

-- name: status
SELECT lane, status, requests, pg_catalog.date_part('epoch', oldest) AS oldest FROM steadytext_queue_status();

-- name: workers
SELECT w.worker_id, w.name, pg_catalog.date_part('epoch', pg_catalog.now() - w.started_at) AS since,
       pg_catalog.date_part('epoch', w.lease_expires_at - pg_catalog.now()) AS lease,
       (SELECT pg_catalog.count(*) FROM steadytext_queue q
         WHERE q.status = 'processing' AND q.worker_id = w.worker_id) AS held
  FROM steadytext_workers w ORDER BY w.worker_id;

-- name: list
SELECT q.request_id::text, q.request_type, q.lane, q.status, q.priority, q.owner::text, q.user_id, q.created_at,
       q.due_at, q.completed_at, q.processing_time_ms, q.retry_count, q.max_retries, q.batch_id::text, q.error,
       pg_catalog.left(q.prompt, 200) AS prompt,
       pg_catalog.date_part('epoch', pg_catalog.now() - q.created_at) AS age
  FROM steadytext_queue q
 WHERE (%(status)s::text IS NULL OR q.status = %(status)s)
   AND (%(lane)s::text IS NULL OR q.lane = %(lane)s)
   AND (%(owner)s::text IS NULL OR q.owner = %(owner)s::name)
 ORDER BY q.id DESC LIMIT %(limit)s;

-- name: retry
SELECT steadytext_queue_retry(%(id)s::uuid) AS done;

-- name: cancel
SELECT steadytext_cancel_async(%(id)s::uuid) AS done;

-- name: dead_letters
SELECT d.request_id::text, d.request_type, d.lane, d.owner::text, d.user_id, pg_catalog.left(d.prompt, 200) AS prompt,
       d.error, d.retry_count, d.failed_at, d.history, d.history -> -1 ->> 'code' AS code,
       pg_catalog.jsonb_array_length(d.history) AS attempts,
       pg_catalog.date_part('epoch', pg_catalog.now() - d.failed_at) AS age
  FROM steadytext_dead_letters d
 WHERE %(lane)s::text IS NULL OR d.lane = %(lane)s
 ORDER BY d.failed_at DESC LIMIT %(limit)s;

-- name: count_dead_letters
SELECT pg_catalog.count(*) AS requests FROM steadytext_dead_letters d
 WHERE (%(lane)s::text IS NULL OR d.lane = %(lane)s)
   AND (%(older_than)s::interval IS NULL OR d.failed_at < pg_catalog.clock_timestamp() - %(older_than)s::interval);

-- name: requeue
SELECT steadytext_queue_requeue_dead(%(lane)s, %(older_than)s::interval) AS requests;

-- name: retention
SELECT coalesce(%(older_than)s::interval, pg_catalog.make_interval(
           days => steadytext_config_get('queue_retention_days')::integer))::text AS age;

-- name: count_finished
SELECT pg_catalog.count(*) AS requests FROM steadytext_queue q
 WHERE q.status IN ('completed', 'failed', 'cancelled')
   AND q.completed_at < pg_catalog.clock_timestamp() - %(older_than)s::interval;

-- name: purge
SELECT steadytext_queue_purge(%(older_than)s::interval, %(batch)s) AS requests;

-- name: listen
LISTEN steadytext_done;

-- name: progress
SELECT b.batch_id::text, b.total, b.pending, b.processing, b.completed, b.failed, b.cancelled, b.done, b.rate,
       pg_catalog.date_part('epoch', b.estimated_end - pg_catalog.clock_timestamp()) AS left
  FROM steadytext_batch_status(%(id)s::uuid) b;
