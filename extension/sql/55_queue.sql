-- The queue: one table that is the truth. A request waits (pending), is worked on under a worker's lease
-- (processing), and ends once: completed, failed or cancelled. Every change of state is one statement that names the
-- state it leaves, so that of two who would end a request one finds nothing to do.

CREATE TABLE @extschema@.steadytext_queue (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    request_id uuid NOT NULL DEFAULT pg_catalog.gen_random_uuid(),
    request_type text NOT NULL,
    lane text NOT NULL,
    status text NOT NULL DEFAULT 'pending'
        CHECK (status IN ('pending', 'processing', 'completed', 'failed', 'cancelled')),
    priority integer NOT NULL DEFAULT 5 CHECK (priority BETWEEN 1 AND 10),
    owner text NOT NULL,
    user_id text,
    session_id text,
    prompt text,
    prompts text[],
    params jsonb NOT NULL DEFAULT '{}',
    result text,
    results text[],
    embedding vector,
    embeddings vector[],
    error text,
    created_at timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
    due_at timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
    started_at timestamptz,
    completed_at timestamptz,
    processing_time_ms integer,
    attempt integer NOT NULL DEFAULT 0,
    retry_count integer NOT NULL DEFAULT 0,
    max_retries integer NOT NULL,
    worker_id bigint,
    daemon_endpoint text,
    batch_id uuid,
    dedupe_key text
) WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 20000,
        autovacuum_vacuum_cost_delay = 0, autovacuum_analyze_scale_factor = 0.2);

COMMENT ON COLUMN @extschema@.steadytext_queue.owner IS 'The role that asked, and that alone sees the request';
COMMENT ON COLUMN @extschema@.steadytext_queue.user_id IS 'Whom the owner asked for: a label of the application''s own';
COMMENT ON COLUMN @extschema@.steadytext_queue.lane IS 'Which of a worker''s runners takes it: generate, embed, rerank';
COMMENT ON COLUMN @extschema@.steadytext_queue.due_at IS 'Not before this moment; within a priority also the order';
COMMENT ON COLUMN @extschema@.steadytext_queue.attempt IS 'Counts claims; with worker_id it fences off whoever lost the lease';
COMMENT ON COLUMN @extschema@.steadytext_queue.worker_id IS
    'Who holds it; null unless it is processing. Compared by IS NOT DISTINCT FROM where the row is found by its id';

-- What a claim reads: the front of each lane and priority.
CREATE INDEX steadytext_queue_pending_idx ON @extschema@.steadytext_queue (lane, priority, due_at)
    WHERE status = 'pending';
-- Both what a worker holds and what an owner has: one index, since every claim and every end pays for each.
CREATE INDEX steadytext_queue_active_idx ON @extschema@.steadytext_queue (worker_id, owner)
    WHERE status IN ('pending', 'processing');
CREATE UNIQUE INDEX steadytext_queue_request_idx ON @extschema@.steadytext_queue (request_id);
-- With the id, so that workers who write the same batch write different pages.
CREATE INDEX steadytext_queue_batch_idx ON @extschema@.steadytext_queue (batch_id, id) WHERE batch_id IS NOT NULL;
CREATE INDEX steadytext_queue_failed_idx ON @extschema@.steadytext_queue (completed_at) WHERE status = 'failed';
CREATE UNIQUE INDEX steadytext_queue_dedupe_idx ON @extschema@.steadytext_queue (owner, dedupe_key)
    WHERE dedupe_key IS NOT NULL AND status IN ('pending', 'processing');

-- Every failed attempt of every request: a dead letter's history.
CREATE TABLE @extschema@.steadytext_queue_errors (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    request_id uuid NOT NULL,
    attempt integer NOT NULL,
    failed_at timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
    code text NOT NULL,
    message text NOT NULL,
    worker_id bigint
);
CREATE INDEX steadytext_queue_errors_request_idx ON @extschema@.steadytext_queue_errors (request_id);

