-- Enrichment of memories: a save marks the memory pending, the worker queues what is pending, asks the model with no
-- transaction open, and writes what it found if the memory still says what the model read. The memory's state is the truth.

-- The memory says something else: what was stated before is stated no more.
CREATE OR REPLACE FUNCTION memory.forget_facts(m memory.memories) RETURNS void
LANGUAGE sql SET search_path = pg_catalog, pg_temp AS $$
    DELETE FROM memory.facts f WHERE f.user_id = m.user_id AND f.memory_id = m.id
$$;

CREATE OR REPLACE FUNCTION memory.is_to_enrich(m memory.memories) RETURNS boolean
LANGUAGE sql STABLE
RETURN m.enrichment_status IN ('pending', 'paused', 'failed') AND NOT m.is_recalled AND m.deleted_at IS NULL
       AND (m.expires_at IS NULL OR m.expires_at > now());

-- Memories to be queued next: of each user a few, the newest first, so that nobody's import keeps the others waiting.
CREATE OR REPLACE FUNCTION memory.to_enrich(p_each integer) RETURNS TABLE (user_id uuid, id uuid)
LANGUAGE sql STABLE
BEGIN ATOMIC
    WITH RECURSIVE who (user_id) AS (
        (SELECT m.user_id FROM memory.memories m WHERE m.enrichment_status IN ('pending', 'paused')
         ORDER BY m.user_id LIMIT 1)
        UNION ALL
        SELECT (SELECT m.user_id FROM memory.memories m
                WHERE m.enrichment_status IN ('pending', 'paused') AND m.user_id > w.user_id
                ORDER BY m.user_id LIMIT 1)
        FROM who w WHERE w.user_id IS NOT NULL
    )
    SELECT w.user_id, f.id FROM who w, LATERAL (
        SELECT m.id FROM memory.memories m
        WHERE m.user_id = w.user_id AND m.enrichment_status IN ('pending', 'paused') AND memory.is_to_enrich(m)
          AND (m.enrichment_status = 'pending' OR m.enrichment_retry_at <= clock_timestamp())
        ORDER BY m.id DESC LIMIT p_each) f;
END;

-- Where a memory is queued, here or at a broker, is decided by one at a time.
CREATE OR REPLACE FUNCTION memory.lock_enrichment_queue() RETURNS void
LANGUAGE sql SET search_path = pg_catalog, pg_temp AS $$
    SELECT pg_advisory_xact_lock(hashtextextended('memory.enrichment_queue', 0))
$$;

-- Queue what is pending and neither queued nor on its way through a broker. Returns the seconds until the next look, or
-- null where nothing is left to do.
CREATE OR REPLACE FUNCTION memory.queue_enrichments(OUT queued bigint, OUT pause double precision)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_users uuid[];
    v_ids uuid[];
    v_failed uuid[];
BEGIN
    PERFORM memory.lock_enrichment_queue();
    SELECT array_agg(t.user_id), array_agg(t.id) INTO v_users, v_ids
    FROM memory.to_enrich(4) t
    WHERE NOT EXISTS (SELECT FROM memory.enrichment_messages g WHERE g.user_id = t.user_id
                      AND g.memory_id = t.id AND g.due_at > clock_timestamp());
    WITH failed AS (
        UPDATE memory.memories m SET enrichment_status = 'failed', enrichment_error = g.error, enrichment_retry_at = NULL
        FROM memory.given_up('memory_enrich', v_users, v_ids) g
        WHERE m.user_id = g.user_id AND m.id = g.id AND m.enrichment_status IN ('pending', 'paused')
        RETURNING m.id)
    SELECT coalesce(array_agg(f.id), '{}') INTO v_failed FROM failed f;
    SELECT memory.queue_work('memory_enrich', array_agg(t.user_id), array_agg(t.id)) INTO queued
    FROM unnest(v_users, v_ids) t (user_id, id) WHERE t.id <> ALL (v_failed);
    IF EXISTS (SELECT FROM memory.to_enrich(1)) THEN
        pause := 1;
    ELSE
        SELECT greatest(0.25, extract(epoch FROM min(m.enrichment_retry_at) - clock_timestamp())) INTO pause
        FROM memory.memories m WHERE m.enrichment_status = 'paused' AND memory.is_to_enrich(m);
    END IF;
