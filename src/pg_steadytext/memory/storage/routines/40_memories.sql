-- Bodies in the standard's form are bound when they are made, so that no search_path leads them astray, and the planner
-- puts them in place of the call.
CREATE OR REPLACE FUNCTION memory.iso(p_at timestamptz) RETURNS text
LANGUAGE sql STABLE PARALLEL SAFE
RETURN pg_catalog.to_char(p_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"');

-- A memory as every endpoint shows it. One that has expired lies in the trash from that moment on.
CREATE OR REPLACE FUNCTION memory.memory_json(m memory.memories) RETURNS jsonb
LANGUAGE plpgsql STABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RETURN jsonb_build_object(
        'id', m.id, 'body', m.body, 'title', m.title, 'category', m.category, 'tags', m.tags, 'source', m.source,
        'provenance', m.provenance, 'pinned', m.pinned, 'is_recalled', m.is_recalled, 'agent_id', m.agent_id,
        'session_id', m.session_id, 'duplicate_of', m.duplicate_of, 'version', m.version, 'change_seq', m.change_seq,
        'enrichment_status', m.enrichment_status, 'enrichment_error', m.enrichment_error,
        'embedding_status', m.embedding_status, 'embedding_error', m.embedding_error,
        'expires_at', memory.iso(m.expires_at), 'deleted_at',
        memory.iso(coalesce(m.deleted_at, CASE WHEN m.expires_at <= now() THEN m.expires_at END)),
        'created_at', memory.iso(m.created_at), 'updated_at', memory.iso(m.updated_at));
END
$$;

CREATE OR REPLACE FUNCTION memory.write_history(m memory.memories, p_action text, p_changes jsonb DEFAULT '{}')
RETURNS void LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    INSERT INTO memory.memory_history (user_id, memory_id, version, action, actor, changes)
    VALUES (m.user_id, m.id, m.version, p_action, current_setting('memory.actor')::jsonb, p_changes);
END
$$;

-- What a memory takes of its owner's bytes, without what it was before.
CREATE OR REPLACE FUNCTION memory.weigh(m memory.memories) RETURNS bigint
LANGUAGE sql STABLE PARALLEL SAFE
RETURN octet_length(m.body) + coalesce(octet_length(m.title), 0) + octet_length(m.provenance::text);

-- Why models have something to do with a memory: text that was recalled from memory is not extracted again.
CREATE OR REPLACE FUNCTION memory.enrichment_of(m memory.memories) RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN CASE WHEN m.is_recalled THEN 'none' ELSE 'pending' END;

-- The user's live memory of the same text: the original, for copies name it. One that has expired makes room.
CREATE OR REPLACE FUNCTION memory.same_text(p_user uuid, p_hash bytea, OUT same memory.memories)
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    LOOP
        SELECT * INTO same FROM memory.memories m
        WHERE m.user_id = p_user AND m.content_hash = p_hash AND m.deleted_at IS NULL AND m.duplicate_of IS NULL;
        EXIT WHEN same.expires_at IS NULL OR same.expires_at > now();
        PERFORM memory.put_away(same);
    END LOOP;
END
$$;

-- When an original goes, or says something else, its oldest copy takes its place.
CREATE OR REPLACE FUNCTION memory.hand_over(m memory.memories)
RETURNS void LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_heir uuid;
BEGIN
    SELECT c.id INTO v_heir FROM memory.memories c
    WHERE c.user_id = m.user_id AND c.duplicate_of = m.id AND c.deleted_at IS NULL
    ORDER BY c.created_at, c.id LIMIT 1;
    UPDATE memory.memories c
    SET duplicate_of = nullif(v_heir, c.id), change_seq = nextval('memory.change_seq')
    WHERE c.user_id = m.user_id AND c.duplicate_of = m.id;
END
$$;

-- Save a memory, or find the one of the same text. Mostly that is two statements: one counts the memory, and so takes the
-- lock behind which a user's change_seq grows with the commits; one writes it.
CREATE OR REPLACE FUNCTION memory.add(
    p_note jsonb, p_force boolean,
    OUT is_new boolean, OUT kept memory.memories, OUT saves_limit bigint, OUT saves_left bigint, OUT saves_reset integer)
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_me constant uuid := memory.me();
    v_new constant memory.memories := jsonb_populate_record(NULL::memory.memories, p_note);
    v_bytes constant bigint := memory.weigh(v_new);
    v_used memory.usage;
    v_same memory.memories;
    v_owned memory.memories;
BEGIN
    LOOP
        UPDATE memory.usage u SET memories = u.memories + 1, bytes = u.bytes + v_bytes, saves = u.saves + 1
        FROM memory.tiers t
        WHERE u.user_id = v_me AND t.name = u.tier AND u.memories < t.memories AND u.bytes + v_bytes <= t.bytes
          AND u.saves < t.saves_a_day AND now() < u.saves_since + interval '1 day'
        RETURNING t.saves_a_day, t.saves_a_day - u.saves, memory.seconds_left(u.saves_since)
        INTO saves_limit, saves_left, saves_reset;
        IF NOT FOUND THEN
            -- Beyond a limit: a refusal, or a new day, or the text is there and nothing need be counted.
            v_used := memory.lock_usage();
            v_same := memory.same_text(v_me, v_new.content_hash);
            EXIT WHEN v_same.id IS NOT NULL AND NOT p_force;
            SELECT c.saves_limit, c.saves_left, c.saves_reset INTO saves_limit, saves_left, saves_reset
            FROM memory.count_locked(v_used, 1, v_bytes, 1) c;
        ELSIF p_force THEN
            v_same := memory.same_text(v_me, v_new.content_hash);
        END IF;
        IF v_new.agent_id IS NOT NULL OR v_new.session_id IS NOT NULL THEN
            v_owned := v_new;
            v_owned.user_id := v_me;
            PERFORM memory.check_owner(v_owned);
        END IF;
        WITH made AS (
            INSERT INTO memory.memories (
                user_id, id, body, title, category, tags, source, provenance, pinned, is_recalled, agent_id,
                session_id, content_hash, duplicate_of, bytes, version, change_seq, enrichment_status,
                embedding_status, expires_at, deleted_at, created_at, updated_at)
            VALUES (
                v_me, v_new.id, v_new.body, v_new.title, v_new.category, v_new.tags, v_new.source, v_new.provenance,
                v_new.pinned, v_new.is_recalled, v_new.agent_id, v_new.session_id, v_new.content_hash, v_same.id,
                v_bytes, 1, nextval('memory.change_seq'), memory.enrichment_of(v_new), 'pending', v_new.expires_at,
                v_new.deleted_at, coalesce(v_new.created_at, now()), now())
            ON CONFLICT (user_id, content_hash) WHERE deleted_at IS NULL AND duplicate_of IS NULL DO NOTHING
            RETURNING *),
        noted AS (
            INSERT INTO memory.memory_history (user_id, memory_id, version, action, actor)
            SELECT m.user_id, m.id, m.version, 'created', current_setting('memory.actor')::jsonb FROM made m)
        SELECT * INTO kept FROM made;
        is_new := kept.id IS NOT NULL;
        IF is_new THEN
            PERFORM memory.wake_worker();
            RETURN;
        END IF;
        -- The text is there; or it has expired, and makes room.
        PERFORM memory.count_write(-1, -v_bytes, -1);
        v_same := memory.same_text(v_me, v_new.content_hash);
        EXIT WHEN v_same.id IS NOT NULL;
    END LOOP;
    is_new := false;
    kept := v_same;
    kept.duplicate_of := v_same.id;
    SELECT c.saves_limit, c.saves_left, c.saves_reset INTO saves_limit, saves_left, saves_reset
    FROM memory.count_locked(memory.lock_usage(), 0, 0, 0) c;
END
$$;

-- The agent and the session that a memory names are the user's own.
CREATE OR REPLACE FUNCTION memory.check_owner(m memory.memories)
RETURNS void LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF m.agent_id IS NOT NULL
       AND NOT EXISTS (SELECT FROM memory.agents a WHERE a.user_id = m.user_id AND a.id = m.agent_id) THEN
        PERFORM memory.refuse(422, 'unknown-agent', 'agent_id names no agent of yours');
    END IF;
    IF m.session_id IS NOT NULL
       AND NOT EXISTS (SELECT FROM memory.sessions s WHERE s.user_id = m.user_id AND s.id = m.session_id) THEN
        PERFORM memory.refuse(422, 'unknown-session', 'session_id names no session of yours');
    END IF;
END
$$;

-- The memory that a write is about, behind the lock that all the user's writes take. p_versions are the versions that the
-- writer knows, null for any.
CREATE OR REPLACE FUNCTION memory.take(p_id uuid, p_versions bigint[], p_in_trash boolean, OUT taken memory.memories)
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_me uuid := memory.me();
BEGIN
    PERFORM memory.lock_usage();
    -- The worker notes what became of an embedding without that lock: what is written back must not undo it.
    SELECT * INTO taken FROM memory.memories m WHERE m.user_id = v_me AND m.id = p_id FOR NO KEY UPDATE;
    IF taken.id IS NULL OR (NOT p_in_trash AND memory.is_away(taken)) THEN
        PERFORM memory.refuse(404, 'not-found', 'there is no such memory');
    ELSIF NOT taken.version = ANY (p_versions) THEN
        PERFORM memory.refuse(412, 'version-mismatch',
            format('the memory is at version %s now; change that one', taken.version),
            jsonb_build_object('current', memory.memory_json(taken), 'etag', format('"v%s"', taken.version)));
    END IF;
END
$$;

CREATE OR REPLACE FUNCTION memory.is_away(m memory.memories) RETURNS boolean
LANGUAGE sql STABLE PARALLEL SAFE
RETURN m.deleted_at IS NOT NULL OR coalesce(m.expires_at <= now(), false);

CREATE OR REPLACE FUNCTION memory.write_back(m memory.memories) RETURNS memory.memories
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    m.version := m.version + 1;
    m.change_seq := nextval('memory.change_seq');
    m.updated_at := now();
    UPDATE memory.memories o
    SET body = m.body, title = m.title, category = m.category, tags = m.tags, source = m.source,
        provenance = m.provenance, pinned = m.pinned, agent_id = m.agent_id, session_id = m.session_id,
        content_hash = m.content_hash, duplicate_of = m.duplicate_of, bytes = m.bytes, version = m.version,
        change_seq = m.change_seq, enrichment_status = m.enrichment_status, enrichment_error = m.enrichment_error,
        enrichment_retry_at = m.enrichment_retry_at, enriched = m.enriched, embedding_status = m.embedding_status,
        embedding_error = m.embedding_error, embedding_retry_at = m.embedding_retry_at, expires_at = m.expires_at,
        deleted_at = m.deleted_at, updated_at = m.updated_at
    WHERE o.user_id = m.user_id AND o.id = m.id;
    RETURN m;
END
$$;

-- Change fields; those that p_patch does not name stay. What changes nothing makes no version.
CREATE OR REPLACE FUNCTION memory.change(p_id uuid, p_versions bigint[], p_patch jsonb) RETURNS memory.memories
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_was memory.memories := memory.take(p_id, p_versions, false);
    v_is memory.memories := jsonb_populate_record(v_was, p_patch);
    v_before jsonb := to_jsonb(v_was);
    v_after jsonb := to_jsonb(v_is);
    v_changes jsonb;
    v_is_embedded_anew boolean;
BEGIN
    SELECT jsonb_object_agg(k, jsonb_build_array(v_before -> k, v_after -> k)) INTO v_changes
    FROM jsonb_object_keys(p_patch) k
    WHERE k <> ALL ('{content_hash,enriched}') AND v_before -> k IS DISTINCT FROM v_after -> k;
    IF v_changes IS NULL THEN
        RETURN v_was;
    END IF;
    PERFORM memory.check_owner(v_is);
    -- What is replaced is kept in the history.
    v_is.bytes := v_was.bytes + memory.weigh(v_is) - memory.weigh(v_was)
        + CASE WHEN v_changes ? 'body' THEN octet_length(v_was.body) ELSE 0 END
        + CASE WHEN v_changes ? 'title' THEN coalesce(octet_length(v_was.title), 0) ELSE 0 END
        + CASE WHEN v_changes ? 'provenance' THEN octet_length(v_was.provenance::text) ELSE 0 END;
    PERFORM memory.count_write(0, v_is.bytes - v_was.bytes, 0);
    IF v_changes ? 'body' THEN
        v_is.duplicate_of := nullif((memory.same_text(v_is.user_id, v_is.content_hash)).id, v_is.id);
        v_is.enrichment_status := memory.enrichment_of(v_is);
        v_is.enrichment_error := NULL;
        v_is.enrichment_retry_at := NULL;
        PERFORM memory.forget_facts(v_was);
    END IF;
    v_is_embedded_anew := v_changes ? 'body' OR memory.own_title(v_was) IS DISTINCT FROM memory.own_title(v_is);
    IF v_is_embedded_anew THEN
        v_is.embedding_status := 'pending';
        v_is.embedding_error := NULL;
        v_is.embedding_retry_at := NULL;
    END IF;
    v_is := memory.write_back(v_is);
    -- Behind the row's lock: a worker may have written a vector of the former text until now.
    IF v_is_embedded_anew THEN
        PERFORM memory.forget_embedding(v_is);
    END IF;
    IF v_is.content_hash <> v_was.content_hash OR v_is.duplicate_of IS NOT NULL THEN
        PERFORM memory.hand_over(v_is);
    END IF;
    PERFORM memory.write_history(v_is, 'changed', v_changes);
    RETURN v_is;
END
$$;

CREATE OR REPLACE FUNCTION memory.put_away(m memory.memories) RETURNS memory.memories
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    m.deleted_at := now();
    m := memory.write_back(m);
    PERFORM memory.hand_over(m);
    PERFORM memory.write_history(m, 'trashed');
    RETURN m;
END
$$;

CREATE OR REPLACE FUNCTION memory.trash(p_id uuid, p_versions bigint[]) RETURNS memory.memories
LANGUAGE sql SET search_path = pg_catalog, pg_temp AS $$
    SELECT memory.put_away(memory.take(p_id, p_versions, false))
$$;

CREATE OR REPLACE FUNCTION memory.restore(p_id uuid) RETURNS memory.memories
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_it memory.memories := memory.take(p_id, NULL, true);
BEGIN
    IF v_it.deleted_at IS NULL AND (v_it.expires_at IS NULL OR v_it.expires_at > now()) THEN
        PERFORM memory.refuse(409, 'not-in-trash', 'the memory is not in the trash');
    END IF;
    -- One that has expired and was not yet put away goes the whole way, so that its copies find their original.
    IF v_it.deleted_at IS NULL THEN
        v_it := memory.put_away(v_it);
    END IF;
    -- Somebody may have saved the text again in the meantime.
    v_it.duplicate_of := (memory.same_text(v_it.user_id, v_it.content_hash)).id;
    v_it.deleted_at := NULL;
    v_it.expires_at := CASE WHEN v_it.expires_at > now() THEN v_it.expires_at END;
    v_it := memory.write_back(v_it);
    INSERT INTO memory.to_compare (user_id, memory_id, digest)
    SELECT e.user_id, e.memory_id, e.digest FROM memory.embeddings e WHERE e.user_id = v_it.user_id AND e.memory_id = p_id
    ON CONFLICT (user_id, memory_id) DO NOTHING;
    PERFORM memory.write_history(v_it, 'restored'),
            memory.wake_worker();
    RETURN v_it;
END
$$;

-- Delete for good, from the trash or not, and give back what it took.
CREATE OR REPLACE FUNCTION memory.purge(p_id uuid, p_versions bigint[]) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_it memory.memories := memory.take(p_id, p_versions, true);
    v_bytes bigint;
BEGIN
    SELECT v_it.bytes + coalesce(sum(a.bytes), 0) INTO v_bytes
    FROM memory.attachments a WHERE a.user_id = v_it.user_id AND a.memory_id = p_id;
    PERFORM memory.count_write(-1, -v_bytes, 0);
    PERFORM memory.bury(v_it);
    -- The schema deletes them with the memory, and tells nobody.
    PERFORM memory.tell(r, 'deleted') FROM memory.reminders r WHERE r.user_id = v_it.user_id AND r.memory_id = p_id;
    DELETE FROM memory.memories m WHERE m.user_id = v_it.user_id AND m.id = p_id;
    DELETE FROM memory.memory_history h WHERE h.user_id = v_it.user_id AND h.memory_id = p_id;
    PERFORM memory.hand_over(v_it);
END
$$;
