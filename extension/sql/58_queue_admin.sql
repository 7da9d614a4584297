-- The queue as an administrator sees and tends it.

CREATE VIEW @extschema@.steadytext_dead_letters AS
SELECT q.request_id, q.request_type, q.lane, q.owner, q.user_id, q.prompt, q.error, q.retry_count,
       q.completed_at AS failed_at,
       (SELECT pg_catalog.jsonb_agg(pg_catalog.jsonb_build_object(
            'attempt', e.attempt, 'failed_at', e.failed_at, 'code', e.code, 'message', e.message) ORDER BY e.id)
        FROM @extschema@.steadytext_queue_errors e WHERE e.request_id = q.request_id) AS history
FROM @extschema@.steadytext_queue q WHERE q.status = 'failed';

CREATE FUNCTION @extschema@.steadytext_queue_status(
    OUT lane text, OUT status text, OUT requests bigint, OUT oldest interval
) RETURNS SETOF record
LANGUAGE sql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT q.lane, q.status, count(*), clock_timestamp() - min(q.created_at)
    FROM @extschema@.steadytext_queue q GROUP BY q.lane, q.status ORDER BY q.lane, q.status
$$;

-- Put a failed or cancelled request back into the queue with all its retries; false where it is neither. Its dedupe key
-- is gone: another request may have it by now.
CREATE FUNCTION @extschema@.steadytext_queue_retry(request_id uuid) RETURNS boolean
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_variable
DECLARE
    found @extschema@.steadytext_queue := @extschema@._steadytext_queue_find(request_id);
    revived uuid;
BEGIN
    UPDATE @extschema@.steadytext_queue q
    SET status = 'pending', due_at = clock_timestamp(), retry_count = 0, completed_at = NULL, error = NULL,
        dedupe_key = NULL
    WHERE q.id = found.id AND q.status IN ('failed', 'cancelled') RETURNING q.request_id INTO revived;
    IF revived IS NULL THEN
        RETURN false;
    END IF;
    PERFORM @extschema@._steadytext_queue_admit(found.owner, found.lane, found.id, 1);
    PERFORM @extschema@._steadytext_audit('queue_retry', NULL, request_id);
    RETURN true;
END
$$;

-- Put dead letters back into the queue: all, or those of a lane, or those that failed longer ago. Returns how many; they
-- count against the caps as new ones do.
CREATE FUNCTION @extschema@.steadytext_queue_requeue_dead(lane text DEFAULT NULL, older_than interval DEFAULT NULL)
RETURNS bigint
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_variable
DECLARE
    party record;
    requeued bigint := 0;
BEGIN
    IF older_than < interval '0' THEN
        PERFORM @extschema@._steadytext_raise('22023', 'older_than must be non-negative');
    END IF;
    FOR party IN
        WITH revived AS (
            UPDATE @extschema@.steadytext_queue q
            SET status = 'pending', due_at = clock_timestamp(), retry_count = 0, completed_at = NULL, error = NULL,
                dedupe_key = NULL
            WHERE q.status = 'failed' AND (lane IS NULL OR q.lane = lane)
              AND (older_than IS NULL OR q.completed_at < clock_timestamp() - older_than)
            RETURNING q.owner, q.lane, q.id
        )
        SELECT r.owner, r.lane, min(r.id) AS first_id, count(*)::integer AS requests FROM revived r GROUP BY r.owner, r.lane
    LOOP
        PERFORM @extschema@._steadytext_queue_admit(party.owner, party.lane, party.first_id, party.requests);
        requeued := requeued + party.requests;
    END LOOP;
    IF requeued > 0 THEN
        PERFORM @extschema@._steadytext_audit('queue_requeue_dead',
            jsonb_build_object('lane', lane, 'older_than', older_than, 'requests', requeued));
    END IF;
    RETURN requeued;
END
$$;

-- Forget finished requests, at most `batch_size` by one call; returns how many. Without an age it takes those beyond
-- queue_retention_days. The oldest stand first in the primary key, which is read from its start.
CREATE FUNCTION @extschema@.steadytext_queue_purge(older_than interval DEFAULT NULL, batch_size integer DEFAULT 10000)
RETURNS bigint
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_variable
DECLARE
    moment timestamptz;
    purged bigint;
BEGIN
    IF batch_size IS NULL THEN
        PERFORM @extschema@._steadytext_raise('22004', 'batch_size cannot be null');
    ELSIF batch_size < 1 THEN
        PERFORM @extschema@._steadytext_raise('22023', 'batch_size must be at least 1');
    ELSIF older_than < interval '0' THEN
        PERFORM @extschema@._steadytext_raise('22023', 'older_than must be non-negative');
    END IF;
    moment := clock_timestamp() - coalesce(older_than, make_interval(
        days => @extschema@.steadytext_config_get('queue_retention_days')::integer));
    WITH gone AS (
        DELETE FROM @extschema@.steadytext_queue q
        WHERE q.id IN (SELECT f.id FROM @extschema@.steadytext_queue f
                       WHERE f.status IN ('completed', 'failed', 'cancelled') AND f.completed_at < moment
                       ORDER BY f.id LIMIT batch_size FOR UPDATE SKIP LOCKED)
        RETURNING q.request_id, q.retry_count, q.status
    ), forgotten AS (
        DELETE FROM @extschema@.steadytext_queue_errors e USING gone g WHERE e.request_id = g.request_id
    )
    SELECT count(*) INTO purged FROM gone;
    IF purged > 0 AND older_than IS NOT NULL THEN
        PERFORM @extschema@._steadytext_audit('queue_purge', jsonb_build_object('older_than', older_than, 'requests', purged));
    END IF;
    RETURN purged;
END
$$;
