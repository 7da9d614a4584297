-- Embeddings. STABLE, so that ORDER BY embedding <=> steadytext_embed('...') LIMIT k is an index scan; what has a side
-- effect is a VOLATILE function that these call.

CREATE FUNCTION @extschema@._steadytext_embed_prepare(
    text_input text, use_cache boolean, seed integer, model text, unsafe_mode boolean,
    OUT params jsonb, OUT request jsonb, OUT cached boolean
) LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_variable
DECLARE
    settings @extschema@._steadytext_settings;
    chosen @extschema@.steadytext_models;
BEGIN
    SELECT s.* INTO settings FROM @extschema@._steadytext_settings s;
    PERFORM @extschema@._steadytext_check_text('text_input', text_input, settings.max_prompt_chars);
    IF num_nulls(use_cache, unsafe_mode) > 0 THEN
        PERFORM @extschema@._steadytext_raise('22004',
            CASE WHEN use_cache IS NULL THEN 'use_cache' ELSE 'unsafe_mode' END || ' cannot be null');
    ELSIF seed < 0 THEN
        PERFORM @extschema@._steadytext_raise('22023', 'seed must be non-negative');
    END IF;
    -- without a model it means nothing here: SteadyText's own function takes it so
    chosen := @extschema@._steadytext_model_resolve('embedding', model, NULL, NULL, NULL, unsafe_mode AND model IS NOT NULL);
    cached := use_cache AND settings.cache_enabled;
    params := jsonb_build_object('op', 'embed', 'model', chosen.name, 'digest', chosen.digest);
    IF NOT settings.shared_cache THEN
        params := params || jsonb_build_object('scope', @extschema@._steadytext_scope());
    END IF;
    request := jsonb_build_object('model', chosen.name, 'unsafe_mode', chosen.remote);
END
$$;

-- Embed texts (no nulls, each once) with one call to the daemon, and keep the vectors.
CREATE FUNCTION @extschema@._steadytext_embed_fresh(texts text[], params jsonb, request jsonb, keep boolean)
RETURNS text[]
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_variable
DECLARE
    reply json;
    vectors text[];
    started timestamptz := clock_timestamp();
BEGIN
    reply := @extschema@._steadytext_request('embed_batch', request || jsonb_build_object('texts', texts));
    vectors := ARRAY(SELECT e FROM json_array_elements_text(reply -> 'embeddings') WITH ORDINALITY a (e, n) ORDER BY n);
    IF cardinality(vectors) IS DISTINCT FROM cardinality(texts) THEN
        PERFORM @extschema@._steadytext_raise('58000',
            format('the daemon answered %s texts with %s embeddings', cardinality(texts), cardinality(vectors)));
    END IF;
    IF keep THEN
        PERFORM @extschema@._steadytext_cache_store(
            texts, params, NULL, vectors, reply ->> 'model', reply ->> 'digest', @extschema@._steadytext_ms_since(started));
    END IF;
    RETURN vectors;
END
$$;

-- The names of vector's own objects are settled when the extension is created, wherever vector lives.
CREATE FUNCTION @extschema@._steadytext_vector(numbers text) RETURNS vector
LANGUAGE sql IMMUTABLE STRICT
BEGIN ATOMIC
    SELECT numbers::vector;
END;

CREATE FUNCTION @extschema@._steadytext_embed(
    text_input text, use_cache boolean, seed integer, model text, unsafe_mode boolean
) RETURNS vector
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_variable
DECLARE
    plan record;
    is_hit boolean;
    answer @extschema@.steadytext_cache.embedding%TYPE;
BEGIN
    SELECT p.* INTO plan FROM @extschema@._steadytext_embed_prepare(text_input, use_cache, seed, model, unsafe_mode) p;
    IF plan.cached THEN
        SELECT p.is_hit, p.embedding INTO is_hit, answer
        FROM @extschema@._steadytext_cache_probe(text_input, plan.params) p;
        IF is_hit THEN
            RETURN answer;
        END IF;
    END IF;
    RETURN @extschema@._steadytext_vector(
        (@extschema@._steadytext_embed_fresh(ARRAY[text_input], plan.params, plan.request, plan.cached))[1]);
END
$$;

-- `plain`: every option at its default.
CREATE FUNCTION @extschema@._steadytext_embed_hit(
    text_input text, plain boolean, use_cache boolean, seed integer, model text, unsafe_mode boolean
) RETURNS vector
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_variable
DECLARE
    params text;
    sampling integer;
    key text;
    entry bigint;
    answer @extschema@.steadytext_cache.embedding%TYPE;
    logged boolean;
