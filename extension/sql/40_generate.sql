-- Text generation: a fast path that does everything a hit needs in one query, and a full path that checks, asks the
-- daemon and keeps the answer.

-- Check the arguments and settle what is asked of whom: `params` is the cache key's, `request` the daemon's.
CREATE FUNCTION @extschema@._steadytext_generate_prepare(
    prompt text, max_tokens integer, use_cache boolean, seed integer, eos_string text, model text, model_repo text,
    model_filename text, size text, unsafe_mode boolean, thinking_mode boolean, temperature double precision,
    OUT params jsonb, OUT request jsonb, OUT cached boolean
) LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp SET extra_float_digits = 1 AS $$
#variable_conflict use_variable
DECLARE
    settings @extschema@._steadytext_settings;
    chosen @extschema@.steadytext_models;
BEGIN
    SELECT s.* INTO settings FROM @extschema@._steadytext_settings s;
    PERFORM @extschema@._steadytext_check_text('Prompt', prompt, settings.max_prompt_chars);
    IF settings.prompt_policy IS NOT NULL THEN
        PERFORM @extschema@._steadytext_policy_check(ARRAY[prompt]);
    END IF;
    IF num_nulls(use_cache, eos_string, unsafe_mode, thinking_mode, temperature) > 0 THEN
        PERFORM @extschema@._steadytext_raise('22004', concat(CASE
            WHEN use_cache IS NULL THEN 'use_cache' WHEN eos_string IS NULL THEN 'eos_string'
            WHEN unsafe_mode IS NULL THEN 'unsafe_mode' WHEN thinking_mode IS NULL THEN 'thinking_mode'
            ELSE 'temperature' END, ' cannot be null'));
    END IF;
    max_tokens := coalesce(max_tokens, settings.default_max_tokens);
    seed := coalesce(seed, settings.default_seed);
    IF max_tokens < 1 THEN
        PERFORM @extschema@._steadytext_raise('22023', 'max_tokens must be at least 1');
    ELSIF max_tokens > settings.max_tokens_limit THEN
        PERFORM @extschema@._steadytext_raise('22023', 'max_tokens exceeds system limit',
            format('The limit is %s; an administrator raises it with steadytext_config_set(''max_tokens_limit'', ...).',
                   settings.max_tokens_limit));
    ELSIF seed < 0 THEN
        PERFORM @extschema@._steadytext_raise('22023', 'seed must be non-negative');
    ELSIF eos_string = '' THEN
        PERFORM @extschema@._steadytext_raise('22023', 'eos_string cannot be empty',
            'The default, [EOS], stands for the model''s own end.');
    ELSIF length(eos_string) > 1000 THEN
        PERFORM @extschema@._steadytext_raise('22023', 'eos_string cannot be longer than 1000 characters');
    ELSIF NOT temperature BETWEEN 0 AND 2 THEN
        PERFORM @extschema@._steadytext_raise('22023', 'temperature must be between 0 and 2');
    END IF;
    temperature := temperature + 0;
    chosen := @extschema@._steadytext_model_resolve('generation', model, model_repo, model_filename, size, unsafe_mode);
    cached := use_cache AND settings.cache_enabled;
    params := jsonb_build_object(
        'op', 'generate', 'model', chosen.name, 'digest', chosen.digest, 'max_tokens', max_tokens, 'seed', seed,
        'temperature', temperature, 'eos_string', eos_string, 'thinking_mode', thinking_mode);
    IF NOT settings.shared_cache THEN
        params := params || jsonb_build_object('scope', @extschema@._steadytext_scope());
    END IF;
    request := jsonb_build_object(
        'prompt', prompt, 'max_new_tokens', max_tokens, 'seed', seed, 'temperature', temperature,
        'eos_string', eos_string, 'model', chosen.name, 'unsafe_mode', chosen.remote, 'thinking_mode', thinking_mode);
END
$$;

-- Refuse a text that is missing, blank or too long.
CREATE FUNCTION @extschema@._steadytext_check_text(name text, value text, max_chars integer) RETURNS void
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_variable
BEGIN
    IF value IS NULL THEN
        PERFORM @extschema@._steadytext_raise('22004', name || ' cannot be null');
    ELSIF octet_length(value) > max_chars AND length(value) > max_chars THEN
        PERFORM @extschema@._steadytext_raise('22001',
            format('%s of %s characters is longer than max_prompt_chars allows, %s', name, length(value), max_chars));
    ELSIF value !~ '[^[:space:]]' THEN
        PERFORM @extschema@._steadytext_raise('22023', name || ' cannot be empty');
    END IF;
END
$$;

-- What the cache holds under these parameters, else what the daemon answers, kept where it may be.
CREATE FUNCTION @extschema@._steadytext_generate_answer(prompt text, params jsonb, request jsonb, cached boolean)
RETURNS text
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_variable
DECLARE
    hit record;
    reply json;
    started timestamptz;