-- Workers at work. A lease is the worker's, not the request's: one row to renew, however much it holds.
CREATE TABLE @extschema@.steadytext_workers (
    worker_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name text NOT NULL,
    started_at timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
    last_seen timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
    lease_expires_at timestamptz NOT NULL,
    sleeping text[]
) WITH (fillfactor = 50, autovacuum_vacuum_threshold = 50, autovacuum_vacuum_scale_factor = 0);

COMMENT ON COLUMN @extschema@.steadytext_workers.sleeping IS
    'Lanes for which it waits to be notified; null: all. A commit that notifies waits for all others that do';

CREATE FUNCTION @extschema@._steadytext_worker_register(name text, lease interval) RETURNS bigint
LANGUAGE sql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    INSERT INTO @extschema@.steadytext_workers (name, lease_expires_at)
    VALUES ($1, clock_timestamp() + $2) RETURNING worker_id
$$;

-- Renew the lease; false when it was taken away, and with it all that the worker held.
CREATE FUNCTION @extschema@._steadytext_worker_renew(worker bigint, lease interval) RETURNS boolean
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    UPDATE @extschema@.steadytext_workers w
    SET last_seen = clock_timestamp(), lease_expires_at = clock_timestamp() + lease
    WHERE w.worker_id = worker;
    RETURN FOUND;
END
$$;

-- Tell which lanes the worker is about to wait for. It looks once more afterwards, since a commit under way may have
-- been told before that nobody waits.
CREATE FUNCTION @extschema@._steadytext_worker_sleep(worker bigint, lanes text[]) RETURNS void
LANGUAGE sql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    UPDATE @extschema@.steadytext_workers SET sleeping = $2
    WHERE worker_id = $1 AND sleeping IS DISTINCT FROM $2
$$;

-- Lock the worker's row until its claim is visible to whoever would take its lease away.
CREATE FUNCTION @extschema@._steadytext_worker_keep(worker bigint) RETURNS void
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM FROM @extschema@.steadytext_workers w WHERE w.worker_id = worker FOR KEY SHARE;
    IF NOT FOUND THEN
        PERFORM @extschema@._steadytext_raise('P0002', format('there is no worker %s', worker),
            'Its lease expired and was taken away; it registers anew.');
    END IF;
END
$$;

-- Take up to `wanted` requests of a lane: highest priority first, within it the longest due; but up to `aged` of them
-- from the lowest priorities that have waited longer than queue_max_wait_seconds, so that no flood starves them.
-- `floors` (one moment for each priority, 1 to 10) lets a worker pass over what it has taken before: where a held
-- snapshot keeps dead rows in the index, reading from its very front would cost more with each claim.
CREATE FUNCTION @extschema@._steadytext_queue_claim(
    worker bigint, wanted_lane text, wanted integer, aged integer, floors timestamptz[]
) RETURNS TABLE (
    id bigint, request_id uuid, request_type text, attempt integer, priority integer, due_at timestamptz,
    prompt text, prompts text[], params jsonb
)
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
    picked tid[] := '{}'::tid[];
BEGIN
    PERFORM @extschema@._steadytext_worker_keep(worker);
    IF aged > 0 THEN
        picked := ARRAY(
            SELECT old.place FROM @extschema@._steadytext_settings s, generate_series(1, 10) p, LATERAL (
                SELECT q.ctid AS place FROM @extschema@.steadytext_queue q
                WHERE q.status = 'pending' AND q.lane = wanted_lane AND q.priority = p
                  AND q.due_at >= floors[p] AND q.due_at < now() - s.queue_max_wait
                ORDER BY q.due_at LIMIT aged FOR UPDATE SKIP LOCKED) old
            LIMIT aged);
    END IF;
    picked := picked || ARRAY(
        SELECT first.place FROM generate_series(10, 1, -1) p, LATERAL (
            SELECT q.ctid AS place FROM @extschema@.steadytext_queue q
            WHERE q.status = 'pending' AND q.lane = wanted_lane AND q.priority = p
              AND q.due_at >= floors[p] AND q.due_at <= clock_timestamp() AND q.ctid <> ALL (picked)
            ORDER BY q.due_at LIMIT wanted - cardinality(picked) FOR UPDATE SKIP LOCKED) first
        LIMIT wanted - cardinality(picked));
    RETURN QUERY
    UPDATE @extschema@.steadytext_queue q
    SET status = 'processing', worker_id = worker, attempt = q.attempt + 1, started_at = clock_timestamp()
    WHERE q.ctid = ANY (picked)  -- locked above, so still there
    RETURNING q.id, q.request_id, q.request_type, q.attempt, q.priority, q.due_at, q.prompt, q.prompts, q.params;
