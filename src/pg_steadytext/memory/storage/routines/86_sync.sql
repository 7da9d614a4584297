-- A memory's links and attachments are part of what a client keeps of it: who changes them gives the memory a new change
-- number, but no new version, for the ETag is that of its own fields.
CREATE OR REPLACE FUNCTION memory.touch(p_id uuid) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_me uuid := memory.me();
BEGIN
    PERFORM memory.take(p_id, NULL, false);
    UPDATE memory.memories m SET change_seq = nextval('memory.change_seq') WHERE m.user_id = v_me AND m.id = p_id;
END
$$;

-- Behind the user's lock, before the memory's row goes: tell those who read the changes, also of the links that end.
CREATE OR REPLACE FUNCTION memory.bury(m memory.memories) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    UPDATE memory.memories o SET change_seq = nextval('memory.change_seq')
    WHERE o.user_id = m.user_id
      AND o.id IN (SELECT l.memory_id FROM memory.links l WHERE l.user_id = m.user_id AND l.target_id = m.id);
    INSERT INTO memory.tombstones (user_id, memory_id, change_seq)
    VALUES (m.user_id, m.id, nextval('memory.change_seq'))
    ON CONFLICT (user_id, memory_id) DO UPDATE SET change_seq = excluded.change_seq, deleted_at = now();
END
$$;

-- A memory with what hangs on it, as the feed shows it; the text of attachments is read where they are.
CREATE OR REPLACE FUNCTION memory.change_json(m memory.memories) RETURNS jsonb
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RETURN jsonb_build_object(
        'kind', 'memory', 'id', m.id, 'change_seq', m.change_seq, 'memory', memory.memory_json(m), 'deleted_at', NULL,
        'links', (
            SELECT coalesce(jsonb_agg(jsonb_build_object('target_id', l.target_id, 'kind', l.kind,
                                                         'created_at', memory.iso(l.created_at))
                                      ORDER BY l.created_at, l.target_id), '[]')
            FROM memory.links l WHERE l.user_id = m.user_id AND l.memory_id = m.id),
        'attachments', (
            SELECT coalesce(jsonb_agg(jsonb_build_object('name', a.name, 'media_type', a.media_type, 'bytes', a.bytes,
                                                         'updated_at', memory.iso(a.updated_at)) ORDER BY a.name), '[]')
            FROM memory.attachments a WHERE a.user_id = m.user_id AND a.memory_id = m.id));
END
$$;

-- The changes after p_after, in the order in which they became visible: a user's writers take turns, and each draws its
-- numbers in its turn, so a number once passed never shows again. Stable, so that all of it is one snapshot's.
-- p_base is the floor at the time the client began: what was forgotten before that is nothing it ever had.
CREATE OR REPLACE FUNCTION memory.feed(
    p_epoch uuid, p_after bigint, p_base bigint, p_limit integer, p_bytes bigint,
    OUT epoch uuid, OUT reached bigint, OUT base bigint, OUT has_more boolean, OUT items text)
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_me uuid := memory.me();
    v_floor bigint;
BEGIN
    SELECT e.epoch, u.sync_floor INTO epoch, v_floor
    FROM memory.sync_epoch e, memory.usage u WHERE u.user_id = v_me;
    base := coalesce(p_base, v_floor);
    IF p_epoch <> epoch OR v_floor > greatest(p_after, base) THEN
        PERFORM memory.refuse(410, 'cursor-too-old',
            'what was deleted since this cursor is no longer known; read everything anew, without since, and drop what is not in it');
    END IF;
    WITH page AS (
        (SELECT m.change_seq AS seq, m.id, m.bytes AS size
         FROM memory.memories m WHERE m.user_id = v_me AND m.change_seq > p_after
         ORDER BY m.change_seq LIMIT p_limit + 1)
        UNION ALL
        (SELECT t.change_seq, t.memory_id, 0
         FROM memory.tombstones t WHERE t.user_id = v_me AND t.change_seq > p_after
         ORDER BY t.change_seq LIMIT p_limit + 1)
        ORDER BY seq LIMIT p_limit + 1
    ), sized AS (
        SELECT p.seq, p.id, row_number() OVER way AS place, sum(p.size) OVER way - p.size AS before
        FROM page p WINDOW way AS (ORDER BY p.seq)
    ), kept AS (
        SELECT s.seq, coalesce(
            (SELECT memory.change_json(m) FROM memory.memories m
             WHERE m.user_id = v_me AND m.id = s.id AND m.change_seq = s.seq),
            (SELECT jsonb_build_object('kind', 'tombstone', 'id', t.memory_id, 'change_seq', t.change_seq, 'memory', NULL,
                                       'deleted_at', memory.iso(t.deleted_at), 'links', '[]'::jsonb,
                                       'attachments', '[]'::jsonb)
             FROM memory.tombstones t WHERE t.user_id = v_me AND t.memory_id = s.id)) AS item
        FROM sized s WHERE s.place <= p_limit AND s.before < p_bytes
    )
    SELECT coalesce(max(k.seq), p_after), count(*) < (SELECT count(*) FROM page),
           '[' || coalesce(string_agg(k.item::text, ',' ORDER BY k.seq), '') || ']'
    INTO reached, has_more, items FROM kept k;
