-- name: is_there
-- A database of an older version has no automatic embedding.
SELECT EXISTS (
    SELECT FROM pg_catalog.pg_extension e JOIN pg_catalog.pg_proc p ON p.pronamespace = e.extnamespace
    WHERE e.extname = 'pg_steadytext' AND p.proname = '_steadytext_autoembed_claim') AS there;

-- name: claim
-- The columns are those of Piece, in its order. The lease is shortened as with requests of the queue.
SELECT work_id, attempt, priority, autoembed_id, version, model, remote, chunking::text, keys, words, codes, errors, pause
FROM _steadytext_autoembed_claim(%(worker)s, %(wanted)s)
WHERE work_id IS NULL OR %(lease)s::double precision IS NULL
   OR (SELECT _steadytext_worker_renew(%(worker)s, pg_catalog.make_interval(secs => %(lease)s::double precision)));

-- name: finish
SELECT _steadytext_autoembed_finish(
    %(worker)s, %(autoembed)s, %(version)s, %(works)s::bigint[], %(attempts)s::integer[], %(key_works)s::bigint[],
    %(keys)s::text[], %(digests)s::text[], %(vectors)s::text[], %(codes)s::text[], %(errors)s::text[]);

-- name: release
SELECT _steadytext_autoembed_release(
    %(worker)s, %(works)s::bigint[], pg_catalog.make_interval(secs => %(pause)s), %(lost)s);

-- name: look_after
SELECT _steadytext_autoembed_look_after();

-- name: unindexed
SELECT id, lock_key, statements FROM _steadytext_autoembed_unindexed();

-- name: advance
SELECT _steadytext_reembed_advance();

-- name: indexed
SELECT _steadytext_autoembed_indexed(%(autoembed)s, %(refusal)s);

-- name: builds_alone
-- A session lock: whoever builds holds it until that session ends. Who changes the table's declarations keeps it away.
SELECT pg_catalog.pg_try_advisory_lock(%(key)s);

-- name: patience
SELECT pg_catalog.set_config('statement_timeout', %(ms)s, true);

-- name: metrics
SELECT table_name, destination::text, state, pending, processing, failed, oldest_seconds, embedded, rate
FROM steadytext_store_metrics();

-- name: workers
SELECT pg_catalog.count(*) FROM steadytext_workers WHERE lease_expires_at > pg_catalog.clock_timestamp();
