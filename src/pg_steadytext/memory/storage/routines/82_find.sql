-- A search as its endpoint answers it.

-- Who searches, and whether there are searches left today: counted before a model is asked for anything.
CREATE OR REPLACE FUNCTION memory.begin_search(
    p_kind text, p_hash bytea, p_csrf bytea, OUT user_id uuid, OUT headers jsonb)
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_left bigint;
BEGIN
    SELECT e.user_id INTO user_id FROM memory.enter(p_kind, p_hash, 'memories:read', p_csrf) e;
    -- Nobody waits for the disk: a crash of the server may take the last counts back.
    PERFORM set_config('synchronous_commit', 'off', true);
    v_left := memory.count_rate('searches');
    SELECT jsonb_build_object('RateLimit-Limit', (v_left + r.used)::text, 'RateLimit-Remaining', v_left::text,
                              'RateLimit-Reset', memory.seconds_left(r.since)::text)
    INTO headers FROM memory.usage_rates r WHERE r.user_id = memory.me() AND r.kind = 'searches';
END
$$;

-- Memories that hold the words: all of them, as a web search has it; any of them where those are too few; similar words
-- where even that finds nothing. p_shown are the words that were found by, for the highlights.
CREATE OR REPLACE FUNCTION memory.find_words(
    p_query text, p_filter jsonb, p_enough integer, p_most integer, OUT ids uuid[], OUT shown tsquery)
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_every tsquery := websearch_to_tsquery('english', p_query);
    v_either tsquery := replace(plainto_tsquery('english', p_query)::text, ' & ', ' | ')::tsquery;
    -- Who quotes or excludes words means them.
    v_is_loose boolean := p_query !~ '(^|\s)-\S|"';
BEGIN
    shown := v_either;
    ids := '{}';
    IF numnode(v_every) > 0 AND numnode(v_either) > 0 THEN
        ids := ARRAY(SELECT memory.nominate(v_every, NULL, v_either, p_filter, p_most));
    END IF;
    IF cardinality(ids) < p_enough AND numnode(v_either) > 1 AND v_is_loose THEN
        ids := ids || ARRAY(SELECT memory.nominate(v_either, v_every, v_either, p_filter, p_most - cardinality(ids)));
    END IF;
    IF cardinality(ids) = 0 AND v_is_loose THEN
        shown := memory.corrected(p_query);
        IF shown IS NOT NULL THEN
            ids := ARRAY(SELECT memory.nominate(shown, NULL, shown, p_filter, p_most));
        END IF;
    END IF;
END
$$;

-- How many each arm finds, of which the best are answered.
CREATE OR REPLACE FUNCTION memory.arm_depth(p_limit integer) RETURNS integer
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN greatest(4 * p_limit, 40);

-- The same for who has not been let in yet: a hybrid search looks for words while a model reads the query.
CREATE OR REPLACE FUNCTION memory.look_for_words(
    p_kind text, p_hash bytea, p_csrf bytea, p_query text, p_filter jsonb, p_limit integer,
    OUT ids uuid[], OUT shown tsquery)
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM memory.enter(p_kind, p_hash, 'memories:read', p_csrf);
    SELECT w.ids, w.shown INTO ids, shown FROM memory.find_words(p_query, p_filter, p_limit, memory.arm_depth(p_limit)) w;
END
$$;

-- Both arms, joined by reciprocal rank fusion (Cormack, Clarke, Buettcher 2009). Their k = 60 is for lists a thousand deep;
-- of 40, k = 5 keeps the first places worth more than the last, and what has the words is likelier to be beside the point
-- than what means the same. Every row is read under row-level security, whoever
-- nominated it. p_worded and p_shown are what words found, where that is known already.
DROP FUNCTION IF EXISTS memory.find(text, text, text, jsonb, integer, double precision, boolean, boolean);
CREATE OR REPLACE FUNCTION memory.find(
    p_query text, p_vector text, p_mode text, p_filter jsonb, p_limit integer, p_floor double precision, p_explain boolean,
    p_highlight boolean, p_worded uuid[] DEFAULT NULL, p_shown tsquery DEFAULT NULL)
RETURNS jsonb LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_deep integer := CASE p_mode WHEN 'hybrid' THEN memory.arm_depth(p_limit) ELSE p_limit END;
    v_near uuid[] := '{}';
    v_similarities double precision[] := '{}';
    v_worded uuid[] := p_worded;
    v_shown tsquery := p_shown;
    v_items jsonb;
