-- Enrichment by way of a message broker. A message carries ids and a digest, never a text, and may be lost or delivered
-- twice: whether there is something to do, and who does it, is decided here. One text is in one place at a time, be it the
-- extension's queue or the broker, so that two workers with different settings do not pay for it twice.

CREATE OR REPLACE FUNCTION memory.is_due_to_enrich(m memory.memories, p_digest bytea) RETURNS boolean
LANGUAGE sql STABLE
RETURN memory.is_to_enrich(m) AND sha256(convert_to(m.body, 'UTF8')) = p_digest
       AND (m.enrichment_status <> 'paused' OR m.enrichment_retry_at <= clock_timestamp());

-- Choose what to send, and note that it is being sent: what is not noted as sent within p_seconds is chosen again.
CREATE OR REPLACE FUNCTION memory.choose_to_send(p_most integer, p_seconds double precision)
RETURNS TABLE (user_id uuid, memory_id uuid, digest bytea)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_schema text := (SELECT quote_ident(n.nspname) FROM pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace
                      WHERE e.extname = 'pg_steadytext');
BEGIN
    PERFORM memory.lock_enrichment_queue();
    -- Trashed, changed or described meanwhile, or waiting for a budget, which its memory's state knows.
    DELETE FROM memory.enrichment_messages g
    WHERE g.due_at <= clock_timestamp() AND NOT EXISTS (
        SELECT FROM memory.memories m
        WHERE m.user_id = g.user_id AND m.id = g.memory_id AND memory.is_due_to_enrich(m, g.digest));
    RETURN QUERY EXECUTE format($f$
        WITH wanted AS (
            SELECT t.user_id, t.id FROM memory.to_enrich(8) t
            UNION
            (SELECT g.user_id, g.memory_id FROM memory.enrichment_messages g WHERE g.due_at <= clock_timestamp()
             ORDER BY g.due_at LIMIT $1)
        ), texts AS (
            SELECT m.user_id, m.id, sha256(convert_to(m.body, 'UTF8')) AS digest
            FROM wanted w JOIN memory.memories m ON m.user_id = w.user_id AND m.id = w.id
        )
        INSERT INTO memory.enrichment_messages AS g (user_id, memory_id, digest, state, due_at)
        SELECT t.user_id, t.id, t.digest, 'sending', clock_timestamp() + make_interval(secs => $2)
        FROM texts t
        WHERE NOT EXISTS (SELECT FROM memory.enrichment_messages h WHERE h.user_id = t.user_id AND h.memory_id = t.id
                          AND h.digest = t.digest AND h.due_at > clock_timestamp())
          AND NOT EXISTS (SELECT FROM %1$s.steadytext_queue q WHERE q.owner = 'pg_steadytext memory'
                          AND q.dedupe_key = concat_ws(' ', 'memory_enrich', t.user_id, t.id) AND q.status IN ('pending', 'processing'))
        LIMIT $1
        ON CONFLICT ON CONSTRAINT enrichment_messages_pkey DO UPDATE
        SET digest = EXCLUDED.digest, state = 'sending', token = NULL, due_at = EXCLUDED.due_at,
            attempts = CASE WHEN g.digest = EXCLUDED.digest THEN g.attempts ELSE 0 END
        RETURNING g.user_id, g.memory_id, g.digest
        $f$, v_schema) USING p_most, p_seconds;
END
$$;

-- Seconds until the next look for something to send, or null where nothing is left to do.
CREATE OR REPLACE FUNCTION memory.until_next_send() RETURNS double precision
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT CASE WHEN EXISTS (SELECT FROM memory.to_enrich(1)) THEN 1 ELSE (
        SELECT greatest(0.25, extract(epoch FROM min(w.at) - clock_timestamp()))
        FROM (SELECT min(m.enrichment_retry_at) FROM memory.memories m
              WHERE m.enrichment_status = 'paused' AND memory.is_to_enrich(m)
              UNION ALL SELECT min(g.due_at) FROM memory.enrichment_messages g) w (at))
    END::double precision
