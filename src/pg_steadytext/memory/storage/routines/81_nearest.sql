-- The vector arm: exact where few vectors can be meant, by the partition's index where many can.

CREATE OR REPLACE FUNCTION memory.nearest_source(p_filter jsonb) RETURNS text
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RETURN 'memory.embeddings e JOIN memory.memories m ON m.user_id = e.user_id AND m.id = e.memory_id '
           'WHERE e.user_id = $1 AND ' || memory.search_condition(p_filter);
END
$$;

-- Whether so many vectors can be meant that the index is worth it. The index is walked through what all users of the
-- partition have, so that it is not for one whose vectors are rare there.
CREATE OR REPLACE FUNCTION memory.are_many(p_filter jsonb, p_few integer) RETURNS boolean
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_me uuid := memory.me();
    v_own bigint;
    v_all double precision;
BEGIN
    SELECT count(*) INTO v_own FROM (SELECT FROM memory.embeddings e WHERE e.user_id = v_me LIMIT p_few + 1) o;
    IF v_own <= p_few THEN
        RETURN false;
    END IF;
    IF p_filter <> '{}' THEN
        EXECUTE format('SELECT count(*) FROM (SELECT FROM %s LIMIT %s) f', memory.nearest_source(p_filter), p_few + 1)
        INTO v_own USING v_me;
        IF v_own <= p_few THEN
            RETURN false;
        END IF;
    END IF;
    SELECT greatest(v_own, u.memories) INTO v_own FROM memory.usage u WHERE u.user_id = v_me;
    SELECT c.reltuples INTO v_all FROM pg_class c
    WHERE c.oid = (SELECT e.tableoid FROM memory.embeddings e WHERE e.user_id = v_me LIMIT 1);
    RETURN v_own::double precision * v_own >= 1000 * v_all;
END
$$;

CREATE OR REPLACE FUNCTION memory.nearest_exact(p_vector text, p_filter jsonb, p_most integer)
RETURNS TABLE (id uuid, similarity double precision)
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp SET jit = off AS $$
BEGIN
    -- What is added to the distance keeps the planner from the index; OFFSET 0 has it computed once a row.
    RETURN QUERY EXECUTE format(
        'SELECT n.memory_id, 1 - n.distance FROM (SELECT e.memory_id, (e.embedding OPERATOR(%1$s.<=>) $2::%1$s.vector) + 0 AS distance '
        'FROM %2$s OFFSET 0) n ORDER BY n.distance, n.memory_id LIMIT $3', memory.vector_schema(), memory.nearest_source(p_filter))
    USING memory.me(), p_vector, p_most;
END
$$;

-- The scan goes on, in the order of distance, until enough of what it finds is the caller's and satisfies the filter.
CREATE OR REPLACE FUNCTION memory.nearest_by_index(p_vector text, p_filter jsonb, p_most integer)
RETURNS TABLE (id uuid, similarity double precision)
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
SET jit = off SET enable_sort = off SET enable_hashjoin = off SET enable_mergejoin = off SET enable_material = off
SET hnsw.ef_search = 1000 SET hnsw.iterative_scan = strict_order SET hnsw.max_scan_tuples = 100000 AS $$
BEGIN
    RETURN QUERY EXECUTE format(
        'SELECT e.memory_id, 1 - (e.embedding OPERATOR(%1$s.<=>) $2::%1$s.vector) FROM %2$s '
        'ORDER BY e.embedding OPERATOR(%1$s.<=>) $2::%1$s.vector LIMIT $3', memory.vector_schema(), memory.nearest_source(p_filter))
    USING memory.me(), p_vector, p_most;
END
$$;

CREATE OR REPLACE FUNCTION memory.nearest(p_vector text, p_filter jsonb, p_most integer, p_few integer DEFAULT 5000)
RETURNS TABLE (ids uuid[], similarities double precision[])
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF memory.are_many(p_filter, p_few) THEN
        SELECT array_agg(n.id ORDER BY n.similarity DESC, n.id), array_agg(n.similarity ORDER BY n.similarity DESC, n.id)
        INTO ids, similarities FROM memory.nearest_by_index(p_vector, p_filter, p_most) n;
    END IF;
    -- Where the index gave up before it had found enough, the exact way is gone all the same.
    IF ids IS NULL OR cardinality(ids) < p_most THEN
        SELECT array_agg(n.id ORDER BY n.similarity DESC, n.id), array_agg(n.similarity ORDER BY n.similarity DESC, n.id)
        INTO ids, similarities FROM memory.nearest_exact(p_vector, p_filter, p_most) n;
    END IF;
    RETURN NEXT;
END
$$;

GRANT EXECUTE ON FUNCTION
    memory.nearest_source(jsonb), memory.are_many(jsonb, integer), memory.nearest_exact(text, jsonb, integer),
    memory.nearest_by_index(text, jsonb, integer), memory.nearest(text, jsonb, integer, integer)
TO memory_app;
