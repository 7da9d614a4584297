-- Near duplicates: the worker compares each memory that has a new vector with a few of its user's, and suggests pairs;
-- nothing but its owner's decision changes a memory.

-- Begin a transaction of the worker's as a user, under row-level security.
CREATE OR REPLACE FUNCTION memory.work_for(p_user uuid) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM set_config('memory.user_id', p_user::text, true),
            set_config('memory.actor', '{"kind": "service", "name": "worker"}', true),
            set_config('role', 'memory_app', true);
END
$$;

-- Users with something to compare, in their order, p_most of them after p_after.
CREATE OR REPLACE FUNCTION memory.users_to_compare(p_after uuid, p_most integer) RETURNS SETOF uuid
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    WITH RECURSIVE who (user_id, n) AS (
        (SELECT c.user_id, 1 FROM memory.to_compare c
         WHERE c.attempts < 5 AND (p_after IS NULL OR c.user_id > p_after) ORDER BY c.user_id LIMIT 1)
        UNION ALL
        SELECT (SELECT c.user_id FROM memory.to_compare c WHERE c.attempts < 5 AND c.user_id > w.user_id
                ORDER BY c.user_id LIMIT 1), w.n + 1
        FROM who w WHERE w.user_id IS NOT NULL AND w.n < p_most
    )
    SELECT w.user_id FROM who w WHERE w.user_id IS NOT NULL
$$;

-- Queue a job for each of the users that has none.
CREATE OR REPLACE FUNCTION memory.queue_comparisons(p_users uuid[]) RETURNS bigint
LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT memory.queue_work('memory_compare', p_users)
$$;

-- The memories that are compared next, as p_most at a time; the attempt counts, whatever becomes of it.
CREATE OR REPLACE FUNCTION memory.begin_comparing(p_most integer)
RETURNS TABLE (id uuid, words text, digest bytea, content_hash bytea)
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_me uuid := memory.me();
BEGIN
    RETURN QUERY
    WITH next AS (
        SELECT c.memory_id FROM memory.to_compare c WHERE c.user_id = v_me AND c.attempts < 5
        ORDER BY c.attempts, c.memory_id LIMIT p_most FOR UPDATE SKIP LOCKED
    ), begun AS (
        UPDATE memory.to_compare c SET attempts = c.attempts + 1
        FROM next n WHERE c.user_id = v_me AND c.memory_id = n.memory_id RETURNING c.memory_id, c.digest
    )
    SELECT m.id, memory.embedded_text(m.title, m.body), b.digest, m.content_hash
    FROM begun b JOIN memory.memories m ON m.user_id = v_me AND m.id = b.memory_id;
END
$$;

-- What a memory may be a duplicate of: the same text, the same words, the nearest meaning; p_each of each at most, less
-- those that were decided and still say the same.
CREATE OR REPLACE FUNCTION memory.duplicate_candidates(p_id uuid, p_each integer)
RETURNS TABLE (id uuid, words text, digest bytea, content_hash bytea, cosine double precision)
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp SET jit = off AS $$
DECLARE
    v_me uuid := memory.me();
    v_it memory.memories;
    v_vector text;
    v_words tsquery;
BEGIN
    SELECT * INTO v_it FROM memory.memories m WHERE m.user_id = v_me AND m.id = p_id;
    SELECT e.embedding::text INTO v_vector FROM memory.embeddings e WHERE e.user_id = v_me AND e.memory_id = p_id;
    IF v_it.id IS NULL OR memory.is_away(v_it) OR v_vector IS NULL THEN
        RETURN;
    END IF;
    -- The longest words are the rarest, about.
    SELECT string_agg(quote_literal(w.word), ' | ')::tsquery INTO v_words
    FROM (SELECT o.word FROM unnest(tsvector_to_array(v_it.document)) o (word) ORDER BY length(o.word) DESC, o.word LIMIT 12) w;
    RETURN QUERY EXECUTE format($f$
        WITH same AS (
            SELECT m.id FROM memory.memories m
            WHERE m.user_id = $1 AND m.content_hash = $3 AND m.deleted_at IS NULL LIMIT $5
        ), worded AS (
            SELECT w.id FROM (
                SELECT m.id, m.document FROM memory.memories m
                WHERE m.user_id = $1 AND m.document @@ $4 AND m.deleted_at IS NULL LIMIT 2000) w
            ORDER BY ts_rank(w.document, $4, 1) DESC, w.id LIMIT $5
        ), meant AS (
            SELECT unnest(n.ids) AS id FROM memory.nearest($6, '{}', $5) n
        ), named AS (
            SELECT s.id FROM same s UNION SELECT w.id FROM worded w UNION SELECT n.id FROM meant n
        )
        SELECT m.id, memory.embedded_text(m.title, m.body), memory.embedded_digest(m.title, m.body), m.content_hash,
               1 - (e.embedding OPERATOR(%1$s.<=>) $6::%1$s.vector)
        FROM named n JOIN memory.memories m ON m.user_id = $1 AND m.id = n.id
        LEFT JOIN memory.embeddings e ON e.user_id = $1 AND e.memory_id = n.id
        WHERE m.id <> $2 AND NOT memory.is_away(m)
          AND NOT EXISTS (
            SELECT FROM memory.duplicate_pairs p
            WHERE p.user_id = $1 AND p.a = least(m.id, $2) AND p.b = greatest(m.id, $2) AND p.state <> 'suggested'
              AND p.a_digest = CASE WHEN p.a = $2 THEN $7 ELSE memory.embedded_digest(m.title, m.body) END
              AND p.b_digest = CASE WHEN p.b = $2 THEN $7 ELSE memory.embedded_digest(m.title, m.body) END)
        $f$, memory.vector_schema())
    USING v_me, p_id, v_it.content_hash, v_words, p_each, v_vector, memory.embedded_digest(v_it.title, v_it.body);
