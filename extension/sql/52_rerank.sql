-- Reranking: documents by how well they answer a query, best first, ties in input order. Scores lie in [0, 1].

-- Ask the daemon for one ranking; documents come back with their places in the answer.
CREATE FUNCTION @extschema@._steadytext_rerank(
    name text, query text, documents text[], task text, seed integer
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
    plan := @extschema@._steadytext_rerank_prepare(name, query, documents, task, true, seed);
    RETURN QUERY
    SELECT r.place, r.pair ->> 0, (r.pair ->> 1)::double precision
    FROM json_array_elements(@extschema@._steadytext_request('rerank',
        (plan -> 'request') || jsonb_build_object('query', query, 'documents', documents)))
        WITH ORDINALITY AS r (pair, place);
END
$$;

CREATE FUNCTION @extschema@.steadytext_rerank(
    query text, documents text[], task text DEFAULT 'Given a web search query, retrieve relevant passages that answer the query',
    return_scores boolean DEFAULT true, seed integer DEFAULT 42
) RETURNS TABLE (document text, score double precision)
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_variable
BEGIN
    IF return_scores IS NULL THEN
        PERFORM @extschema@._steadytext_raise('22004', 'return_scores cannot be null');
    END IF;
    RETURN QUERY SELECT r.document, CASE WHEN return_scores THEN r.score END
                 FROM @extschema@._steadytext_rerank('query', query, documents, task, seed) r ORDER BY r.place;
END
$$;

CREATE FUNCTION @extschema@.steadytext_rerank_docs_only(
    query text, documents text[], task text DEFAULT 'Given a web search query, retrieve relevant passages that answer the query',
    seed integer DEFAULT 42
) RETURNS TABLE (document text)
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_variable
BEGIN
    RETURN QUERY SELECT r.document FROM @extschema@._steadytext_rerank('query', query, documents, task, seed) r
                 ORDER BY r.place;
END
$$;

CREATE FUNCTION @extschema@.steadytext_rerank_top_k(
    query text, documents text[], top_k integer,
    task text DEFAULT 'Given a web search query, retrieve relevant passages that answer the query',
    return_scores boolean DEFAULT true, seed integer DEFAULT 42
) RETURNS TABLE (document text, score double precision)
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_variable
BEGIN
    IF top_k IS NULL THEN
        PERFORM @extschema@._steadytext_raise('22004', 'top_k cannot be null');
    ELSIF top_k < 1 THEN
        PERFORM @extschema@._steadytext_raise('22023', 'top_k must be positive');
    ELSIF return_scores IS NULL THEN
        PERFORM @extschema@._steadytext_raise('22004', 'return_scores cannot be null');
    END IF;
    RETURN QUERY SELECT r.document, CASE WHEN return_scores THEN r.score END
                 FROM @extschema@._steadytext_rerank('query', query, documents, task, seed) r
                 WHERE r.place <= top_k ORDER BY r.place;
END
$$;

-- The same documents by each of several queries; query_index counts from 0. Every query is checked before any is asked.
CREATE FUNCTION @extschema@.steadytext_rerank_batch(
    queries text[], documents text[],
    task text DEFAULT 'Given a web search query, retrieve relevant passages that answer the query',
    return_scores boolean DEFAULT true, seed integer DEFAULT 42
) RETURNS TABLE (query_index integer, document text, score double precision)
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_variable
BEGIN
    PERFORM @extschema@._steadytext_check_texts('queries', queries);
    IF cardinality(queries) = 0 THEN
        PERFORM @extschema@._steadytext_raise('22023', 'queries cannot be empty');
    ELSIF return_scores IS NULL THEN
        PERFORM @extschema@._steadytext_raise('22004', 'return_scores cannot be null');
    END IF;
    FOR query_index IN 0 .. cardinality(queries) - 1 LOOP
        RETURN QUERY SELECT query_index, r.document, CASE WHEN return_scores THEN r.score END
                     FROM @extschema@._steadytext_rerank(
                         format('queries[%s]', query_index + 1), queries[query_index + 1], documents, task, seed) r
                     ORDER BY r.place;
    END LOOP;
END
$$;
