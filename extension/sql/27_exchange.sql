-- Answers from elsewhere: what `pg-steadytext cache import` has read of a file becomes entries of the cache, each judged
-- alone.

-- The parameters of an entry's key: those it brought, else those that a call with its arguments would have.
CREATE FUNCTION @extschema@._steadytext_cache_import_params(entry jsonb) RETURNS jsonb
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    prompt constant text := entry ->> 'prompt';
    model @extschema@.steadytext_models;
    params jsonb;
    longest integer;
BEGIN
    IF entry ->> 'params' IS NOT NULL THEN
        params := (entry ->> 'params')::jsonb;
        SELECT s.max_prompt_chars INTO longest FROM @extschema@._steadytext_settings s;
        PERFORM @extschema@._steadytext_check_text('Prompt', prompt, longest);
    ELSIF jsonb_typeof(entry -> 'embedding') = 'array' THEN
        SELECT p.params INTO params FROM @extschema@._steadytext_embed_prepare(prompt, true, NULL, entry ->> 'model', false) p;
    ELSE
        SELECT p.params INTO params FROM @extschema@._steadytext_generate_prepare(
            prompt, (entry ->> 'max_tokens')::integer, true, (entry ->> 'seed')::integer, entry ->> 'eos_string',
            entry ->> 'model', NULL, NULL, NULL, false, false, (entry ->> 'temperature')::double precision) p;
    END IF;
    SELECT m.* INTO model FROM @extschema@.steadytext_models m WHERE m.name = params ->> 'model';
    IF coalesce(params ->> 'digest', '') !~ '^([0-9a-f]{64}|remote)$' THEN
        PERFORM @extschema@._steadytext_raise('22023', format('the weights of model "%s" are not known', left(params ->> 'model', 200)));
    ELSIF model.dimensions <> jsonb_array_length(nullif(entry -> 'embedding', 'null')) THEN
        PERFORM @extschema@._steadytext_raise('22023', format('its embedding has %s dimensions, those of model "%s" have %s',
            jsonb_array_length(entry -> 'embedding'), model.name, model.dimensions));
    END IF;
    RETURN params;
END
$$;

CREATE FUNCTION @extschema@._steadytext_cache_import_entry(entry jsonb) RETURNS boolean
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    params constant jsonb := @extschema@._steadytext_cache_import_params(entry);
    numbers constant jsonb := nullif(entry -> 'embedding', 'null');
BEGIN
    IF (params ->> 'op' = 'embed') IS DISTINCT FROM (numbers IS NOT NULL)
       OR (numbers IS NULL) IS NOT DISTINCT FROM (coalesce(entry ->> 'response', '') = '') THEN
        PERFORM @extschema@._steadytext_raise('22023', 'it has no answer of its kind');
    END IF;
    INSERT INTO @extschema@.steadytext_cache
        (cache_key, prompt, response, embedding, access_count, last_accessed, created_at, steadytext_cache_hit, operation,
         model_name, model_digest, model_size, seed, thinking_mode, eos_string, scope, generation_params, response_size,
         generation_time_ms)
    VALUES (@extschema@.steadytext_cache_key(entry ->> 'prompt', params), entry ->> 'prompt', entry ->> 'response',
            @extschema@._steadytext_vector(numbers::text), (entry ->> 'access_count')::integer,
            (entry ->> 'last_accessed')::timestamptz,
            coalesce((entry ->> 'created_at')::timestamptz, (entry ->> 'last_accessed')::timestamptz),
            (entry ->> 'is_foreign')::boolean, params ->> 'op', params ->> 'model', params ->> 'digest',
            (SELECT a FROM @extschema@.steadytext_models m, unnest(m.aliases) a
             WHERE m.name = params ->> 'model' AND a IN ('small', 'medium', 'large') LIMIT 1),
            (params ->> 'seed')::integer, coalesce((params ->> 'thinking_mode')::boolean, false), params ->> 'eos_string',
            params ->> 'scope', params, octet_length(entry ->> 'response'), (entry ->> 'took_ms')::integer)
    ON CONFLICT DO NOTHING;
    RETURN FOUND;
END
$$;

-- What became of each entry, in their order: imported, present (one with its key was there), or why it is refused.
CREATE FUNCTION @extschema@._steadytext_cache_import(entries jsonb) RETURNS TABLE (place bigint, outcome text)
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
    item record;
    imported bigint := 0;
BEGIN
    FOR item IN SELECT e.entry, e.place FROM jsonb_array_elements(entries) WITH ORDINALITY e (entry, place) LOOP
        place := item.place;
        BEGIN
            outcome := CASE WHEN @extschema@._steadytext_cache_import_entry(item.entry) THEN 'imported' ELSE 'present' END;
        EXCEPTION
            WHEN data_exception OR no_data_found OR insufficient_privilege OR integrity_constraint_violation THEN
                outcome := SQLERRM;
        END;
        imported := imported + (outcome = 'imported')::integer;
        RETURN NEXT;
    END LOOP;
    IF imported > 0 THEN
        PERFORM @extschema@._steadytext_audit('cache_import', jsonb_build_object('entries', imported));
    END IF;
END
$$;