END
$$;

-- Suggest pairs of a memory, and end its comparison. Behind the user's lock, so that no text changes in the meantime:
-- what does not say any more what was compared is left out.
CREATE OR REPLACE FUNCTION memory.end_comparing(
    p_id uuid, p_digest bytea, p_others uuid[], p_digests bytea[], p_scores jsonb[]) RETURNS bigint
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_me uuid := memory.me();
    v_suggested bigint := 0;
BEGIN
    IF cardinality(p_others) > 0 THEN
        PERFORM memory.lock_usage();
        INSERT INTO memory.duplicate_pairs AS o (user_id, a, b, a_digest, b_digest, scores)
        SELECT v_me, least(p_id, g.id), greatest(p_id, g.id),
               CASE WHEN p_id < g.id THEN p_digest ELSE g.digest END, CASE WHEN p_id < g.id THEN g.digest ELSE p_digest END,
               g.scores
        FROM unnest(p_others, p_digests, p_scores) g (id, digest, scores)
        JOIN memory.memories m ON m.user_id = v_me AND m.id = g.id
        JOIN memory.memories i ON i.user_id = v_me AND i.id = p_id
        WHERE NOT memory.is_away(m) AND NOT memory.is_away(i)
          AND memory.embedded_digest(m.title, m.body) = g.digest AND memory.embedded_digest(i.title, i.body) = p_digest
        ON CONFLICT (user_id, a, b) DO UPDATE
        SET a_digest = excluded.a_digest, b_digest = excluded.b_digest, scores = excluded.scores, state = 'suggested',
            kept = NULL, created_at = now(), decided_at = NULL, decided_by = NULL
        WHERE (o.a_digest, o.b_digest) IS DISTINCT FROM (excluded.a_digest, excluded.b_digest);
        GET DIAGNOSTICS v_suggested = ROW_COUNT;
    END IF;
    DELETE FROM memory.to_compare c WHERE c.user_id = v_me AND c.memory_id = p_id AND c.digest = p_digest;
    RETURN v_suggested;
END
$$;

CREATE OR REPLACE FUNCTION memory.pair_json(p memory.duplicate_pairs) RETURNS jsonb
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RETURN (
        SELECT jsonb_build_object(
            'id', p.id, 'state', p.state, 'scores', p.scores, 'kept', p.kept, 'a', memory.memory_json(a),
            'b', memory.memory_json(b), 'etag', memory.pair_etag(a, b), 'created_at', memory.iso(p.created_at),
            'decided_at', memory.iso(p.decided_at), 'by', p.decided_by)
        FROM memory.memories a, memory.memories b
        WHERE a.user_id = p.user_id AND a.id = p.a AND b.user_id = p.user_id AND b.id = p.b);
END
$$;

-- The version of a pair is those of both memories.
CREATE OR REPLACE FUNCTION memory.pair_etag(a memory.memories, b memory.memories) RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN '"v' || a.version || '-v' || b.version || '"';

-- Begin a decision behind the user's lock. p_etags are those that the caller knows, null for any. Decided already: the
-- pair is what it is.
CREATE OR REPLACE FUNCTION memory.take_pair(
    p_id uuid, p_etags text[], OUT pair memory.duplicate_pairs, OUT a memory.memories, OUT b memory.memories)
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_me uuid := memory.me();
BEGIN
    PERFORM memory.lock_usage();
    SELECT * INTO pair FROM memory.duplicate_pairs p WHERE p.user_id = v_me AND p.id = p_id;
    IF pair.id IS NULL THEN
        PERFORM memory.refuse(404, 'not-found', 'there is no such pair');
    ELSIF pair.state <> 'suggested' THEN
        RETURN;
    END IF;
    SELECT * INTO a FROM memory.memories m WHERE m.user_id = v_me AND m.id = pair.a FOR NO KEY UPDATE;
    SELECT * INTO b FROM memory.memories m WHERE m.user_id = v_me AND m.id = pair.b FOR NO KEY UPDATE;
    IF memory.is_away(a) OR memory.is_away(b) THEN
        PERFORM memory.refuse(409, 'not-together', 'one of the two is in the trash; take it out, or leave the pair');
    ELSIF NOT memory.pair_etag(a, b) = ANY (p_etags) THEN
        PERFORM memory.refuse(412, 'version-mismatch', 'one of the two was changed; decide about what they are now',
            jsonb_build_object('current', memory.pair_json(pair), 'etag', memory.pair_etag(a, b)));
    END IF;