$$;

-- These went to the broker: each is given p_seconds until it is taken for lost. One that is at work already stays so.
CREATE OR REPLACE FUNCTION memory.note_sent(p_users uuid[], p_ids uuid[], p_digests bytea[], p_seconds double precision)
RETURNS void LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    UPDATE memory.enrichment_messages g
    SET state = 'sent', due_at = clock_timestamp() + make_interval(secs => p_seconds)
    FROM unnest(p_users, p_ids, p_digests) AS s (user_id, id, digest)
    WHERE g.user_id = s.user_id AND g.memory_id = s.id AND g.digest = s.digest AND g.state = 'sending'
$$;

-- Begin to work on what a message names. Returns the number of the attempt, or null where there is nothing to do: it is
-- done, says something else, is another delivery's, or waits for its next attempt.
CREATE OR REPLACE FUNCTION memory.take_enrichment(
    p_user uuid, p_id uuid, p_digest bytea, p_token uuid, p_seconds double precision)
RETURNS integer LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    UPDATE memory.enrichment_messages g
    SET state = 'taken', token = p_token, attempts = g.attempts + 1,
        due_at = clock_timestamp() + make_interval(secs => p_seconds)
    WHERE g.user_id = p_user AND g.memory_id = p_id AND g.digest = p_digest
      AND (g.state IN ('sending', 'sent') OR g.due_at <= clock_timestamp())
    RETURNING g.attempts
$$;

-- Go on working on it. False where it is no longer the delivery's own.
CREATE OR REPLACE FUNCTION memory.keep_enrichment(p_user uuid, p_id uuid, p_token uuid, p_seconds double precision)
RETURNS boolean LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    UPDATE memory.enrichment_messages g SET due_at = clock_timestamp() + make_interval(secs => p_seconds)
    WHERE g.user_id = p_user AND g.memory_id = p_id AND g.token = p_token;
    RETURN FOUND;
END
$$;

-- The delivery's work is over: for good, or to be sent again after p_again seconds, as an attempt that counts or not.
CREATE OR REPLACE FUNCTION memory.end_enrichment(
    p_user uuid, p_id uuid, p_token uuid, p_again double precision, p_counts boolean)
RETURNS void LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF p_again IS NULL THEN
        DELETE FROM memory.enrichment_messages g
        WHERE g.user_id = p_user AND g.memory_id = p_id AND g.token = p_token;
    ELSE
        UPDATE memory.enrichment_messages g
        SET state = 'waiting', token = NULL, due_at = clock_timestamp() + make_interval(secs => p_again),
            attempts = g.attempts - CASE WHEN p_counts THEN 0 ELSE 1 END
        WHERE g.user_id = p_user AND g.memory_id = p_id AND g.token = p_token;
    END IF;
END
$$;

REVOKE ALL ON FUNCTION
    memory.is_due_to_enrich(memory.memories, bytea), memory.choose_to_send(integer, double precision),
    memory.until_next_send(), memory.note_sent(uuid[], uuid[], bytea[], double precision),
    memory.take_enrichment(uuid, uuid, bytea, uuid, double precision),
    memory.keep_enrichment(uuid, uuid, uuid, double precision),
    memory.end_enrichment(uuid, uuid, uuid, double precision, boolean)
FROM PUBLIC;
GRANT EXECUTE ON FUNCTION
    memory.choose_to_send(integer, double precision), memory.until_next_send(),
    memory.note_sent(uuid[], uuid[], bytea[], double precision),
    memory.take_enrichment(uuid, uuid, bytea, uuid, double precision),
    memory.keep_enrichment(uuid, uuid, uuid, double precision),
    memory.end_enrichment(uuid, uuid, uuid, double precision, boolean)
TO steadytext_worker;
