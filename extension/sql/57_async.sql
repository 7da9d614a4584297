-- Asynchronous requests: validated and settled like the synchronous ones when they are queued, under the rights of who
-- asks; a worker only carries them out.

-- Insert one request for each text, and return their ids in order. An unfinished request of the owner with the same
-- dedupe key stands for a new one. Planning for each call would cost more than the call.
CREATE FUNCTION @extschema@._steadytext_queue_push(
    request_type text, texts text[], documents text[], params jsonb, priority integer, user_id text,
    not_before timestamptz, dedupe text, max_retries integer
) RETURNS uuid[]
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp SET plan_cache_mode = force_generic_plan AS $$
#variable_conflict use_variable
DECLARE
    caller constant text := @extschema@._steadytext_caller();
    ids uuid[];
    first_id bigint;
    twin uuid;
BEGIN
    PERFORM @extschema@._steadytext_queue_check(priority, user_id, not_before, dedupe, max_retries);
    IF cardinality(texts) = 0 THEN
        RETURN '{}'::uuid[];
    END IF;
    IF NOT @extschema@._steadytext_writable() THEN
        PERFORM @extschema@._steadytext_raise('25006', 'cannot queue a request in a read-only transaction');
    END IF;
    PERFORM @extschema@._steadytext_rate_enforce(caller, user_id, cardinality(texts));
    ids := @extschema@._steadytext_request_ids(cardinality(texts));
    IF dedupe IS NULL THEN
        WITH queued AS (
            INSERT INTO @extschema@.steadytext_queue AS q (request_id, request_type, lane, priority, owner, user_id,
                session_id, prompt, prompts, params, due_at, max_retries, batch_id)
            SELECT t.id, request_type, request_type, priority, caller, coalesce(user_id, caller),
                   nullif(current_setting('application_name'), ''), t.content, @extschema@._steadytext_flat(documents), params,
                   greatest(clock_timestamp(), not_before), coalesce(max_retries, s.queue_max_retries),
                   CASE WHEN cardinality(ids) > 1 THEN ids[1] END
            FROM @extschema@._steadytext_settings s, unnest(ids, texts) AS t (id, content)
            RETURNING q.id
        )
        SELECT min(queued.id) INTO first_id FROM queued;
    ELSE
        INSERT INTO @extschema@.steadytext_queue AS q (request_id, request_type, lane, priority, owner, user_id,
            session_id, prompt, prompts, params, due_at, max_retries, dedupe_key)
        SELECT ids[1], request_type, request_type, priority, caller, coalesce(user_id, caller),
               nullif(current_setting('application_name'), ''), texts[1], @extschema@._steadytext_flat(documents), params,
               greatest(clock_timestamp(), not_before), coalesce(max_retries, s.queue_max_retries), dedupe
        FROM @extschema@._steadytext_settings s
        ON CONFLICT (owner, dedupe_key) WHERE dedupe_key IS NOT NULL AND status IN ('pending', 'processing')
            DO UPDATE SET dedupe_key = excluded.dedupe_key
        RETURNING q.id, q.request_id INTO first_id, twin;
        IF twin <> ids[1] THEN
            RETURN ARRAY[twin];
        END IF;
    END IF;
    PERFORM @extschema@._steadytext_queue_admit(caller, request_type, first_id, cardinality(texts));
    RETURN ids;
END
$$;

-- So many new ids, in order: UUIDs of version 7 (RFC 9562), with the millisecond and its 4,096th part (method 3), counted on
-- from one to the next, and 62 random bits. Random ids would write all over their index, each a page of its own, and the
-- more of them are kept the slower.
CREATE FUNCTION @extschema@._steadytext_request_ids(requests integer) RETURNS uuid[]
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_variable
DECLARE
    version constant bigint := 7 << 12;
    first constant bigint := extract(epoch FROM clock_timestamp()) * 4096000;
BEGIN
    RETURN ARRAY(
        SELECT (lpad(to_hex((tick >> 12 << 16) | version | (tick & 4095)), 16, '0') || substr(gen_random_uuid()::text, 20))::uuid
        FROM generate_series(first, first + requests - 1) tick);
END
$$;

CREATE FUNCTION @extschema@._steadytext_queue_check(
    priority integer, user_id text, not_before timestamptz, dedupe_key text, max_retries integer
) RETURNS void
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF priority IS NULL THEN
        PERFORM @extschema@._steadytext_raise('22004', 'priority cannot be null');
    ELSIF priority NOT BETWEEN 1 AND 10 THEN
        PERFORM @extschema@._steadytext_raise('22023', format('priority must be between 1 and 10, not %s', priority));
    ELSIF user_id = '' OR length(user_id) > 200 THEN
        PERFORM @extschema@._steadytext_raise('22023', 'user_id must have 1 to 200 characters');
    ELSIF dedupe_key = '' OR length(dedupe_key) > 500 THEN
        PERFORM @extschema@._steadytext_raise('22023', 'dedupe_key must have 1 to 500 characters');
    ELSIF not_before >= '10000-01-01 00:00:00+00' OR not_before = '-infinity' THEN
        PERFORM @extschema@._steadytext_raise('22023', 'not_before must be a moment before the year 10000');
    ELSIF max_retries NOT BETWEEN 0 AND 100 THEN
        PERFORM @extschema@._steadytext_raise('22023', format('max_retries must be between 0 and 100, not %s', max_retries));
    END IF;