END
$$;

-- Write results, once each: ids of those that were still this worker's. Arrays run in parallel.
CREATE FUNCTION @extschema@._steadytext_queue_finish(
    worker bigint, ids bigint[], attempts integer[], answers text[], vectors text[], models text[], digests text[],
    took_ms integer[], endpoint text
) RETURNS SETOF bigint
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    finished bigint[];
BEGIN
    finished := ARRAY(SELECT @extschema@._steadytext_queue_write(worker, ids, attempts, answers, vectors, took_ms, endpoint));
    IF cardinality(finished) > 0 THEN
        PERFORM @extschema@._steadytext_queue_cache(finished, ids, answers, vectors, models, digests, took_ms);
        PERFORM pg_notify('steadytext_done', '');
    END IF;
    RETURN QUERY SELECT unnest(finished);
END
$$;

CREATE FUNCTION @extschema@._steadytext_queue_write(
    worker bigint, ids bigint[], attempts integer[], answers text[], vectors text[], took_ms integer[], endpoint text
) RETURNS SETOF bigint
LANGUAGE sql VOLATILE
BEGIN ATOMIC
    UPDATE @extschema@.steadytext_queue q
    SET status = 'completed', result = d.answer, embedding = d.vector::vector, error = NULL, worker_id = NULL,
        completed_at = pg_catalog.clock_timestamp(), processing_time_ms = d.took, daemon_endpoint = endpoint
    FROM ROWS FROM (pg_catalog.unnest(ids), pg_catalog.unnest(attempts), pg_catalog.unnest(answers),
                    pg_catalog.unnest(vectors), pg_catalog.unnest(took_ms)) AS d (id, attempt, answer, vector, took)
    WHERE q.id = d.id AND q.worker_id IS NOT DISTINCT FROM worker AND q.attempt = d.attempt
    RETURNING q.id;
END;

-- Keep the finished requests' answers, one statement for all that share their parameters.
CREATE FUNCTION @extschema@._steadytext_queue_cache(
    finished bigint[], ids bigint[], answers text[], vectors text[], models text[], digests text[], took_ms integer[]
) RETURNS void
LANGUAGE sql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
    SELECT @extschema@._steadytext_cache_store(
        array_agg(q.prompt), q.params -> 'cache', nullif(array_agg(d.answer), array_fill(NULL::text, ARRAY[count(*)::integer])),
        nullif(array_agg(d.vector), array_fill(NULL::text, ARRAY[count(*)::integer])), d.model, d.digest,
        (avg(d.took))::integer)
    FROM ROWS FROM (unnest(ids), unnest(answers), unnest(vectors), unnest(models), unnest(digests), unnest(took_ms))
        AS d (id, answer, vector, model, digest, took)
    JOIN @extschema@.steadytext_queue q ON q.id = d.id
    WHERE d.id = ANY (finished) AND d.digest IS NOT NULL AND q.params ? 'cache'
      AND coalesce(d.answer, d.vector) <> ''
    GROUP BY q.params -> 'cache', d.model, d.digest
$$;

