-- Embedding of memories: a save marks the memory pending, the worker queues what is pending, embeds it with no transaction
-- open, and writes a vector if the memory still says what was embedded. The memory's state is the truth; the queue may be
-- emptied, or not be there.

-- A title that a model made says nothing that the text does not: it is not embedded.
CREATE OR REPLACE FUNCTION memory.own_title(m memory.memories) RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN nullif(m.title, m.enriched ->> 'title');

CREATE OR REPLACE FUNCTION memory.embedded_text(p_title text, p_body text) RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN CASE WHEN p_title IS NULL THEN p_body ELSE p_title || E'\n' || p_body END;

CREATE OR REPLACE FUNCTION memory.embedded_digest(p_title text, p_body text) RETURNS bytea
LANGUAGE sql STABLE PARALLEL SAFE
RETURN sha256(convert_to(memory.embedded_text(p_title, p_body), 'UTF8'));

CREATE OR REPLACE FUNCTION memory.wake_worker() RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF EXISTS (SELECT FROM memory.embedding_lane l WHERE l.asleep_until > now()) THEN
        PERFORM pg_notify('steadytext_queue', '');
    END IF;
END
$$;

-- The memory says something else: what it was found by is gone with what it said.
CREATE OR REPLACE FUNCTION memory.forget_embedding(m memory.memories) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    DELETE FROM memory.embeddings e WHERE e.user_id = m.user_id AND e.memory_id = m.id;
    -- Nobody need decide about what it said before.
    DELETE FROM memory.duplicate_pairs p
    WHERE p.user_id = m.user_id AND m.id IN (p.a, p.b) AND p.state = 'suggested';
    PERFORM memory.wake_worker();
END
$$;

-- Memories to be queued next: of each user a few, the newest first, so that nobody's import keeps the others waiting.
CREATE OR REPLACE FUNCTION memory.to_embed(p_each integer) RETURNS TABLE (user_id uuid, id uuid)
LANGUAGE sql STABLE
BEGIN ATOMIC
    WITH RECURSIVE who (user_id) AS (
        (SELECT m.user_id FROM memory.memories m WHERE m.embedding_status IN ('pending', 'paused', 'failed')
         ORDER BY m.user_id LIMIT 1)
        UNION ALL
        SELECT (SELECT m.user_id FROM memory.memories m
                WHERE m.embedding_status IN ('pending', 'paused', 'failed') AND m.user_id > w.user_id
                ORDER BY m.user_id LIMIT 1)
        FROM who w WHERE w.user_id IS NOT NULL
    )
    SELECT w.user_id, f.id FROM who w, LATERAL (
        SELECT m.id FROM memory.memories m
        WHERE m.user_id = w.user_id AND m.embedding_status IN ('pending', 'paused', 'failed') AND m.deleted_at IS NULL
          AND (m.embedding_status = 'pending' OR m.embedding_status = 'paused' AND m.embedding_retry_at <= clock_timestamp())
        ORDER BY m.id DESC LIMIT p_each) f;
END;

-- Queue what is pending and not queued. Returns the seconds until the next look, or null where nothing is left to do; with
-- p_sleeps, savers are asked to wake the worker in the meantime.
CREATE OR REPLACE FUNCTION memory.queue_embeddings(p_sleeps boolean, OUT queued bigint, OUT pause double precision)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_waiting boolean;
    v_users uuid[];
    v_ids uuid[];
    v_failed uuid[];
BEGIN
    SELECT array_agg(t.user_id), array_agg(t.id) INTO v_users, v_ids FROM memory.to_embed(100) t;
    WITH failed AS (
        UPDATE memory.memories m SET embedding_status = 'failed', embedding_error = g.error, embedding_retry_at = NULL
        FROM memory.given_up('memory_embed', v_users, v_ids) g
        WHERE m.user_id = g.user_id AND m.id = g.id AND m.embedding_status = 'pending'
        RETURNING m.id)
    SELECT coalesce(array_agg(f.id), '{}') INTO v_failed FROM failed f;
    SELECT memory.queue_work('memory_embed', array_agg(t.user_id), array_agg(t.id)) INTO queued
    FROM unnest(v_users, v_ids) t (user_id, id) WHERE t.id <> ALL (v_failed);
    v_waiting := EXISTS (SELECT FROM memory.to_embed(1));
    IF v_waiting THEN
        pause := 0.25;
    ELSE
        SELECT greatest(0.25, extract(epoch FROM min(m.embedding_retry_at) - clock_timestamp())) INTO pause
        FROM memory.memories m WHERE m.embedding_status IN ('pending', 'paused', 'failed') AND m.embedding_status = 'paused'
                                 AND m.deleted_at IS NULL;
    END IF;
    IF p_sleeps AND NOT v_waiting THEN
        UPDATE memory.embedding_lane SET asleep_until = now() + interval '65 seconds'
        WHERE asleep_until < now() + interval '40 seconds';
    ELSIF v_waiting THEN
        UPDATE memory.embedding_lane SET asleep_until = '-infinity' WHERE asleep_until > now();
    END IF;