END
$$;

-- Begin an operation behind the user's lock: what came of it before, or what it is about: the memory, whether it was
-- deleted for good, and what each version after p_base changed, the newest first.
CREATE OR REPLACE FUNCTION memory.sync_begin(
    p_operation text, p_fingerprint bytea, p_id uuid, p_base bigint,
    OUT result jsonb, OUT current jsonb, OUT is_away boolean, OUT is_buried boolean, OUT later jsonb)
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_me uuid := memory.me();
    v_known bytea;
    v_it memory.memories;
BEGIN
    PERFORM memory.lock_usage();
    SELECT o.result, o.fingerprint INTO result, v_known
    FROM memory.sync_operations o
    WHERE o.user_id = v_me AND o.operation = p_operation
      AND o.created_at > now() - (SELECT r.keep FROM memory.retention r WHERE r.kind = 'sync_operations');
    IF v_known <> p_fingerprint THEN
        PERFORM memory.refuse(422, 'operation-mismatch', 'this id belongs to another operation');
    ELSIF result IS NOT NULL THEN
        RETURN;
    END IF;
    SELECT * INTO v_it FROM memory.memories m WHERE m.user_id = v_me AND m.id = p_id;
    IF v_it.id IS NULL THEN
        is_buried := EXISTS (SELECT FROM memory.tombstones t WHERE t.user_id = v_me AND t.memory_id = p_id);
        RETURN;
    END IF;
    is_buried := false;
    is_away := memory.is_away(v_it);
    current := to_jsonb(v_it);
    SELECT coalesce(jsonb_agg(h.changes ORDER BY h.version DESC), '[]') INTO later
    FROM memory.memory_history h WHERE h.user_id = v_me AND h.memory_id = p_id AND h.version > p_base;
END
$$;

CREATE OR REPLACE FUNCTION memory.sync_end(p_operation text, p_fingerprint bytea, p_result jsonb) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    INSERT INTO memory.sync_operations (user_id, operation, fingerprint, result)
    VALUES (memory.me(), p_operation, p_fingerprint, p_result)
    ON CONFLICT (user_id, operation) DO UPDATE  -- only one that is too old to count
    SET fingerprint = excluded.fingerprint, result = excluded.result, created_at = now();
END
$$;

-- Forget the tombstones and the operations that are too old, and remember of each user up to where.
CREATE OR REPLACE FUNCTION memory.cleanup_sync(OUT tombstones bigint, OUT sync_operations bigint)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_until timestamptz := now() - (SELECT r.keep FROM memory.retention r WHERE r.kind = 'tombstones');
    v_user uuid;
    v_floor bigint;
    v_gone bigint;
BEGIN
    tombstones := 0; sync_operations := 0;
    IF NOT pg_try_advisory_xact_lock(hashtextextended('memory.cleanup_sync', 7)) THEN
        RETURN;
    END IF;
    -- In the order of users, and their rows of usage first, as every other transaction that locks more than one would.
    FOR v_user IN SELECT DISTINCT t.user_id FROM memory.tombstones t WHERE t.deleted_at <= v_until ORDER BY 1 LOOP
        PERFORM FROM memory.usage u WHERE u.user_id = v_user FOR UPDATE;
        WITH gone AS (
            DELETE FROM memory.tombstones t WHERE t.user_id = v_user AND t.deleted_at <= v_until RETURNING t.change_seq
        ) SELECT max(g.change_seq), count(*) INTO v_floor, v_gone FROM gone g;
        UPDATE memory.usage u SET sync_floor = greatest(u.sync_floor, v_floor) WHERE u.user_id = v_user;
        tombstones := tombstones + v_gone;
    END LOOP;
    DELETE FROM memory.sync_operations o
    WHERE o.created_at <= now() - (SELECT r.keep FROM memory.retention r WHERE r.kind = 'sync_operations');
    GET DIAGNOSTICS sync_operations = ROW_COUNT;
END
$$;

REVOKE ALL ON FUNCTION
    memory.touch(uuid), memory.bury(memory.memories), memory.change_json(memory.memories),
    memory.feed(uuid, bigint, bigint, integer, bigint),
    memory.sync_begin(text, bytea, uuid, bigint), memory.sync_end(text, bytea, jsonb), memory.cleanup_sync()
FROM PUBLIC;
GRANT EXECUTE ON FUNCTION
    memory.touch(uuid), memory.bury(memory.memories), memory.change_json(memory.memories),
    memory.feed(uuid, bigint, bigint, integer, bigint),
    memory.sync_begin(text, bytea, uuid, bigint), memory.sync_end(text, bytea, jsonb)
TO memory_app;
GRANT EXECUTE ON FUNCTION memory.cleanup_sync() TO memory_service;