-- The answers that the cache holds for claimed requests, so that no model is asked for them.
CREATE FUNCTION @extschema@._steadytext_queue_cached(ids bigint[])
RETURNS TABLE (id bigint, answer text, vector text)
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
BEGIN
    RETURN QUERY
    WITH found AS (
        SELECT q.id, c.id AS entry, c.response, c.embedding::text AS embedding
        FROM @extschema@.steadytext_queue q
        JOIN @extschema@.steadytext_cache c ON c.cache_key = @extschema@.steadytext_cache_key(q.prompt, q.params -> 'cache')
        WHERE q.id = ANY (ids) AND q.params ? 'cache'
    ), counted AS (
        INSERT INTO @extschema@._steadytext_cache_hits (entry_id) SELECT f.entry FROM found f
    )
    SELECT f.id, f.response, f.embedding FROM found f;
END
$$;

-- Note failed attempts: those that may be tried again wait, with full jitter on an exponential backoff; the others
-- are dead letters. A request is tried again where `retryable` says so and its retries are not used up.
CREATE FUNCTION @extschema@._steadytext_queue_fail(
    worker bigint, ids bigint[], attempts integer[], codes text[], messages text[], retryable boolean[]
) RETURNS SETOF bigint
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
    failed bigint[];
BEGIN
    WITH given AS (
        SELECT * FROM ROWS FROM (unnest(ids), unnest(attempts), unnest(codes), unnest(messages), unnest(retryable))
            AS d (id, attempt, code, message, again)
    ), changed AS (
        UPDATE @extschema@.steadytext_queue q
        SET status = CASE WHEN d.again AND q.retry_count < q.max_retries THEN 'pending' ELSE 'failed' END,
            completed_at = CASE WHEN d.again AND q.retry_count < q.max_retries THEN NULL ELSE clock_timestamp() END,
            due_at = CASE WHEN d.again AND q.retry_count < q.max_retries
                          THEN @extschema@._steadytext_queue_backoff(q.retry_count) ELSE q.due_at END,
            retry_count = q.retry_count + (d.again AND q.retry_count < q.max_retries)::integer,
            error = d.message, worker_id = NULL
        FROM given d
        WHERE q.id = d.id AND q.worker_id IS NOT DISTINCT FROM worker AND q.attempt = d.attempt
        RETURNING q.id, q.request_id, q.attempt, q.status, d.code, d.message
    ), noted AS (
        INSERT INTO @extschema@.steadytext_queue_errors (request_id, attempt, code, message, worker_id)
        SELECT c.request_id, c.attempt, c.code, c.message, worker FROM changed c
    )
    SELECT coalesce(array_agg(c.id), '{}') INTO failed FROM changed c;
    IF cardinality(failed) > 0 THEN
        PERFORM pg_notify('steadytext_done', ''), pg_notify('steadytext_queue', '');
    END IF;
    RETURN QUERY SELECT unnest(failed);
END
$$;

-- When to try again after so many retries: a random moment within a pause that doubles, at most five minutes.
CREATE FUNCTION @extschema@._steadytext_queue_backoff(retries integer) RETURNS timestamptz
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RETURN (SELECT clock_timestamp() + make_interval(
                secs => random() * least(300, s.queue_retry_seconds * 2.0 ^ least(retries, 20)))
            FROM @extschema@._steadytext_settings s);
END
$$;

-- Give requests back unharmed: the worker stops, or what they need is not there. Costs them no attempt.
CREATE FUNCTION @extschema@._steadytext_queue_release(
    worker bigint, ids bigint[], attempts integer[], pause interval DEFAULT '0'
) RETURNS bigint
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
    released bigint;
BEGIN
    UPDATE @extschema@.steadytext_queue q
    SET status = 'pending', worker_id = NULL, started_at = NULL,
        due_at = CASE WHEN pause > interval '0' THEN clock_timestamp() + pause ELSE q.due_at END
    FROM ROWS FROM (unnest(ids), unnest(attempts)) AS d (id, attempt)
    WHERE q.id = d.id AND q.worker_id IS NOT DISTINCT FROM worker AND q.attempt = d.attempt;
    GET DIAGNOSTICS released = ROW_COUNT;
    IF released > 0 THEN
        PERFORM pg_notify('steadytext_queue', '');
    END IF;
    RETURN released;