BEGIN
    IF p_mode <> 'keyword' THEN
        SELECT n.ids, n.similarities INTO v_near, v_similarities FROM memory.nearest(p_vector, p_filter, v_deep) n;
    END IF;
    IF p_mode <> 'semantic' AND p_worded IS NULL THEN
        SELECT w.ids, w.shown INTO v_worded, v_shown FROM memory.find_words(p_query, p_filter, p_limit, v_deep) w;
    END IF;
    IF v_shown IS NULL AND p_highlight THEN
        v_shown := replace(plainto_tsquery('english', p_query)::text, ' & ', ' | ')::tsquery;
    END IF;
    WITH near AS (
        SELECT n.id, n.similarity, n.place FROM unnest(v_near, v_similarities) WITH ORDINALITY n (id, similarity, place)
        WHERE n.similarity >= coalesce(p_floor, -2)
    ), worded AS (
        SELECT w.id, w.place FROM unnest(v_worded) WITH ORDINALITY w (id, place)
    ), fused AS (
        SELECT coalesce(n.id, w.id) AS id, n.similarity, n.place AS near, w.place AS worded,
               CASE p_mode WHEN 'semantic' THEN n.similarity
                    ELSE coalesce(1.0 / (5 + n.place), 0) + coalesce(0.6 / (5 + w.place), 0) END AS score
        FROM near n FULL JOIN worded w ON w.id = n.id
    ), best AS (
        SELECT m, f.* FROM fused f JOIN memory.memories m ON m.user_id = memory.me() AND m.id = f.id
        WHERE NOT memory.is_away(m)
        ORDER BY f.score DESC, f.id DESC LIMIT p_limit
    )
    SELECT jsonb_agg(
        memory.memory_json(b.m) || jsonb_build_object(
            'score', b.score, 'similarity', b.similarity,
            'highlights', CASE WHEN p_highlight THEN jsonb_build_object(
                'title', memory.highlight((b.m).title, v_shown), 'body', memory.highlight((b.m).body, v_shown)) END,
            'ranks', CASE WHEN p_explain THEN jsonb_build_object('semantic', b.near, 'keyword', b.worded) END)
        ORDER BY b.score DESC, b.id DESC)
    INTO v_items FROM best b;
    RETURN coalesce(v_items, '[]');
END
$$;

-- How many of the caller's memories wait to be embedded, counted up to ten thousand.
CREATE OR REPLACE FUNCTION memory.pending_embeddings() RETURNS bigint
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_me uuid := memory.me();
BEGIN
    RETURN (SELECT count(*) FROM (SELECT FROM memory.memories m WHERE m.user_id = v_me
                AND m.embedding_status IN ('pending', 'paused') AND m.deleted_at IS NULL LIMIT 10000) w);
END
$$;

DROP FUNCTION IF EXISTS memory.search(text, bytea, bytea, text, text, text, jsonb, jsonb, integer, double precision, boolean, boolean);
-- p_without says why there is no vector, where there is none although it was wanted.
CREATE OR REPLACE FUNCTION memory.search(
    p_kind text, p_hash bytea, p_csrf bytea, p_query text, p_vector text, p_mode text, p_without jsonb, p_filter jsonb,
    p_limit integer, p_floor double precision, p_explain boolean, p_highlight boolean,
    p_worded uuid[] DEFAULT NULL, p_shown tsquery DEFAULT NULL)
RETURNS jsonb LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_mode text := CASE WHEN p_vector IS NULL THEN 'keyword' ELSE p_mode END;
    v_without jsonb := p_without;
    v_pending bigint;
BEGIN
    PERFORM memory.enter(p_kind, p_hash, 'memories:read', p_csrf);
    v_pending := memory.pending_embeddings();
    IF v_mode <> 'keyword' AND v_pending > 0
       AND NOT EXISTS (SELECT FROM memory.embeddings e WHERE e.user_id = memory.me()) THEN
        v_mode := 'keyword';
        v_without := jsonb_build_object('degraded_because', 'embeddings-pending');
    END IF;
    RETURN jsonb_build_object('mode', v_mode, 'degraded_because', NULL, 'degraded_detail', NULL, 'retry_at', NULL,
                              'pending_embeddings', v_pending)
           || coalesce(v_without, '{}')
           || jsonb_build_object('items', memory.find(p_query, p_vector, v_mode, p_filter, p_limit, p_floor, p_explain, p_highlight,
                                                        p_worded, p_shown));
END
$$;

-- Memories that mean what one means, by its own vector: no model is asked.
CREATE OR REPLACE FUNCTION memory.similar_to(
    p_kind text, p_hash bytea, p_csrf bytea, p_id uuid, p_limit integer, p_floor double precision)
RETURNS jsonb LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_memory memory.memories;
    v_vector text;
BEGIN
    PERFORM memory.enter(p_kind, p_hash, 'memories:read', p_csrf);
    SELECT * INTO v_memory FROM memory.memories m WHERE m.user_id = memory.me() AND m.id = p_id;
    IF v_memory.id IS NULL OR memory.is_away(v_memory) THEN
        PERFORM memory.refuse(404, 'not-found', 'there is no such memory');
    END IF;
    PERFORM memory.count_rate('searches');
    SELECT e.embedding::text INTO v_vector FROM memory.embeddings e WHERE e.user_id = memory.me() AND e.memory_id = p_id;
    RETURN jsonb_build_object(
        'mode', 'semantic', 'degraded_because', CASE WHEN v_vector IS NULL THEN 'embeddings-pending' END,
        'degraded_detail', NULL, 'retry_at', NULL, 'pending_embeddings', memory.pending_embeddings(),
        'items', CASE WHEN v_vector IS NULL THEN '[]' ELSE memory.find(
            '', v_vector, 'semantic', jsonb_build_object('not_id', p_id), p_limit, p_floor, false, false) END);
END
$$;

GRANT EXECUTE ON FUNCTION
    memory.arm_depth(integer), memory.find_words(text, jsonb, integer, integer), memory.pending_embeddings(),
    memory.find(text, text, text, jsonb, integer, double precision, boolean, boolean, uuid[], tsquery)
TO memory_app;
GRANT EXECUTE ON FUNCTION
    memory.begin_search(text, bytea, bytea), memory.similar_to(text, bytea, bytea, uuid, integer, double precision),
    memory.look_for_words(text, bytea, bytea, text, jsonb, integer),
    memory.search(text, bytea, bytea, text, text, text, jsonb, jsonb, integer, double precision, boolean, boolean, uuid[], tsquery)
TO memory_service;
