-- The extension's queue, for the lanes that work on memories.

-- Queue memories, or users where there are no memories, for a kind of work, each unless it is queued for it already, and
-- wake the worker; returns how many.
CREATE OR REPLACE FUNCTION memory.queue_work(p_kind text, p_users uuid[], p_memories uuid[] DEFAULT NULL) RETURNS bigint
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_queued bigint;
BEGIN
    EXECUTE format($f$
        INSERT INTO %1$s.steadytext_queue (request_type, lane, owner, params, priority, max_retries, dedupe_key)
        SELECT $1, $1, 'pg_steadytext memory', jsonb_strip_nulls(jsonb_build_object('user', w.user_id, 'memory', w.id)),
               5, s.queue_max_retries, w.dedupe
        FROM (SELECT u.user_id, u.id, concat_ws(' ', $1, u.user_id, u.id) AS dedupe
              FROM unnest($2, $3) u (user_id, id)) w, %1$s._steadytext_settings s
        WHERE NOT EXISTS (SELECT FROM %1$s.steadytext_queue q WHERE q.owner = 'pg_steadytext memory'
                          AND q.dedupe_key = w.dedupe AND q.status IN ('pending', 'processing'))
        ON CONFLICT (owner, dedupe_key) WHERE dedupe_key IS NOT NULL AND status IN ('pending', 'processing') DO NOTHING
        $f$, (SELECT quote_ident(n.nspname) FROM pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace
              WHERE e.extname = 'pg_steadytext'))
    USING p_kind, p_users, p_memories;
    GET DIAGNOSTICS v_queued = ROW_COUNT;
    IF v_queued > 0 THEN
        PERFORM pg_notify('steadytext_queue', '');
    END IF;
    RETURN v_queued;
END
$$;

-- Of memories that are pending for a kind of work, those for which the queue has given it up: its last attempt began after
-- the memory was last changed, or asked for again. They have failed; queued anew, they would go round for ever.
CREATE OR REPLACE FUNCTION memory.given_up(p_kind text, p_users uuid[], p_memories uuid[])
RETURNS TABLE (user_id uuid, id uuid, error text) LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_keys text[];
    v_since timestamptz;
BEGIN
    SELECT array_agg(concat_ws(' ', p_kind, m.user_id, m.id)), min(m.updated_at) INTO v_keys, v_since
    FROM unnest(p_users, p_memories) w (user_id, id) JOIN memory.memories m ON m.user_id = w.user_id AND m.id = w.id;
    -- The dead letters first and in one pass, however many there are.
    RETURN QUERY EXECUTE format($f$
        SELECT m.user_id, m.id, max(q.error)
        FROM (SELECT d.dedupe_key, d.started_at, d.error FROM %s.steadytext_queue d
              WHERE d.status = 'failed' AND d.owner = 'pg_steadytext memory' AND d.lane = $1
                AND d.completed_at >= $5 AND d.dedupe_key = ANY ($4) OFFSET 0) q
        JOIN unnest($2, $3) w (user_id, id) ON q.dedupe_key = concat_ws(' ', $1, w.user_id, w.id)
        JOIN memory.memories m ON m.user_id = w.user_id AND m.id = w.id
        WHERE q.started_at > greatest(m.updated_at, CASE $1 WHEN 'memory_enrich' THEN m.enrichment_retry_at END)
        GROUP BY m.user_id, m.id
        $f$, (SELECT quote_ident(n.nspname) FROM pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace
              WHERE e.extname = 'pg_steadytext'))
    USING p_kind, p_users, p_memories, v_keys, v_since;
END
$$;
REVOKE ALL ON FUNCTION memory.given_up(text, uuid[], uuid[]) FROM PUBLIC;