END
$$;

-- Give back all that a worker holds except what it names: what a claim took whose answer was lost with the connection.
CREATE FUNCTION @extschema@._steadytext_queue_keep(worker bigint, ids bigint[]) RETURNS bigint
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
    released bigint;
BEGIN
    UPDATE @extschema@.steadytext_queue q SET status = 'pending', worker_id = NULL, started_at = NULL
    WHERE q.status = 'processing' AND q.worker_id = worker AND q.id <> ALL (ids);
    GET DIAGNOSTICS released = ROW_COUNT;
    IF released > 0 THEN
        PERFORM pg_notify('steadytext_queue', '');
    END IF;
    RETURN released;
END
$$;

-- Take from workers whose lease has expired what they held: back into the queue, or a dead letter where the retries
-- are used up, since a request that ends its worker each time must not do so for ever. Returns how many.
CREATE FUNCTION @extschema@._steadytext_queue_recover() RETURNS bigint
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
    gone bigint;
    held bigint[];
    counts integer[];
    recovered bigint := 0;
BEGIN
    FOR gone IN
        DELETE FROM @extschema@.steadytext_workers w
        WHERE w.worker_id IN (SELECT e.worker_id FROM @extschema@.steadytext_workers e
                              WHERE e.lease_expires_at < clock_timestamp() FOR UPDATE SKIP LOCKED)
        RETURNING w.worker_id
    LOOP
        SELECT coalesce(array_agg(q.id), '{}'), coalesce(array_agg(q.attempt), '{}') INTO held, counts
        FROM @extschema@.steadytext_queue q WHERE q.status = 'processing' AND q.worker_id = gone;
        recovered := recovered + (
            SELECT count(*) FROM @extschema@._steadytext_queue_fail(
                gone, held, counts, array_fill('57P01'::text, ARRAY[cardinality(held)]),
                array_fill('the worker was lost while it worked on the request'::text, ARRAY[cardinality(held)]),
                array_fill(true, ARRAY[cardinality(held)])));
    END LOOP;
    RETURN recovered;
END
$$;

-- A worker that stops cleanly: nothing is held any more.
CREATE FUNCTION @extschema@._steadytext_worker_leave(worker bigint) RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
BEGIN
    PERFORM @extschema@._steadytext_queue_keep(worker, '{}');
    DELETE FROM @extschema@.steadytext_workers w WHERE w.worker_id = worker;
END
$$;

-- Seconds until something will be due that nobody will be told of: a delayed request of these lanes, or the end of a
-- lost worker's lease. Null when there is nothing to wait for.
CREATE FUNCTION @extschema@._steadytext_queue_next_due(lanes text[]) RETURNS double precision
LANGUAGE sql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT extract(epoch FROM least(
        (SELECT min(f.due_at) FROM unnest(lanes) l, generate_series(1, 10) p, LATERAL (
            SELECT q.due_at FROM @extschema@.steadytext_queue q
            WHERE q.status = 'pending' AND q.lane = l AND q.priority = p ORDER BY q.due_at LIMIT 1) f),
        (SELECT min(w.lease_expires_at) FROM @extschema@.steadytext_workers w)) - clock_timestamp())
$$;

-- Which of the requests that a worker holds were cancelled, or taken away, meanwhile.
CREATE FUNCTION @extschema@._steadytext_queue_lost(worker bigint, ids bigint[]) RETURNS SETOF bigint
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT i FROM unnest(ids) i
    WHERE NOT EXISTS (SELECT FROM @extschema@.steadytext_queue q
                      WHERE q.id = i AND q.worker_id IS NOT DISTINCT FROM worker)
$$;
