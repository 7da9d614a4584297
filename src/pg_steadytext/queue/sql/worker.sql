-- name: register
SELECT _steadytext_worker_register(%(name)s, pg_catalog.make_interval(secs => %(lease)s));

-- name: renew
SELECT _steadytext_worker_renew(%(worker)s, pg_catalog.make_interval(secs => %(lease)s));

-- name: sleep
SELECT _steadytext_worker_sleep(%(worker)s, %(lanes)s::text[]);

-- name: claim
-- The columns are those of Job, in its order. No moment is older than a Python datetime can say. Where a claim takes the
-- first that this worker holds, its lease is shortened with it: nobody is to wait for a long one should the worker be lost
-- now. Asked of each row, since what depends on none would be done before the claim.
SELECT id, request_id::text, request_type, attempt, priority,
       GREATEST(due_at, '0100-01-01+00'::timestamptz), prompt, prompts, params::text, params ? 'cache'
FROM _steadytext_queue_claim(%(worker)s, %(lane)s, %(wanted)s, %(aged)s, %(floors)s::timestamptz[])
WHERE id IS NULL OR %(lease)s::double precision IS NULL
   OR (SELECT _steadytext_worker_renew(%(worker)s, pg_catalog.make_interval(secs => %(lease)s::double precision)));

-- name: cached
SELECT id, answer, vector FROM _steadytext_queue_cached(%(ids)s::bigint[]);

-- name: finish
SELECT pg_catalog.count(*) FROM _steadytext_queue_finish(
    %(worker)s, %(ids)s::bigint[], %(attempts)s::integer[], %(answers)s::text[], %(vectors)s::text[],
    %(models)s::text[], %(digests)s::text[], %(took_ms)s::integer[], %(endpoint)s);

-- name: fail
SELECT pg_catalog.count(*) FROM _steadytext_queue_fail(
    %(worker)s, %(ids)s::bigint[], %(attempts)s::integer[], %(codes)s::text[], %(messages)s::text[],
    %(retryable)s::boolean[]);

-- name: release
SELECT _steadytext_queue_release(
    %(worker)s, %(ids)s::bigint[], %(attempts)s::integer[], pg_catalog.make_interval(secs => %(pause)s));

-- name: keep
-- Give back what this worker took without ever hearing of it.
SELECT _steadytext_queue_keep(%(worker)s, %(ids)s::bigint[]);

-- name: lost
SELECT _steadytext_queue_lost(%(worker)s, %(ids)s::bigint[]);

-- name: recover
SELECT _steadytext_queue_recover();

-- name: next_due
SELECT _steadytext_queue_next_due(%(lanes)s::text[]);

-- name: leave
SELECT _steadytext_worker_leave(%(worker)s);

-- name: announce
SELECT pg_catalog.pg_notify(%(channel)s, %(payload)s);

-- name: prepare_claims
-- A claim that a crash forgets leaves its requests pending, which harms nobody; so it need not wait for the disk. Nor
-- does the writing of an embedding, which ends its work in the same transaction. The rest as in `prepare`.
SELECT pg_catalog.set_config('synchronous_commit', 'off', %(local)s), pg_catalog.set_config('jit', 'off', %(local)s),
       pg_catalog.set_config('default_transaction_isolation', 'read committed', %(local)s),
       pg_catalog.set_config('statement_timeout', '0', %(local)s), pg_catalog.set_config('lock_timeout', '0', %(local)s),
       pg_catalog.set_config('idle_session_timeout', '0', %(local)s),
       pg_catalog.set_config('search_path', pg_catalog.quote_ident(n.nspname) || ', pg_temp', %(local)s)
FROM pg_catalog.pg_extension e JOIN pg_catalog.pg_namespace n ON n.oid = e.extnamespace
WHERE e.extname = 'pg_steadytext';

-- name: prepare
-- The extension's functions are found in the schema that it was created in. What a database or role sets for its
-- people's sessions would cost a worker results: a write that cannot be serialized, or that a limit ends, is an attempt lost.
SELECT pg_catalog.set_config('jit', 'off', %(local)s),
       pg_catalog.set_config('default_transaction_isolation', 'read committed', %(local)s),
       pg_catalog.set_config('statement_timeout', '0', %(local)s), pg_catalog.set_config('lock_timeout', '0', %(local)s),
       pg_catalog.set_config('idle_session_timeout', '0', %(local)s),
       pg_catalog.set_config('search_path', pg_catalog.quote_ident(n.nspname) || ', pg_temp', %(local)s)
FROM pg_catalog.pg_extension e JOIN pg_catalog.pg_namespace n ON n.oid = e.extnamespace
WHERE e.extname = 'pg_steadytext';

-- name: listen_queue
LISTEN steadytext_queue;

-- name: listen_cancel
LISTEN steadytext_cancel;

-- name: alive
SELECT 1;
