-- Answers that satisfy a constraint: JSON of a schema, a text that matches a pattern, one of several choices. The daemon
-- keeps the model to it while it decodes; here the constraint is one more parameter of the request and of the cache's key.

-- `kind` is the daemon's name of the constraint: schema, regex or choices.
CREATE FUNCTION @extschema@._steadytext_structured_prepare(
    prompt text, kind text, wanted jsonb, max_tokens integer, use_cache boolean, seed integer, unsafe_mode boolean,
    model text, OUT params jsonb, OUT request jsonb, OUT cached boolean
) LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_variable
DECLARE
    plan record;
BEGIN
    plan := @extschema@._steadytext_generate_prepare(
        prompt, max_tokens, use_cache, seed, '[EOS]', model, NULL, NULL, NULL, unsafe_mode, false, 0);
    params := plan.params || jsonb_build_object(kind, wanted);
    request := plan.request || jsonb_build_object(kind, wanted);
    cached := plan.cached;
END
$$;

-- What SQL can see of a constraint; the daemon refuses the rest by name.
CREATE FUNCTION @extschema@._steadytext_schema_check(schema jsonb) RETURNS jsonb
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF schema IS NULL THEN
        PERFORM @extschema@._steadytext_raise('22004', 'Schema cannot be null');
    ELSIF schema = '{}' OR jsonb_typeof(schema) <> 'object' THEN
        PERFORM @extschema@._steadytext_raise('22023', CASE schema WHEN '{}' THEN 'Schema cannot be empty'
            ELSE format('Schema must be a JSON object, not %s', jsonb_typeof(schema)) END);
    ELSIF jsonb_path_exists(schema, '$.**{300}') THEN
        PERFORM @extschema@._steadytext_raise('22023', 'Schema is nested deeper than 300 levels');
    END IF;
    RETURN schema;
END
$$;

CREATE FUNCTION @extschema@._steadytext_pattern_check(pattern text) RETURNS jsonb
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF pattern IS NULL THEN
        PERFORM @extschema@._steadytext_raise('22004', 'Pattern cannot be null');
    ELSIF pattern !~ '[^[:space:]]' THEN
        PERFORM @extschema@._steadytext_raise('22023', 'Pattern cannot be empty');
    END IF;
    RETURN to_jsonb(pattern);
END
$$;

CREATE FUNCTION @extschema@._steadytext_choices_check(choices text[]) RETURNS jsonb
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF array_ndims(choices) > 1 THEN
        PERFORM @extschema@._steadytext_raise('22023', 'Choices must be an array of one dimension');
    ELSIF choices IS NULL OR array_position(choices, NULL) IS NOT NULL THEN
        PERFORM @extschema@._steadytext_raise('22004',
            CASE WHEN choices IS NULL THEN 'Choices cannot be null' ELSE 'Choices array cannot contain null' END);
    ELSIF cardinality(choices) = 0 THEN
        PERFORM @extschema@._steadytext_raise('22023', 'Choices array cannot be empty');
    ELSIF cardinality(choices) < 2 THEN
        PERFORM @extschema@._steadytext_raise('22023', 'Choices array must contain at least 2 options');
    ELSIF (SELECT count(DISTINCT c) FROM unnest(choices) c) < cardinality(choices) THEN
        PERFORM @extschema@._steadytext_raise('22023', 'Choices array cannot contain duplicates');
    ELSIF cardinality(choices) > 1000 THEN
        PERFORM @extschema@._steadytext_raise('22023',
            format('choices may hold at most 1000 options, not %s', cardinality(choices)));
    END IF;
    PERFORM @extschema@._steadytext_raise('22023', CASE WHEN c ~ '[^[:space:]]'
        THEN format('a choice may have at most 1000 characters, not %s', length(c)) ELSE 'Choice cannot be empty' END)
    FROM unnest(choices) c WHERE c !~ '[^[:space:]]' OR length(c) > 1000;
    RETURN to_jsonb(choices);
END
$$;

CREATE FUNCTION @extschema@._steadytext_structured(
    prompt text, kind text, wanted jsonb, max_tokens integer, use_cache boolean, seed integer, unsafe_mode boolean,
    model text
) RETURNS text
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_variable
DECLARE
    plan record;
BEGIN
    plan := @extschema@._steadytext_structured_prepare(
        prompt, kind, wanted, max_tokens, use_cache, seed, unsafe_mode, model);
    RETURN @extschema@._steadytext_generate_answer(prompt, plan.params, plan.request, plan.cached);
END
$$;

CREATE FUNCTION @extschema@._steadytext_structured_async(
    prompt text, kind text, wanted jsonb, max_tokens integer, priority integer, user_id text, use_cache boolean,
    seed integer, unsafe_mode boolean, model text, not_before timestamptz, dedupe_key text, max_retries integer
) RETURNS uuid
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_variable
DECLARE
    plan record;