END
$$;

-- `category` is null where one is to be chosen: there is none, or it is a model's own.
DROP FUNCTION IF EXISTS memory.read_to_enrich(uuid, uuid);
CREATE FUNCTION memory.read_to_enrich(p_user uuid, p_id uuid, OUT body text, OUT digest bytea, OUT category text)
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    SELECT m.body, sha256(convert_to(m.body, 'UTF8')),
           CASE WHEN m.enriched ->> 'category' IS DISTINCT FROM m.category THEN m.category END
    INTO body, digest, category
    FROM memory.memories m WHERE m.user_id = p_user AND m.id = p_id AND memory.is_to_enrich(m);
END
$$;

-- Behind the locks of its owner and its own, fill what a person left empty, or a model wrote, in the memory that a model
-- read. Null where it is gone, says something else, or was enriched by another worker in the meantime.
CREATE OR REPLACE FUNCTION memory.fill(p_user uuid, p_id uuid, p_digest bytea, p_model text, p_found jsonb)
RETURNS memory.memories LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_it memory.memories;
    v_now jsonb;
    v_patch jsonb;
BEGIN
    PERFORM set_config('memory.user_id', p_user::text, true),
            set_config('memory.actor', jsonb_build_object('kind', 'model', 'name', p_model)::text, true),
            memory.lock_usage();
    SELECT * INTO v_it FROM memory.memories m WHERE m.user_id = p_user AND m.id = p_id FOR NO KEY UPDATE;
    IF v_it.id IS NULL OR NOT memory.is_to_enrich(v_it) OR sha256(convert_to(v_it.body, 'UTF8')) <> p_digest THEN
        RETURN NULL;
    END IF;
    v_now := to_jsonb(v_it);
    SELECT coalesce(jsonb_object_agg(f.key, f.value), '{}') INTO v_patch
    FROM jsonb_each(p_found) f
    WHERE f.key = ANY ('{title,category,tags}') AND f.value NOT IN ('null', '[]')
      AND (v_now -> f.key IN ('null', '[]', '""') OR v_now -> f.key = v_it.enriched -> f.key);
    BEGIN
        PERFORM memory.change(p_id, NULL, v_patch || jsonb_build_object('enriched', v_it.enriched || v_patch));
    EXCEPTION WHEN SQLSTATE 'MC402' THEN
        -- The plan has no bytes left for a title; the rest weighs nothing.
        v_patch := v_patch - 'title';
        PERFORM memory.change(p_id, NULL, v_patch || jsonb_build_object('enriched', v_it.enriched || v_patch));
    END;
    UPDATE memory.memories m SET enriched = m.enriched || v_patch WHERE m.user_id = p_user AND m.id = p_id;
    RETURN v_it;
END
$$;

-- Write the category that a memory belongs to, before it is described; false where it is not to be described any more.
CREATE OR REPLACE FUNCTION memory.write_category(p_user uuid, p_id uuid, p_digest bytea, p_model text, p_category text)
RETURNS boolean LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RETURN (memory.fill(p_user, p_id, p_digest, p_model, jsonb_build_object('category', p_category))).id IS NOT NULL;
END
$$;

