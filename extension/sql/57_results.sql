-- What became of asynchronous requests: looked at, waited for, cancelled.

-- A request of the caller's, or anybody's for an administrator; another's is as unknown as one that never was.
CREATE FUNCTION @extschema@._steadytext_queue_find(wanted uuid) RETURNS @extschema@.steadytext_queue
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    request @extschema@.steadytext_queue;
BEGIN
    IF wanted IS NULL THEN
        PERFORM @extschema@._steadytext_raise('22004', 'request_id cannot be null');
    END IF;
    SELECT q.* INTO request FROM @extschema@.steadytext_queue q
    WHERE q.request_id = wanted AND (q.owner = @extschema@._steadytext_caller()::text
                                     OR @extschema@._steadytext_caller_is('steadytext_admin'));
    IF request.id IS NULL THEN
        PERFORM @extschema@._steadytext_raise('P0002', format('there is no request %s', wanted),
            'Requests belong to the role that queued them, and finished ones are kept for queue_retention_days.');
    END IF;
    RETURN request;
END
$$;

CREATE FUNCTION @extschema@.steadytext_check_async(
    request_id uuid, OUT status text, OUT result text, OUT results text[], OUT embedding vector, OUT embeddings vector[],
    OUT error text, OUT created_at timestamptz, OUT completed_at timestamptz, OUT processing_time_ms integer,
    OUT request_type text
) RETURNS SETOF record
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
BEGIN
    RETURN QUERY SELECT q.status, q.result, q.results, q.embedding, q.embeddings, q.error, q.created_at, q.completed_at,
                        q.processing_time_ms, q.request_type
                 FROM @extschema@._steadytext_queue_find($1) q;
END
$$;

CREATE FUNCTION @extschema@.steadytext_get_result(request_id uuid, OUT status text, OUT result text, OUT error text)
RETURNS SETOF record
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
BEGIN
    RETURN QUERY SELECT q.status, coalesce(q.result, @extschema@._steadytext_vector_text(q.embedding)), q.error
                 FROM @extschema@._steadytext_queue_find($1) q;
END
$$;

CREATE FUNCTION @extschema@._steadytext_vector_text(embedding vector) RETURNS text
LANGUAGE sql IMMUTABLE STRICT
BEGIN ATOMIC
    SELECT embedding::text;
END;

CREATE FUNCTION @extschema@.steadytext_check_async_batch(
    request_ids uuid[], OUT request_id uuid, OUT status text, OUT result text, OUT error text, OUT completed_at timestamptz
) RETURNS SETOF record
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
    everything constant boolean := @extschema@._steadytext_caller_is('steadytext_admin');
    unknown uuid;
BEGIN
    IF request_ids IS NULL OR EXISTS (SELECT FROM unnest(request_ids) i WHERE i IS NULL) THEN
        PERFORM @extschema@._steadytext_raise('22004', 'request_ids cannot be null or contain null');
    END IF;
    SELECT i INTO unknown FROM unnest(request_ids) i
    WHERE NOT EXISTS (SELECT FROM @extschema@.steadytext_queue q
                      WHERE q.request_id = i AND (everything OR q.owner = @extschema@._steadytext_caller()::text)) LIMIT 1;
    IF unknown IS NOT NULL THEN
        PERFORM @extschema@._steadytext_queue_find(unknown);
    END IF;
    RETURN QUERY SELECT q.request_id, q.status, coalesce(q.result, @extschema@._steadytext_vector_text(q.embedding)),
                        q.error, q.completed_at
                 FROM unnest(request_ids) WITH ORDINALITY i (id, place)
                 JOIN @extschema@.steadytext_queue q ON q.request_id = i.id ORDER BY i.place;
END
$$;

-- Wait for a result. No notification reaches a backend inside a function, so it looks again: after a twentieth of what
-- it has waited already, at least 2 and at most 100 ms.
CREATE FUNCTION @extschema@.steadytext_get_async_result(request_id uuid, timeout_seconds integer DEFAULT 30) RETURNS text
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_variable
DECLARE
    started constant timestamptz := clock_timestamp();
    waited double precision;
    found @extschema@.steadytext_queue;