BEGIN
    IF cached THEN
        SELECT p.* INTO hit FROM @extschema@._steadytext_cache_probe(prompt, params) p;
        IF hit.is_hit THEN
            RETURN hit.response;
        END IF;
    END IF;
    started := clock_timestamp();
    reply := @extschema@._steadytext_request('generate', request);
    IF cached AND reply ->> 'text' <> '' THEN
        PERFORM @extschema@._steadytext_cache_store(
            ARRAY[prompt], params, ARRAY[reply ->> 'text'], NULL, reply ->> 'model', reply ->> 'digest',
            @extschema@._steadytext_ms_since(started));
    END IF;
    RETURN reply ->> 'text';
END
$$;

-- The full path: also the place of every refusal.
CREATE FUNCTION @extschema@._steadytext_generate(
    prompt text, max_tokens integer, use_cache boolean, seed integer, eos_string text, model text, model_repo text,
    model_filename text, size text, unsafe_mode boolean, thinking_mode boolean, temperature double precision
) RETURNS text
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_variable
DECLARE
    plan record;
BEGIN
    SELECT p.* INTO plan FROM @extschema@._steadytext_generate_prepare(
        prompt, max_tokens, use_cache, seed, eos_string, model, model_repo, model_filename, size, unsafe_mode,
        thinking_mode, temperature) p;
    RETURN @extschema@._steadytext_generate_answer(prompt, plan.params, plan.request, plan.cached);
END
$$;

CREATE FUNCTION @extschema@._steadytext_ms_since(started timestamptz) RETURNS integer
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RETURN 1000 * extract(epoch FROM clock_timestamp() - started);
END
$$;

-- A hit with the model, scope and temperature left at their defaults is answered from here. It builds the same key as
-- _steadytext_generate_prepare does, as text instead of jsonb; with every option at its default (`plain`), the key's
-- parameters lie ready. Two look-ups by simple statements take less time than one that joins. Everything else goes the
-- full way.
CREATE FUNCTION @extschema@._steadytext_generate_hit(
    prompt text, plain boolean, max_tokens integer, use_cache boolean, seed integer, eos_string text, model text,
    model_repo text, model_filename text, size text, unsafe_mode boolean, thinking_mode boolean,
    temperature double precision
) RETURNS text
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_variable
DECLARE
    params text;
    sampling integer;
    key text;
    entry bigint;
    answer text;
BEGIN
    IF plain THEN
        SELECT s.generation_params, s.hit_sampling INTO params, sampling FROM @extschema@._steadytext_settings s;
    ELSIF use_cache AND NOT unsafe_mode AND temperature = 0 AND num_nulls(model, model_repo, model_filename, size) = 4 THEN
        SELECT format('{"op": "generate", "seed": %s', coalesce(seed, s.default_seed)) || s.generation_key || format(
            ', "eos_string": %s, "max_tokens": %s, "temperature": 0, "thinking_mode": %s}', to_json(eos_string),
            coalesce(max_tokens, s.default_max_tokens), thinking_mode::text), s.hit_sampling INTO params, sampling
        FROM @extschema@._steadytext_settings s;
    END IF;
    IF params IS NOT NULL THEN
        key := encode(sha256(convert_to(
            octet_length(convert_to(prompt, 'UTF8'))::text || ':' || prompt || params, 'UTF8')), 'hex');
        SELECT c.id, c.response INTO entry, answer FROM @extschema@.steadytext_cache c WHERE c.cache_key = key;
    END IF;
    IF entry IS NOT NULL THEN
        IF @extschema@._steadytext_sampled(sampling) AND current_setting('transaction_read_only') = 'off' THEN
            INSERT INTO @extschema@._steadytext_cache_hits (entry_id, hits) VALUES (entry, sampling);
        END IF;
        RETURN answer;
    END IF;
    RETURN @extschema@._steadytext_generate(
        prompt, max_tokens, use_cache, seed, eos_string, model, model_repo, model_filename, size, unsafe_mode,
        thinking_mode, temperature);
END
$$;

-- Inlined into the query that calls it, so that the planner works out `plain` from a call's constants, once a plan.
CREATE FUNCTION @extschema@.steadytext_generate(
    prompt text, max_tokens integer DEFAULT NULL, use_cache boolean DEFAULT true, seed integer DEFAULT 42,
    eos_string text DEFAULT '[EOS]', model text DEFAULT NULL, model_repo text DEFAULT NULL,
    model_filename text DEFAULT NULL, size text DEFAULT NULL, unsafe_mode boolean DEFAULT false,
    thinking_mode boolean DEFAULT false, temperature double precision DEFAULT 0
) RETURNS text
LANGUAGE sql VOLATILE
BEGIN ATOMIC
    SELECT @extschema@._steadytext_generate_hit(
        prompt,
        use_cache AND max_tokens IS NULL AND seed = 42 AND eos_string = '[EOS]' AND NOT unsafe_mode AND NOT thinking_mode
        AND temperature = 0 AND pg_catalog.num_nulls(model, model_repo, model_filename, size) = 4,
        max_tokens, use_cache, seed, eos_string, model, model_repo, model_filename, size, unsafe_mode, thinking_mode,
        temperature);