-- Write what a model found, once: false where it is not to be described any more. Fields that a person wrote stay; the facts
-- are the memory's only ones.
CREATE OR REPLACE FUNCTION memory.write_enrichment(p_user uuid, p_id uuid, p_digest bytea, p_model text, p_found jsonb)
RETURNS boolean LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_was memory.memories := memory.fill(p_user, p_id, p_digest, p_model, p_found);
BEGIN
    IF v_was.id IS NULL THEN
        RETURN false;
    END IF;
    -- The facts too are part of what a client keeps of a memory.
    UPDATE memory.memories m
    SET enrichment_status = 'done', enrichment_error = NULL, enrichment_retry_at = NULL,
        change_seq = nextval('memory.change_seq')
    WHERE m.user_id = p_user AND m.id = p_id;
    PERFORM memory.forget_facts(v_was);
    INSERT INTO memory.facts (user_id, memory_id, place, text, category, confidence, model)
    SELECT p_user, p_id, f.ordinality, f.value ->> 'text', f.value ->> 'category',
           (f.value ->> 'confidence')::double precision, p_model
    FROM jsonb_array_elements(p_found -> 'facts') WITH ORDINALITY f;
    RETURN true;
END
$$;

-- Note that a memory could not be enriched: it failed, or waits until p_retry_at for what it would cost.
CREATE OR REPLACE FUNCTION memory.note_enrichment(
    p_user uuid, p_id uuid, p_digest bytea, p_status text, p_error text, p_retry_at timestamptz)
RETURNS void LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    UPDATE memory.memories m
    SET enrichment_status = p_status, enrichment_error = p_error, enrichment_retry_at = p_retry_at
    WHERE m.user_id = p_user AND m.id = p_id AND p_status IN ('failed', 'paused') AND memory.is_to_enrich(m)
      AND sha256(convert_to(m.body, 'UTF8')) = p_digest;
END
$$;

-- A person asks for it, again or sooner; what waits already goes on waiting.
CREATE OR REPLACE FUNCTION memory.ask_enrichment(p_id uuid) RETURNS memory.memories
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_me uuid := memory.me();
    v_it memory.memories := memory.take(p_id, NULL, false);
BEGIN
    IF v_it.is_recalled THEN
        PERFORM memory.refuse(409, 'recalled', 'text that was recalled from memory is not extracted again');
    ELSIF v_it.enrichment_status <> 'pending' THEN
        UPDATE memory.memories m
        SET enrichment_status = 'pending', enrichment_error = NULL,
            -- What the queue gave up before this moment counts no more.
            enrichment_retry_at = clock_timestamp(),
            change_seq = nextval('memory.change_seq')
        WHERE m.user_id = v_me AND m.id = p_id RETURNING * INTO v_it;
        PERFORM memory.wake_worker();
    END IF;
    RETURN v_it;
END
$$;

CREATE OR REPLACE FUNCTION memory.fact_json(f memory.facts) RETURNS jsonb
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RETURN jsonb_build_object('id', f.id, 'memory_id', f.memory_id, 'text', f.text, 'category', f.category,
                              'confidence', f.confidence, 'model', f.model, 'created_at', memory.iso(f.created_at));
END
$$;

REVOKE ALL ON FUNCTION
    memory.own_title(memory.memories), memory.forget_facts(memory.memories), memory.is_to_enrich(memory.memories),
    memory.to_enrich(integer), memory.lock_enrichment_queue(), memory.queue_enrichments(), memory.read_to_enrich(uuid, uuid),
    memory.fill(uuid, uuid, bytea, text, jsonb),
    memory.write_category(uuid, uuid, bytea, text, text), memory.write_enrichment(uuid, uuid, bytea, text, jsonb),
    memory.note_enrichment(uuid, uuid, bytea, text, text, timestamptz), memory.ask_enrichment(uuid),
    memory.fact_json(memory.facts)
FROM PUBLIC;
GRANT EXECUTE ON FUNCTION
    memory.own_title(memory.memories), memory.forget_facts(memory.memories), memory.ask_enrichment(uuid),
    memory.fact_json(memory.facts)
TO memory_app;
GRANT EXECUTE ON FUNCTION
    memory.queue_enrichments(), memory.read_to_enrich(uuid, uuid),
    memory.write_category(uuid, uuid, bytea, text, text), memory.write_enrichment(uuid, uuid, bytea, text, jsonb),
    memory.note_enrichment(uuid, uuid, bytea, text, text, timestamptz)
TO steadytext_worker;
