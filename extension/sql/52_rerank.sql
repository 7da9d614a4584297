-- Reranking: documents by how well they answer a query, best first, ties in input order. Scores lie in [0, 1], and
-- nothing is kept in the cache. A model of any kind ranks: one made for it, a text model by its yes and no, an embedding
-- model by the cosine.

-- The name of the model that a call means: one of any kind, else the default. Raises what a wrong one deserves.
CREATE FUNCTION @extschema@._steadytext_rerank_model(model text, unsafe_mode boolean) RETURNS text
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_variable
DECLARE
    wanted text := model;
    kind text;
BEGIN
    IF unsafe_mode IS NULL THEN
        PERFORM @extschema@._steadytext_raise('22004', 'unsafe_mode cannot be null');
    ELSIF model IS NULL AND unsafe_mode THEN
        PERFORM @extschema@._steadytext_raise('22023', 'unsafe_mode=TRUE requires a model parameter');
    ELSIF model IS NULL THEN
        SELECT s.rerank_model INTO wanted FROM @extschema@._steadytext_settings s;
    END IF;
    SELECT m.kind INTO kind FROM @extschema@.steadytext_models m WHERE m.name = wanted OR wanted = ANY (m.aliases)
    ORDER BY (m.name = wanted) DESC, (m.kind = 'rerank') DESC, m.name LIMIT 1;
    RETURN (@extschema@._steadytext_model_resolve(coalesce(kind, 'rerank'), wanted, NULL, NULL, NULL, unsafe_mode)).name;
END
$$;

-- The elements of an array of any shape, in storage order, counted from 1.
CREATE FUNCTION @extschema@._steadytext_flat(texts text[]) RETURNS text[]
LANGUAGE sql STABLE STRICT
BEGIN ATOMIC
    SELECT array_agg(t.content ORDER BY t.place) FROM unnest(texts) WITH ORDINALITY t (content, place);
END;

-- Ask the daemon for one ranking; documents come back with their places in the answer.
CREATE FUNCTION @extschema@._steadytext_rerank(
    name text, query text, documents text[], task text, seed integer, model text, unsafe_mode boolean
) RETURNS TABLE (place bigint, document text, score double precision)
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_variable
DECLARE
    longest integer;
    plan jsonb;
BEGIN
    IF cardinality(documents) = 0 THEN
        SELECT s.max_prompt_chars INTO longest FROM @extschema@._steadytext_settings s;
        PERFORM @extschema@._steadytext_check_text(name, query, longest);
        RETURN;
    END IF;
    plan := @extschema@._steadytext_rerank_prepare(name, query, documents, task, true, seed, model, unsafe_mode);
    RETURN QUERY
    SELECT r.place, r.pair ->> 0, (r.pair ->> 1)::double precision
    FROM json_array_elements(@extschema@._steadytext_request('rerank',
        (plan -> 'request') || jsonb_build_object('query', query, 'documents', @extschema@._steadytext_flat(documents))))
        WITH ORDINALITY AS r (pair, place);
END
$$;

CREATE FUNCTION @extschema@.steadytext_rerank(
    query text, documents text[], task text DEFAULT 'Given a web search query, retrieve relevant passages that answer the query',
    return_scores boolean DEFAULT true, seed integer DEFAULT 42,
    model text DEFAULT NULL, unsafe_mode boolean DEFAULT false
) RETURNS TABLE (document text, score double precision)
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_variable
BEGIN
    IF return_scores IS NULL THEN
        PERFORM @extschema@._steadytext_raise('22004', 'return_scores cannot be null');
    END IF;
    RETURN QUERY SELECT r.document, CASE WHEN return_scores THEN r.score END
                 FROM @extschema@._steadytext_rerank('Query', query, documents, task, seed, model, unsafe_mode) r ORDER BY r.place;
END
$$;

CREATE FUNCTION @extschema@.steadytext_rerank_docs_only(
    query text, documents text[], task text DEFAULT 'Given a web search query, retrieve relevant passages that answer the query',
    seed integer DEFAULT 42,
    model text DEFAULT NULL, unsafe_mode boolean DEFAULT false
) RETURNS TABLE (document text)
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_variable
BEGIN
    RETURN QUERY SELECT r.document FROM @extschema@._steadytext_rerank('Query', query, documents, task, seed, model, unsafe_mode) r
                 ORDER BY r.place;
END
$$;

CREATE FUNCTION @extschema@.steadytext_rerank_top_k(
    query text, documents text[], top_k integer,
    task text DEFAULT 'Given a web search query, retrieve relevant passages that answer the query',
    return_scores boolean DEFAULT true, seed integer DEFAULT 42,
    model text DEFAULT NULL, unsafe_mode boolean DEFAULT false
) RETURNS TABLE (document text, score double precision)
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_variable
BEGIN
    IF top_k IS NULL THEN
        PERFORM @extschema@._steadytext_raise('22004', 'top_k cannot be null');
    ELSIF top_k < 1 THEN
        PERFORM @extschema@._steadytext_raise('22023', 'top_k must be greater than 0');
    ELSIF return_scores IS NULL THEN
        PERFORM @extschema@._steadytext_raise('22004', 'return_scores cannot be null');
    END IF;
    RETURN QUERY SELECT r.document, CASE WHEN return_scores THEN r.score END
                 FROM @extschema@._steadytext_rerank('Query', query, documents, task, seed, model, unsafe_mode) r
                 WHERE r.place <= top_k ORDER BY r.place;
END
$$;

-- The same documents by each of several queries, which the daemon is asked together; query_index counts from 0. Every
-- query is checked before any is asked.
CREATE FUNCTION @extschema@.steadytext_rerank_batch(
    queries text[], documents text[],
    task text DEFAULT 'Given a web search query, retrieve relevant passages that answer the query',
    return_scores boolean DEFAULT true, seed integer DEFAULT 42,
    model text DEFAULT NULL, unsafe_mode boolean DEFAULT false
) RETURNS TABLE (query_index integer, document text, score double precision)
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_variable
DECLARE
    plan jsonb;
BEGIN
    PERFORM @extschema@._steadytext_check_texts('queries', queries);
    IF cardinality(queries) = 0 THEN
        PERFORM @extschema@._steadytext_raise('22023', 'queries cannot be empty');
    ELSIF return_scores IS NULL THEN
        PERFORM @extschema@._steadytext_raise('22004', 'return_scores cannot be null');
    ELSIF cardinality(documents) = 0 THEN
        RETURN;
    END IF;
    queries := @extschema@._steadytext_flat(queries);
    plan := @extschema@._steadytext_rerank_prepare(
        'queries[1]', queries[1], documents, task, true, seed, model, unsafe_mode);
    RETURN QUERY
    SELECT a.place::integer - 1, r.pair ->> 0, CASE WHEN return_scores THEN (r.pair ->> 1)::double precision END
    FROM json_array_elements(@extschema@._steadytext_request('rerank_batch',
        (plan -> 'request') || jsonb_build_object('queries', queries, 'documents', @extschema@._steadytext_flat(documents))))
        WITH ORDINALITY AS a (ranking, place),
        json_array_elements(a.ranking) WITH ORDINALITY AS r (pair, place)
    ORDER BY a.place, r.place;
END
$$;