END;

CREATE FUNCTION @extschema@.steadytext_generate_cached(prompt text, max_tokens integer DEFAULT NULL, seed integer DEFAULT 42)
RETURNS text
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RETURN @extschema@.steadytext_generate(prompt, max_tokens, true, seed);
END
$$;

-- Streaming. Pieces must leave one by one, so the path is SQL and PL/Python only: both return sets value by value,
-- where PL/pgSQL would collect them first.

CREATE FUNCTION @extschema@._steadytext_stream_begin(
    prompt text, max_tokens integer, use_cache boolean, seed integer, eos_string text, model text, model_repo text,
    model_filename text, size text, unsafe_mode boolean, thinking_mode boolean, temperature double precision,
    OUT answer text, OUT endpoint text, OUT request text, OUT timeout_ms integer, OUT options text, OUT keep jsonb
) LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_variable
DECLARE
    plan record;
    hit record;
    settings @extschema@._steadytext_settings;
BEGIN
    SELECT p.* INTO plan FROM @extschema@._steadytext_generate_prepare(
        prompt, max_tokens, use_cache, seed, eos_string, model, model_repo, model_filename, size, unsafe_mode,
        thinking_mode, temperature) p;
    IF plan.cached THEN
        SELECT p.* INTO hit FROM @extschema@._steadytext_cache_probe(prompt, plan.params) p;
        IF hit.is_hit THEN
            answer := hit.response;
            RETURN;
        END IF;
        keep := plan.params;
    END IF;
    SELECT s.* INTO settings FROM @extschema@._steadytext_settings s;
    endpoint := settings.endpoint;
    request := json_build_object('method', 'generate_stream', 'params', plan.request)::text;
    timeout_ms := settings.request_timeout_ms;
    options := (settings.connection || jsonb_build_object('auto_start', settings.auto_start))::text;
END
$$;

-- One item of the seam's stream: a piece is returned, an error raised, the end kept in the cache.
CREATE FUNCTION @extschema@._steadytext_stream_item(item text, prompt text, keep jsonb, started timestamptz) RETURNS text
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_variable
DECLARE
    reply json;
BEGIN
    IF left(item, 1) = 'p' THEN
        RETURN substr(item, 2);
    END IF;
    reply := substr(item, 2)::json;
    IF left(item, 1) = 'e' THEN
        PERFORM @extschema@._steadytext_raise(coalesce(reply ->> 'code', '58000'), reply ->> 'error', reply ->> 'hint');
    ELSIF keep IS NOT NULL AND reply ->> 'text' <> '' THEN
        PERFORM @extschema@._steadytext_cache_store(
            ARRAY[prompt], keep, ARRAY[reply ->> 'text'], NULL, reply ->> 'model', reply ->> 'digest',
            @extschema@._steadytext_ms_since(started));
    END IF;
    RETURN NULL;
END
$$;

CREATE FUNCTION @extschema@._steadytext_generate_stream(
    prompt text, max_tokens integer, use_cache boolean, seed integer, eos_string text, model text, model_repo text,
    model_filename text, size text, unsafe_mode boolean, thinking_mode boolean, temperature double precision
) RETURNS SETOF text
LANGUAGE sql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    WITH begun AS MATERIALIZED (
        SELECT b.*, clock_timestamp() AS started FROM @extschema@._steadytext_stream_begin(
            prompt, max_tokens, use_cache, seed, eos_string, model, model_repo, model_filename, size, unsafe_mode,
            thinking_mode, temperature) b
    ), streamed AS (
        SELECT @extschema@._steadytext_stream_item(
            @extschema@._steadytext_call_stream(b.endpoint, b.request, b.timeout_ms, b.options), $1, b.keep, b.started)
            AS piece
        FROM begun b WHERE b.answer IS NULL
    )
    SELECT b.answer FROM begun b WHERE b.answer IS NOT NULL
    UNION ALL
    SELECT s.piece FROM streamed s WHERE s.piece IS NOT NULL
$$;

-- STABLE and without a SET of its own, so that the planner inlines it: then FROM steadytext_generate_stream(...) too
-- hands out its pieces one by one. What it calls is VOLATILE and checks everything.
CREATE FUNCTION @extschema@.steadytext_generate_stream(
    prompt text, max_tokens integer DEFAULT NULL, use_cache boolean DEFAULT true, seed integer DEFAULT 42,
    eos_string text DEFAULT '[EOS]', model text DEFAULT NULL, model_repo text DEFAULT NULL,
    model_filename text DEFAULT NULL, size text DEFAULT NULL, unsafe_mode boolean DEFAULT false,
    thinking_mode boolean DEFAULT false, temperature double precision DEFAULT 0
) RETURNS SETOF text
LANGUAGE sql STABLE
BEGIN ATOMIC
    SELECT @extschema@._steadytext_generate_stream(
        prompt, max_tokens, use_cache, seed, eos_string, model, model_repo, model_filename, size, unsafe_mode,
        thinking_mode, temperature);
END;