END
$$;

-- What a worker is to do: the daemon's parameters, and those of the cache's key where the answer may be kept.
CREATE FUNCTION @extschema@._steadytext_queue_params(request jsonb, cache jsonb, cached boolean) RETURNS jsonb
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RETURN CASE WHEN cached THEN jsonb_build_object('request', request, 'cache', cache)
                ELSE jsonb_build_object('request', request) END;
END
$$;

CREATE FUNCTION @extschema@.steadytext_generate_async(
    prompt text, max_tokens integer DEFAULT 512, priority integer DEFAULT 5, user_id text DEFAULT NULL,
    use_cache boolean DEFAULT true, seed integer DEFAULT 42, eos_string text DEFAULT '[EOS]', model text DEFAULT NULL,
    model_repo text DEFAULT NULL, model_filename text DEFAULT NULL, size text DEFAULT NULL,
    unsafe_mode boolean DEFAULT false, thinking_mode boolean DEFAULT false, temperature double precision DEFAULT 0,
    not_before timestamptz DEFAULT NULL, dedupe_key text DEFAULT NULL, max_retries integer DEFAULT NULL,
    stream boolean DEFAULT false
) RETURNS uuid
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_variable
DECLARE
    plan record;
    params jsonb;
BEGIN
    plan := @extschema@._steadytext_generate_prepare(
        prompt, max_tokens, use_cache, seed, eos_string, model, model_repo, model_filename, size, unsafe_mode,
        thinking_mode, temperature);
    params := @extschema@._steadytext_queue_params(plan.request - 'prompt', plan.params, plan.cached);
    IF stream IS NULL THEN
        PERFORM @extschema@._steadytext_raise('22004', 'stream cannot be null');
    ELSIF stream THEN
        params := params || '{"stream": true}';
    END IF;
    RETURN (@extschema@._steadytext_queue_push(
        'generate', ARRAY[prompt], NULL, params, priority, user_id, not_before, dedupe_key, max_retries))[1];
END
$$;

CREATE FUNCTION @extschema@.steadytext_embed_async(
    text_input text, priority integer DEFAULT 5, user_id text DEFAULT NULL, use_cache boolean DEFAULT true,
    seed integer DEFAULT 42, model text DEFAULT NULL, unsafe_mode boolean DEFAULT false,
    not_before timestamptz DEFAULT NULL, dedupe_key text DEFAULT NULL, max_retries integer DEFAULT NULL
) RETURNS uuid
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_variable
DECLARE
    plan record;
BEGIN
    plan := @extschema@._steadytext_embed_prepare(text_input, use_cache, seed, model, unsafe_mode);
    RETURN (@extschema@._steadytext_queue_push(
        'embed', ARRAY[text_input], NULL, @extschema@._steadytext_queue_params(plan.request, plan.params, plan.cached),
        priority, user_id, not_before, dedupe_key, max_retries))[1];
END
$$;

-- Documents are compared as they are; a null among them is refused, since there is nothing to return it as.
CREATE FUNCTION @extschema@._steadytext_rerank_prepare(
    name text, query text, documents text[], task text, return_scores boolean, seed integer, model text,
    unsafe_mode boolean
) RETURNS jsonb
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_variable
DECLARE
    longest integer;
    absent bigint;
BEGIN
    SELECT s.max_prompt_chars INTO longest FROM @extschema@._steadytext_settings s;
    PERFORM @extschema@._steadytext_check_text(name, query, longest);
    PERFORM @extschema@._steadytext_check_text('task', task, longest);
    IF documents IS NULL THEN
        PERFORM @extschema@._steadytext_raise('22004', 'Documents cannot be null');
    ELSIF cardinality(documents) = 0 THEN
        PERFORM @extschema@._steadytext_raise('22023', 'Documents array cannot be empty');
    END IF;
    SELECT min(d.place) INTO absent FROM unnest(documents) WITH ORDINALITY d (content, place) WHERE d.content IS NULL;
    IF absent IS NOT NULL THEN
        PERFORM @extschema@._steadytext_raise('22004', 'Documents cannot contain null elements', format('documents[%s] is null.', absent));
    ELSIF cardinality(documents) > 20000 THEN
        PERFORM @extschema@._steadytext_raise('22023',
            format('documents may hold at most 20000 texts, not %s', cardinality(documents)));
    ELSIF return_scores IS NULL THEN
        PERFORM @extschema@._steadytext_raise('22004', 'return_scores cannot be null');
    ELSIF seed < 0 THEN
        PERFORM @extschema@._steadytext_raise('22023', 'seed must be non-negative');
    END IF;
    PERFORM @extschema@._steadytext_check_text(format('documents[%s]', d.place), d.content, longest)
    FROM unnest(documents) WITH ORDINALITY d (content, place);
    RETURN jsonb_build_object('request', jsonb_build_object(
        'task', task, 'return_scores', return_scores, 'seed', coalesce(seed, 42),
        'model', @extschema@._steadytext_rerank_model(model, unsafe_mode), 'unsafe_mode', unsafe_mode));
