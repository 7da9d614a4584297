-- The client's statements. {schema} is the extension's; psycopg.sql fills it in, and the names of what is asked for.

-- name: extension_schema
SELECT n.nspname
  FROM pg_catalog.pg_extension e JOIN pg_catalog.pg_namespace n ON n.oid = e.extnamespace
 WHERE e.extname = 'pg_steadytext';

-- name: submit
-- Options that the caller left out are the function's own defaults.
SELECT {schema}.{function}({arguments});

-- name: isolate
-- Each call is a transaction of its own, and must not fail because others queue at the same time.
SET default_transaction_isolation = 'read committed';

-- name: listen
LISTEN {channel};

-- name: unlisten
UNLISTEN {channel};

-- name: ended
-- Of the requests asked about, those that have ended, in that order, and at last those that nobody knows (status null).
-- This reads the table, under its row-level security, since steadytext_check_async_batch() refuses all where one is
-- unknown, and tells neither a request's type nor why it failed.
SELECT asked.id, q.status, q.request_type, q.result, q.embedding::text, q.error,
       CASE WHEN q.status = 'failed' THEN (
           SELECT e.code FROM {schema}.steadytext_queue_errors e
            WHERE e.request_id = q.request_id ORDER BY e.id DESC LIMIT 1) END
  FROM pg_catalog.unnest(%(ids)s::uuid[]) AS asked (id)
  LEFT JOIN {schema}.steadytext_queue q ON q.request_id = asked.id
 WHERE q.status IS NULL OR q.status IN ('completed', 'failed', 'cancelled')
 ORDER BY q.completed_at;

-- name: status
SELECT status FROM {schema}.steadytext_check_async(%(id)s::uuid);

-- name: cancel
SELECT {schema}.steadytext_cancel_async(%(id)s::uuid);