END
$$;

CREATE OR REPLACE FUNCTION memory.decide_pair(p_id uuid, p_state text, p_kept uuid) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    -- What both say now, as after a merge: out of the trash again, that is no new text.
    UPDATE memory.duplicate_pairs p
    SET state = p_state, kept = p_kept, decided_at = now(), decided_by = current_setting('memory.actor')::jsonb,
        a_digest = memory.embedded_digest(a.title, a.body), b_digest = memory.embedded_digest(b.title, b.body)
    FROM memory.memories a, memory.memories b
    WHERE p.user_id = memory.me() AND p.id = p_id AND a.user_id = memory.me() AND a.id = p.a
      AND b.user_id = memory.me() AND b.id = p.b;
END
$$;

-- Merge two memories that take_pair has locked: change the one as p_patch says, move to it what hangs on the other, and
-- put that one into the trash.
CREATE OR REPLACE FUNCTION memory.merge_pair(p_id uuid, p_kept uuid, p_gone uuid, p_patch jsonb) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_me uuid := memory.me();
    v_gone memory.memories;
    v_was uuid;
BEGIN
    -- First, for a changed text ends what is only suggested; and again at last, with the texts as they are then.
    PERFORM memory.decide_pair(p_id, 'merged', p_kept);
    PERFORM memory.change(p_kept, NULL, p_patch);
    -- Links that end at the other memory end at the kept one; those between the two would lead from it to itself.
    INSERT INTO memory.links (user_id, memory_id, target_id, kind, created_at)
    SELECT v_me, CASE WHEN l.memory_id = p_gone THEN p_kept ELSE l.memory_id END,
           CASE WHEN l.target_id = p_gone THEN p_kept ELSE l.target_id END, l.kind, l.created_at
    FROM memory.links l
    WHERE l.user_id = v_me AND (l.memory_id = p_gone AND l.target_id <> p_kept OR l.target_id = p_gone AND l.memory_id <> p_kept)
    ON CONFLICT (user_id, memory_id, target_id) DO NOTHING;
    UPDATE memory.memories m SET change_seq = nextval('memory.change_seq')
    WHERE m.user_id = v_me
      AND m.id IN (SELECT l.memory_id FROM memory.links l WHERE l.user_id = v_me AND l.target_id = p_gone);
    DELETE FROM memory.links l WHERE l.user_id = v_me AND p_gone IN (l.memory_id, l.target_id);
    -- Two of one name: the other's gets another, so that neither is lost.
    UPDATE memory.attachments t
    SET memory_id = p_kept, updated_at = now(),
        name = CASE WHEN EXISTS (SELECT FROM memory.attachments k
                                 WHERE k.user_id = v_me AND k.memory_id = p_kept AND k.name = t.name)
               THEN left(t.name, 160) || ' ' || p_gone ELSE t.name END
    WHERE t.user_id = v_me AND t.memory_id = p_gone;
    UPDATE memory.memories m SET change_seq = nextval('memory.change_seq') WHERE m.user_id = v_me AND m.id = p_kept;

    SELECT * INTO v_gone FROM memory.memories m WHERE m.user_id = v_me AND m.id = p_gone;
    v_was := v_gone.duplicate_of;
    v_gone.duplicate_of := p_kept;
    v_gone.deleted_at := now();
    v_gone := memory.write_back(v_gone);
    PERFORM memory.hand_over(v_gone),
            memory.write_history(v_gone, 'trashed',
                CASE WHEN v_was IS DISTINCT FROM p_kept
                THEN jsonb_build_object('duplicate_of', jsonb_build_array(v_was, p_kept)) ELSE '{}' END),
            memory.decide_pair(p_id, 'merged', p_kept);
END
$$;

GRANT EXECUTE ON FUNCTION
    memory.work_for(uuid), memory.users_to_compare(uuid, integer), memory.queue_comparisons(uuid[])
TO memory_service, steadytext_worker;
GRANT EXECUTE ON FUNCTION
    memory.begin_comparing(integer), memory.duplicate_candidates(uuid, integer),
    memory.end_comparing(uuid, bytea, uuid[], bytea[], jsonb[]), memory.embedded_text(text, text),
    memory.embedded_digest(text, text), memory.pair_json(memory.duplicate_pairs),
    memory.pair_etag(memory.memories, memory.memories), memory.take_pair(uuid, text[]),
    memory.decide_pair(uuid, text, uuid), memory.merge_pair(uuid, uuid, uuid, jsonb)
TO memory_app;