END
$$;

CREATE FUNCTION @extschema@.steadytext_rerank_async(
    query text, documents text[], task text DEFAULT 'Given a web search query, retrieve relevant passages that answer the query',
    return_scores boolean DEFAULT true, seed integer DEFAULT 42, priority integer DEFAULT 5, user_id text DEFAULT NULL,
    not_before timestamptz DEFAULT NULL, dedupe_key text DEFAULT NULL, max_retries integer DEFAULT NULL,
    model text DEFAULT NULL, unsafe_mode boolean DEFAULT false
) RETURNS uuid
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RETURN (@extschema@._steadytext_queue_push('rerank', ARRAY[query], documents,
        @extschema@._steadytext_rerank_prepare('Query', query, documents, task, return_scores, seed, model, unsafe_mode),
        priority, user_id, not_before, dedupe_key, max_retries))[1];
END
$$;

-- Batches: one request a text, in input order, all of one batch_id.
CREATE FUNCTION @extschema@.steadytext_generate_batch_async(
    prompts text[], max_tokens integer DEFAULT 512, priority integer DEFAULT 5, user_id text DEFAULT NULL,
    use_cache boolean DEFAULT true, seed integer DEFAULT 42, model text DEFAULT NULL,
    not_before timestamptz DEFAULT NULL, max_retries integer DEFAULT NULL
) RETURNS uuid[]
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_variable
DECLARE
    plan record;
BEGIN
    PERFORM @extschema@._steadytext_check_texts('prompts', prompts);
    PERFORM @extschema@._steadytext_policy_check(prompts);
    plan := @extschema@._steadytext_generate_prepare(
        'prompt', max_tokens, use_cache, seed, '[EOS]', model, NULL, NULL, NULL, false, false, 0);
    RETURN @extschema@._steadytext_queue_push(
        'generate', prompts, NULL, @extschema@._steadytext_queue_params(plan.request - 'prompt', plan.params, plan.cached),
        priority, user_id, not_before, NULL, max_retries);
END
$$;

CREATE FUNCTION @extschema@.steadytext_embed_batch_async(
    texts text[], priority integer DEFAULT 5, user_id text DEFAULT NULL, use_cache boolean DEFAULT true,
    model text DEFAULT NULL, not_before timestamptz DEFAULT NULL, max_retries integer DEFAULT NULL
) RETURNS uuid[]
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_variable
DECLARE
    plan record;
BEGIN
    PERFORM @extschema@._steadytext_check_texts('texts', texts);
    plan := @extschema@._steadytext_embed_prepare('text', use_cache, NULL, model, false);
    RETURN @extschema@._steadytext_queue_push(
        'embed', texts, NULL, @extschema@._steadytext_queue_params(plan.request, plan.params, plan.cached),
        priority, user_id, not_before, NULL, max_retries);
END
$$;

-- Rank the same documents by each of several queries.
CREATE FUNCTION @extschema@.steadytext_rerank_batch_async(
    queries text[], documents text[], task text DEFAULT 'Given a web search query, retrieve relevant passages that answer the query',
    return_scores boolean DEFAULT true, seed integer DEFAULT 42, priority integer DEFAULT 5, user_id text DEFAULT NULL,
    not_before timestamptz DEFAULT NULL, max_retries integer DEFAULT NULL,
    model text DEFAULT NULL, unsafe_mode boolean DEFAULT false
) RETURNS uuid[]
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM @extschema@._steadytext_check_texts('queries', queries);
    RETURN @extschema@._steadytext_queue_push('rerank', queries, documents,
        @extschema@._steadytext_rerank_prepare('Query', 'query', documents, task, return_scores, seed, model, unsafe_mode),
        priority, user_id, not_before, NULL, max_retries);
END
$$;

CREATE FUNCTION @extschema@._steadytext_check_texts(name text, texts text[]) RETURNS void
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF texts IS NULL THEN
        PERFORM @extschema@._steadytext_raise('22004', name || ' cannot be null');
    END IF;
    PERFORM @extschema@._steadytext_check_text(format('%s[%s]', name, bad.place), bad.content, bad.max_prompt_chars)
    FROM (SELECT t.place, t.content, s.max_prompt_chars
          FROM @extschema@._steadytext_settings s, unnest(texts) WITH ORDINALITY t (content, place)
          WHERE t.content IS NULL OR octet_length(t.content) > s.max_prompt_chars OR t.content !~ '[^[:space:]]'
          ORDER BY t.place) bad;
END
$$;