END
$$;

-- The texts of some memories: those that are still to be embedded.
CREATE OR REPLACE FUNCTION memory.read_texts(p_users uuid[], p_ids uuid[])
RETURNS TABLE (user_id uuid, id uuid, words text, digest bytea)
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RETURN QUERY
    SELECT m.user_id, m.id, memory.embedded_text(memory.own_title(m), m.body),
           memory.embedded_digest(memory.own_title(m), m.body)
    FROM unnest(p_users, p_ids) g (user_id, id) JOIN memory.memories m ON m.user_id = g.user_id AND m.id = g.id
    WHERE m.embedding_status IN ('pending', 'paused', 'failed') AND m.deleted_at IS NULL;
END
$$;

-- Write vectors. Returns the ids of memories that somebody is changing at this moment: they are tried again. The memory is
-- locked last and for short, since the index takes its time; a vector that came too late is taken out again.
CREATE OR REPLACE FUNCTION memory.write_embeddings(
    p_users uuid[], p_ids uuid[], p_digests bytea[], p_vectors text[], p_model text)
RETURNS SETOF uuid LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_done uuid[];
BEGIN
    EXECUTE format($f$
        INSERT INTO memory.embeddings AS o (user_id, memory_id, digest, model, embedding)
        SELECT g.user_id, g.id, g.digest, $5, g.vector::%1$s.vector
        FROM unnest($1, $2, $3, $4) g (user_id, id, digest, vector)
        JOIN memory.memories m ON m.user_id = g.user_id AND m.id = g.id
        WHERE memory.embedded_digest(memory.own_title(m), m.body) = g.digest
        ON CONFLICT (user_id, memory_id) DO UPDATE
        SET digest = excluded.digest, model = excluded.model, embedding = excluded.embedding, embedded_at = now()
        $f$, memory.vector_schema()) USING p_users, p_ids, p_digests, p_vectors, p_model;
    v_done := ARRAY(
        SELECT m.id FROM unnest(p_users, p_ids, p_digests) g (user_id, id, digest)
        JOIN memory.memories m ON m.user_id = g.user_id AND m.id = g.id
        WHERE memory.embedded_digest(memory.own_title(m), m.body) = g.digest
        FOR NO KEY UPDATE OF m SKIP LOCKED);
    UPDATE memory.memories m SET embedding_status = 'done', embedding_error = NULL, embedding_retry_at = NULL
    FROM unnest(p_users, p_ids) g (user_id, id)
    WHERE m.user_id = g.user_id AND m.id = g.id AND g.id = ANY (v_done);
    INSERT INTO memory.to_compare AS c (user_id, memory_id, digest)
    SELECT g.user_id, g.id, g.digest FROM unnest(p_users, p_ids, p_digests) g (user_id, id, digest) WHERE g.id = ANY (v_done)
    ON CONFLICT (user_id, memory_id) DO UPDATE SET digest = excluded.digest, attempts = 0;
    DELETE FROM memory.embeddings e USING unnest(p_users, p_ids) g (user_id, id), memory.memories m
    WHERE e.user_id = g.user_id AND e.memory_id = g.id AND g.id <> ALL (v_done) AND m.user_id = g.user_id AND m.id = g.id
      AND (m.embedding_status <> 'done' OR memory.embedded_digest(memory.own_title(m), m.body) <> e.digest);
    RETURN QUERY
    SELECT m.id FROM unnest(p_users, p_ids, p_digests) g (user_id, id, digest)
    JOIN memory.memories m ON m.user_id = g.user_id AND m.id = g.id
    WHERE g.id <> ALL (v_done) AND memory.embedded_digest(memory.own_title(m), m.body) = g.digest;
END
$$;

-- Note that a memory could not be embedded: it failed, or waits until p_retry_at for what it would cost.
CREATE OR REPLACE FUNCTION memory.note_embedding(
    p_users uuid[], p_ids uuid[], p_digests bytea[], p_status text, p_error text, p_retry_at timestamptz)
RETURNS void LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    UPDATE memory.memories m SET embedding_status = p_status, embedding_error = p_error, embedding_retry_at = p_retry_at
    FROM unnest(p_users, p_ids, p_digests) g (user_id, id, digest)
    WHERE m.user_id = g.user_id AND m.id = g.id AND p_status IN ('failed', 'paused')
      AND m.embedding_status IN ('pending', 'paused', 'failed')
      AND memory.embedded_digest(memory.own_title(m), m.body) = g.digest;
END
$$;

-- A worker reads every text that it embeds; it asks the budget and the breaker as the service does.
GRANT memory_service TO steadytext_worker;
GRANT EXECUTE ON FUNCTION memory.wake_worker(), memory.forget_embedding(memory.memories) TO memory_app;
GRANT EXECUTE ON FUNCTION
    memory.queue_embeddings(boolean), memory.read_texts(uuid[], uuid[]),
    memory.write_embeddings(uuid[], uuid[], bytea[], text[], text),
    memory.note_embedding(uuid[], uuid[], bytea[], text, text, timestamptz)
TO steadytext_worker;
