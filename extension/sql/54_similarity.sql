-- How alike two texts are: the cosine of their embeddings.

CREATE FUNCTION @extschema@._steadytext_cosine(a vector, b vector) RETURNS double precision
LANGUAGE sql STABLE STRICT
BEGIN ATOMIC
    SELECT greatest(-1.0::double precision, least(1.0::double precision, 1.0::double precision - (a <=> b)));
END;

CREATE FUNCTION @extschema@.steadytext_similarity(
    a text, b text, use_cache boolean DEFAULT true, model text DEFAULT NULL, strict boolean DEFAULT true
) RETURNS double precision
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_variable
DECLARE
    found record;
BEGIN
    SELECT s.* INTO found FROM @extschema@._steadytext_similarities(ARRAY[a], ARRAY[b], use_cache, model) s;
    IF strict IS NULL THEN
        PERFORM @extschema@._steadytext_raise('22004', 'strict cannot be null');
    ELSIF found.problem IS NOT NULL AND strict THEN
        PERFORM @extschema@._steadytext_raise(found.problem ->> 'code', found.problem ->> 'error');
    ELSIF found.problem IS NOT NULL THEN
        RAISE WARNING USING MESSAGE = found.problem ->> 'error', ERRCODE = found.problem ->> 'code';
    END IF;
    RETURN found.answer;
END
$$;

CREATE FUNCTION @extschema@.steadytext_similarity_batch(
    a text[], b text[], use_cache boolean DEFAULT true, model text DEFAULT NULL, strict boolean DEFAULT false
) RETURNS TABLE (ordinal bigint, result double precision, error text)
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_variable
DECLARE
    answers double precision[];
    problems jsonb[];
BEGIN
    IF num_nulls(a, b, strict) > 0 THEN
        PERFORM @extschema@._steadytext_raise('22004',
            CASE WHEN a IS NULL THEN 'a' WHEN b IS NULL THEN 'b' ELSE 'strict' END || ' cannot be null');
    ELSIF cardinality(a) <> cardinality(b) THEN
        PERFORM @extschema@._steadytext_raise('22023',
            format('a and b must have the same length, not %s and %s', cardinality(a), cardinality(b)));
    END IF;
    SELECT array_agg(s.answer ORDER BY s.place), array_agg(s.problem ORDER BY s.place) INTO answers, problems
    FROM @extschema@._steadytext_similarities(a, b, use_cache, model) s;
    PERFORM @extschema@._steadytext_first_problem(problems, strict, 'pair');
    RETURN QUERY SELECT r.place, r.answer, r.problem ->> 'error'
                 FROM ROWS FROM (unnest(answers), unnest(problems)) WITH ORDINALITY r (answer, problem, place);
END
$$;

-- Pairs of texts with their similarity or what is wrong with one of them; each different text is embedded once.
CREATE FUNCTION @extschema@._steadytext_similarities(a text[], b text[], use_cache boolean, model text)
RETURNS TABLE (place bigint, answer double precision, problem jsonb)
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_variable
DECLARE
    plan record;
    pairs jsonb[];
    texts text[];
    missing text[];
    vectors text[] := '{}'::text[];
    chunk constant integer := 256;
BEGIN
    SELECT p.* INTO plan FROM @extschema@._steadytext_embed_prepare('text', use_cache, NULL, model, false) p;
    SELECT array_agg(coalesce(@extschema@._steadytext_text_problem(p.a, s.max_prompt_chars, 'a'),
                              @extschema@._steadytext_text_problem(p.b, s.max_prompt_chars, 'b')) ORDER BY p.place)
    INTO pairs
    FROM @extschema@._steadytext_settings s, ROWS FROM (unnest(a), unnest(b)) WITH ORDINALITY p (a, b, place);
    texts := ARRAY(SELECT t.content FROM ROWS FROM (unnest(a), unnest(b), unnest(pairs)) p (a, b, problem),
                   LATERAL unnest(ARRAY[p.a, p.b]) t (content)
                   WHERE p.problem IS NULL AND p.a IS NOT NULL AND p.b IS NOT NULL);
    missing := @extschema@._steadytext_embed_missing(texts, plan.params, plan.cached);
    FOR head IN 1 .. cardinality(missing) BY chunk LOOP
        vectors := vectors || @extschema@._steadytext_embed_fresh(
            missing[head : head + chunk - 1], plan.params, plan.request, plan.cached);
    END LOOP;
    RETURN QUERY
    WITH embedded AS MATERIALIZED (
        SELECT DISTINCT ON (e.content) e.content, e.vector
        FROM @extschema@._steadytext_embed_answers(texts, missing, vectors, plan.params) e
    )
    SELECT p.place, CASE WHEN p.problem IS NULL THEN @extschema@._steadytext_cosine(x.vector, y.vector) END, p.problem
    FROM ROWS FROM (unnest(a), unnest(b), unnest(pairs)) WITH ORDINALITY p (a, b, problem, place)
    LEFT JOIN embedded x ON x.content = p.a
    LEFT JOIN embedded y ON y.content = p.b
    ORDER BY p.place;
END
$$;