BEGIN
    plan := @extschema@._steadytext_structured_prepare(
        prompt, kind, wanted, max_tokens, use_cache, seed, unsafe_mode, model);
    IF kind <> 'choices' THEN  -- a daemon that is away, or slow to tell, is not waited for: the request fails in its turn
        PERFORM @extschema@._steadytext_request('check', jsonb_build_object(kind, wanted), 500);
    END IF;
    RETURN (@extschema@._steadytext_queue_push(
        'generate', ARRAY[prompt], NULL,
        @extschema@._steadytext_queue_params(plan.request - 'prompt', plan.params, plan.cached),
        priority, user_id, not_before, dedupe_key, max_retries))[1];
END
$$;

CREATE FUNCTION @extschema@.steadytext_generate_json(
    prompt text, schema jsonb, max_tokens integer DEFAULT NULL, use_cache boolean DEFAULT true, seed integer DEFAULT 42,
    unsafe_mode boolean DEFAULT false, model text DEFAULT NULL
) RETURNS text
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RETURN @extschema@._steadytext_structured(
        prompt, 'schema', @extschema@._steadytext_schema_check(schema), max_tokens, use_cache, seed, unsafe_mode, model);
END
$$;

CREATE FUNCTION @extschema@.steadytext_generate_json_async(
    prompt text, schema jsonb, max_tokens integer DEFAULT 512, priority integer DEFAULT 5, user_id text DEFAULT NULL,
    use_cache boolean DEFAULT true, seed integer DEFAULT 42, unsafe_mode boolean DEFAULT false, model text DEFAULT NULL,
    not_before timestamptz DEFAULT NULL, dedupe_key text DEFAULT NULL, max_retries integer DEFAULT NULL
) RETURNS uuid
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RETURN @extschema@._steadytext_structured_async(
        prompt, 'schema', @extschema@._steadytext_schema_check(schema), max_tokens, priority, user_id, use_cache, seed,
        unsafe_mode, model, not_before, dedupe_key, max_retries);
END
$$;

CREATE FUNCTION @extschema@.steadytext_generate_regex(
    prompt text, pattern text, max_tokens integer DEFAULT NULL, use_cache boolean DEFAULT true, seed integer DEFAULT 42,
    unsafe_mode boolean DEFAULT false, model text DEFAULT NULL
) RETURNS text
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RETURN @extschema@._steadytext_structured(
        prompt, 'regex', @extschema@._steadytext_pattern_check(pattern), max_tokens, use_cache, seed, unsafe_mode, model);
END
$$;

CREATE FUNCTION @extschema@.steadytext_generate_regex_async(
    prompt text, pattern text, max_tokens integer DEFAULT 512, priority integer DEFAULT 5, user_id text DEFAULT NULL,
    use_cache boolean DEFAULT true, seed integer DEFAULT 42, unsafe_mode boolean DEFAULT false, model text DEFAULT NULL,
    not_before timestamptz DEFAULT NULL, dedupe_key text DEFAULT NULL, max_retries integer DEFAULT NULL
) RETURNS uuid
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RETURN @extschema@._steadytext_structured_async(
        prompt, 'regex', @extschema@._steadytext_pattern_check(pattern), max_tokens, priority, user_id, use_cache, seed,
        unsafe_mode, model, not_before, dedupe_key, max_retries);
END
$$;

CREATE FUNCTION @extschema@.steadytext_generate_choice(
    prompt text, choices text[], max_tokens integer DEFAULT NULL, use_cache boolean DEFAULT true, seed integer DEFAULT 42,
    unsafe_mode boolean DEFAULT false, model text DEFAULT NULL
) RETURNS text
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RETURN @extschema@._steadytext_structured(
        prompt, 'choices', @extschema@._steadytext_choices_check(choices), max_tokens, use_cache, seed, unsafe_mode, model);
END
$$;

CREATE FUNCTION @extschema@.steadytext_generate_choice_async(
    prompt text, choices text[], max_tokens integer DEFAULT 512, priority integer DEFAULT 5, user_id text DEFAULT NULL,
    use_cache boolean DEFAULT true, seed integer DEFAULT 42, unsafe_mode boolean DEFAULT false, model text DEFAULT NULL,
    not_before timestamptz DEFAULT NULL, dedupe_key text DEFAULT NULL, max_retries integer DEFAULT NULL
) RETURNS uuid
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RETURN @extschema@._steadytext_structured_async(
        prompt, 'choices', @extschema@._steadytext_choices_check(choices), max_tokens, priority, user_id, use_cache, seed,
        unsafe_mode, model, not_before, dedupe_key, max_retries);
END
$$;