BEGIN
    IF plain THEN
        SELECT s.embedding_params, s.hit_sampling INTO params, sampling FROM @extschema@._steadytext_settings s;
    END IF;
    IF params IS NOT NULL THEN
        key := encode(sha256(convert_to(
            octet_length(convert_to(text_input, 'UTF8'))::text || ':' || text_input || params, 'UTF8')), 'hex');
        SELECT c.id, c.embedding INTO entry, answer FROM @extschema@.steadytext_cache c WHERE c.cache_key = key;
    END IF;
    IF entry IS NOT NULL THEN
        IF @extschema@._steadytext_sampled(sampling) AND current_setting('transaction_read_only') = 'off' THEN
            logged := @extschema@._steadytext_cache_log(entry, sampling);
        END IF;
        RETURN answer;
    END IF;
    RETURN @extschema@._steadytext_embed(text_input, use_cache, seed, model, unsafe_mode);
END
$$;

-- Inlined into the query that calls it, as steadytext_generate is.
CREATE FUNCTION @extschema@.steadytext_embed(
    text_input text, use_cache boolean DEFAULT true, seed integer DEFAULT 42, model text DEFAULT NULL,
    unsafe_mode boolean DEFAULT false
) RETURNS vector
LANGUAGE sql STABLE
BEGIN ATOMIC
    SELECT @extschema@._steadytext_embed_hit(
        text_input, use_cache AND NOT unsafe_mode AND model IS NULL AND coalesce(seed, 0) >= 0,
        use_cache, seed, model, unsafe_mode);
END;

CREATE FUNCTION @extschema@.steadytext_embed_cached(
    text_input text, seed integer DEFAULT 42, model text DEFAULT NULL, unsafe_mode boolean DEFAULT false
) RETURNS vector
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RETURN @extschema@.steadytext_embed(text_input, true, seed, model, unsafe_mode);
END
$$;

-- Many texts, in input order. Known ones come from the cache; the others go to the daemon 256 at a time.
CREATE FUNCTION @extschema@.steadytext_embed_batch(texts text[])
RETURNS TABLE (text text, embedding vector)
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_variable
DECLARE
    settings @extschema@._steadytext_settings;
    plan record;
    missing text[];
    vectors text[] := '{}'::text[];
    chunk constant integer := 256;
BEGIN
    IF texts IS NULL THEN
        PERFORM @extschema@._steadytext_raise('22004', 'texts cannot be null');
    END IF;
    SELECT s.* INTO settings FROM @extschema@._steadytext_settings s;
    PERFORM @extschema@._steadytext_check_text(format('texts[%s]', t.place), t.content, settings.max_prompt_chars)
    FROM unnest(texts) WITH ORDINALITY t (content, place) WHERE t.content IS NOT NULL;
    SELECT p.* INTO plan FROM @extschema@._steadytext_embed_prepare('text', true, NULL, NULL, false) p;
    missing := @extschema@._steadytext_embed_missing(texts, plan.params, plan.cached);
    FOR head IN 1 .. cardinality(missing) BY chunk LOOP
        vectors := vectors || @extschema@._steadytext_embed_fresh(
            missing[head : head + chunk - 1], plan.params, plan.request, plan.cached);
    END LOOP;
    RETURN QUERY SELECT a.content, a.vector FROM @extschema@._steadytext_embed_answers(
        texts, missing, vectors, plan.params) a ORDER BY a.place;
END
$$;

-- The texts of an array that the cache does not hold, each once, in order of appearance; hits are counted.
CREATE FUNCTION @extschema@._steadytext_embed_missing(texts text[], params jsonb, cached boolean) RETURNS text[]
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_variable
DECLARE
    missing text[];
    hits bigint[];
BEGIN
    SELECT coalesce(array_agg(t.content ORDER BY t.place) FILTER (WHERE c.id IS NULL), '{}'),
           coalesce(array_agg(c.id) FILTER (WHERE c.id IS NOT NULL), '{}')
    INTO missing, hits
    FROM (SELECT u.content, min(u.place) AS place FROM unnest(texts) WITH ORDINALITY u (content, place)
          WHERE u.content IS NOT NULL GROUP BY u.content) t
    LEFT JOIN @extschema@.steadytext_cache c
        ON cached AND c.cache_key = @extschema@.steadytext_cache_key(t.content, params);
    IF @extschema@._steadytext_writable() THEN
        INSERT INTO @extschema@._steadytext_cache_hits (entry_id) SELECT h FROM unnest(hits) h;
    END IF;
    RETURN missing;
END
$$;

CREATE FUNCTION @extschema@._steadytext_embed_answers(texts text[], missing text[], vectors text[], params jsonb)
RETURNS TABLE (place bigint, content text, vector vector)
LANGUAGE sql STABLE
BEGIN ATOMIC
    SELECT t.place, t.content, coalesce(f.v::vector, c.embedding)
    FROM pg_catalog.unnest(texts) WITH ORDINALITY AS t (content, place)
    LEFT JOIN ROWS FROM (pg_catalog.unnest(missing), pg_catalog.unnest(vectors)) AS f (m, v) ON f.m = t.content
    LEFT JOIN @extschema@.steadytext_cache c
        ON f.m IS NULL AND t.content IS NOT NULL
        AND c.cache_key = CASE WHEN t.content IS NOT NULL THEN @extschema@.steadytext_cache_key(t.content, params) END;
END;
