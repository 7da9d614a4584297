-- Search by meaning over the texts whose embedding the cache holds.

CREATE FUNCTION @extschema@._steadytext_similar(
    query vector, key_params jsonb, role_scope name, model text, floor double precision, most integer
) RETURNS TABLE (content text, similarity double precision, generated_text text)
LANGUAGE sql STABLE
BEGIN ATOMIC
    SELECT found.prompt, found.similarity,
           (SELECT g.response FROM @extschema@.steadytext_cache g
            WHERE g.prompt = found.prompt AND g.operation = 'generate' AND g.response IS NOT NULL
              AND g.scope IS NOT DISTINCT FROM role_scope
            ORDER BY g.last_accessed DESC, g.id DESC LIMIT 1)
    FROM (
        SELECT c.id, c.prompt, 1 - (c.embedding <=> query) AS similarity
        FROM @extschema@.steadytext_cache c
        WHERE c.operation = 'embed' AND c.model_name = model
          AND c.model_digest IS NOT DISTINCT FROM key_params ->> 'digest'
          AND c.scope IS NOT DISTINCT FROM role_scope
          AND vector_dims(c.embedding) = vector_dims(query)
    ) found
    WHERE found.similarity >= floor
    ORDER BY found.similarity DESC, found.id
    LIMIT most;
END;

-- The prompts that generated answers are looked up by, hashed since a prompt may be longer than an index row.
CREATE INDEX steadytext_cache_prompt_idx ON @extschema@.steadytext_cache USING hash (prompt) WHERE operation = 'generate';

CREATE FUNCTION @extschema@.steadytext_semantic_search(
    query_text text, limit_results integer DEFAULT 10, similarity_threshold double precision DEFAULT 0.7,
    OUT content text, OUT similarity double precision, OUT generated_text text
) RETURNS SETOF record
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_variable
DECLARE
    plan record;
    query @extschema@.steadytext_cache.embedding%TYPE;
BEGIN
    IF num_nulls(limit_results, similarity_threshold) > 0 THEN
        PERFORM @extschema@._steadytext_raise('22004',
            CASE WHEN limit_results IS NULL THEN 'limit_results' ELSE 'similarity_threshold' END || ' cannot be null');
    ELSIF limit_results NOT BETWEEN 1 AND 10000 THEN
        PERFORM @extschema@._steadytext_raise('22023', 'limit_results must be between 1 and 10000');
    ELSIF NOT similarity_threshold BETWEEN -1 AND 1 THEN
        PERFORM @extschema@._steadytext_raise('22023', 'similarity_threshold must be between -1 and 1');
    END IF;
    SELECT p.* INTO plan FROM @extschema@._steadytext_embed_prepare(query_text, true, NULL, NULL, false) p;
    -- The query is nobody's content: it is asked for past the cache, or it would find itself next time.
    query := @extschema@._steadytext_embed(query_text, false, NULL, NULL, false);
    RETURN QUERY SELECT s.* FROM @extschema@._steadytext_similar(
        query, plan.params, (plan.params ->> 'scope')::name, plan.params ->> 'model', similarity_threshold, limit_results) s;
END
$$;