BEGIN
    IF timeout_seconds IS NULL THEN
        PERFORM @extschema@._steadytext_raise('22004', 'timeout_seconds cannot be null');
    ELSIF timeout_seconds < 0 THEN
        PERFORM @extschema@._steadytext_raise('22023', 'timeout_seconds must be non-negative');
    END IF;
    LOOP
        found := @extschema@._steadytext_queue_find(request_id);
        waited := extract(epoch FROM clock_timestamp() - started);
        IF found.status = 'completed' THEN
            RETURN coalesce(found.result, @extschema@._steadytext_vector_text(found.embedding));
        ELSIF found.status = 'failed' THEN
            PERFORM @extschema@._steadytext_raise(
                coalesce((SELECT e.code FROM @extschema@.steadytext_queue_errors e
                          WHERE e.request_id = found.request_id ORDER BY e.id DESC LIMIT 1), '58000'),
                format('request %s failed: %s', request_id, found.error));
        ELSIF found.status = 'cancelled' THEN
            PERFORM @extschema@._steadytext_raise('55000', format('request %s was cancelled', request_id));
        ELSIF @extschema@._steadytext_queue_unseen(request_id) THEN
            PERFORM @extschema@._steadytext_raise('55000', format('request %s cannot be waited for here', request_id),
                'Workers see a request when its transaction has committed, and a transaction at REPEATABLE READ never sees its end.');
        ELSIF waited >= timeout_seconds THEN
            PERFORM @extschema@._steadytext_raise('57014',
                format('Timeout waiting for async result (%s seconds)', timeout_seconds),
                format('Request %s is %s and stays in the queue; wait again, or cancel it with steadytext_cancel_async().',
                       request_id, found.status));
        END IF;
        PERFORM pg_sleep(least(0.1, greatest(0.002, waited / 20), greatest(timeout_seconds - waited, 0.001)));
    END LOOP;
END
$$;

-- Whether this transaction could wait for ever: it queued the request itself (a savepoint of it: the id is not its own), or
-- its snapshot is older than any answer.
CREATE FUNCTION @extschema@._steadytext_queue_unseen(wanted uuid) RETURNS boolean
LANGUAGE sql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
    SELECT current_setting('transaction_isolation') NOT IN ('read committed', 'read uncommitted')
        OR EXISTS (SELECT FROM @extschema@.steadytext_queue q
                   WHERE q.request_id = wanted AND pg_xact_status(@extschema@._steadytext_xid8(q.xmin)) = 'in progress')
$$;

-- Cancel a request that waits or runs: true, and it is never completed afterwards; false where it had ended.
CREATE FUNCTION @extschema@.steadytext_cancel_async(request_id uuid) RETURNS boolean
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_variable
DECLARE
    request @extschema@.steadytext_queue := @extschema@._steadytext_queue_find(request_id);
BEGIN
    UPDATE @extschema@.steadytext_queue q
    SET status = 'cancelled', completed_at = clock_timestamp(), error = 'cancelled', worker_id = NULL
    WHERE q.id = request.id AND q.status IN ('pending', 'processing');
    IF NOT FOUND THEN
        RETURN false;
    END IF;
    PERFORM @extschema@._steadytext_audit('cancel_async', NULL, request_id);
    PERFORM pg_notify('steadytext_cancel', ''), pg_notify('steadytext_done', '');
    RETURN true;
END
$$;

-- How far the batch of a request is (a request queued alone is a batch of one). `rate` is that of the last minute, up to
-- now or to the batch's end, and the estimate goes by it: none where nothing has ended for a minute.
CREATE FUNCTION @extschema@.steadytext_batch_status(
    request_id uuid, OUT batch_id uuid, OUT total bigint, OUT pending bigint, OUT processing bigint, OUT completed bigint,
    OUT failed bigint, OUT cancelled bigint, OUT done bigint, OUT rate double precision, OUT estimated_end timestamptz
) RETURNS SETOF record
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
    found @extschema@.steadytext_queue := @extschema@._steadytext_queue_find($1);
BEGIN
    RETURN QUERY
    WITH member AS (
        SELECT q.status, q.started_at, q.completed_at FROM @extschema@.steadytext_queue q
        WHERE q.batch_id = found.batch_id AND q.owner = found.owner
        UNION ALL
        SELECT found.status, found.started_at, found.completed_at WHERE found.batch_id IS NULL
    ), counted AS (
        SELECT count(*) AS n, count(*) FILTER (WHERE m.status = 'pending') AS waiting,
               count(*) FILTER (WHERE m.status = 'processing') AS running,
               count(*) FILTER (WHERE m.status = 'completed') AS ok, count(*) FILTER (WHERE m.status = 'failed') AS bad,
               count(*) FILTER (WHERE m.status = 'cancelled') AS dropped, max(m.completed_at) AS latest,
               min(m.started_at) AS first
        FROM member m
    ), ended AS (
        SELECT c.*, CASE WHEN c.waiting + c.running = 0 THEN c.latest ELSE clock_timestamp() END AS until FROM counted c
    ), paced AS (
        SELECT e.*, (SELECT count(*) FROM member m WHERE m.completed_at > e.until - interval '1 minute')
               / greatest(extract(epoch FROM least(e.until - e.first, interval '1 minute')), 0.001)::double precision AS pace
        FROM ended e
    )
    SELECT coalesce(found.batch_id, found.request_id), p.n, p.waiting, p.running, p.ok, p.bad, p.dropped,
           p.ok + p.bad + p.dropped, p.pace,
           CASE WHEN p.waiting + p.running = 0 THEN p.latest
                WHEN p.pace > 0 THEN clock_timestamp() + make_interval(secs => (p.waiting + p.running) / p.pace) END
    FROM paced p;
END
$$;
