-- How an operator's question is put to texts: one at a time, or a set with one statement for what the cache knows, one
-- request and one statement to keep the answers for every 200 texts. A text that fails is an error of its own row.

-- What keeps a text from being asked about, or null.
CREATE FUNCTION @extschema@._steadytext_text_problem(value text, max_chars integer, name text DEFAULT 'input_text')
RETURNS jsonb
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_variable
BEGIN
    IF octet_length(value) > max_chars AND length(value) > max_chars THEN
        RETURN jsonb_build_object('code', '22001', 'error', format(
            '%s of %s characters is longer than max_prompt_chars allows, %s', name, length(value), max_chars));
    ELSIF value !~ '[^[:space:]]' THEN
        RETURN jsonb_build_object('code', '22023', 'error', name || ' cannot be empty');
    END IF;
    RETURN NULL;
END
$$;

-- White space before a text would run into the end of what is kept in the model.
CREATE FUNCTION @extschema@._steadytext_text_trimmed(value text) RETURNS text
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RETURN regexp_replace(value, '^[[:space:]]+|[[:space:]]+$', '', 'g');
END
$$;

-- The daemon's answer to one text as the cache keeps it; a text that was cut off is no answer.
CREATE FUNCTION @extschema@._steadytext_answer_text(answer json) RETURNS text
LANGUAGE sql STABLE
BEGIN ATOMIC
    SELECT CASE WHEN answer ->> 'finish_reason' = 'stop' THEN coalesce(answer ->> 'logprobs', answer ->> 'text') END;
END;

CREATE FUNCTION @extschema@._steadytext_answer_problem(answer json) RETURNS jsonb
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF answer ->> 'error' IS NOT NULL THEN
        RETURN answer::jsonb;
    ELSIF answer ->> 'finish_reason' <> 'stop' THEN
        RETURN jsonb_build_object('code', '22023', 'error', 'max_tokens cut the answer off', 'hint', 'Raise max_tokens.');
    END IF;
    RETURN NULL;
END
$$;

CREATE FUNCTION @extschema@._steadytext_operate_one(
    input_text text, params jsonb, request jsonb, cached boolean, strict boolean
) RETURNS text
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_variable
DECLARE
    hit record;
    reply json;
    answer text;
    problem jsonb;
    started timestamptz := clock_timestamp();
BEGIN
    IF strict IS NULL THEN
        PERFORM @extschema@._steadytext_raise('22004', 'strict cannot be null');
    ELSIF input_text IS NULL THEN
        RETURN NULL;
    END IF;
    SELECT coalesce(@extschema@._steadytext_text_problem(input_text, s.max_prompt_chars),
                    CASE WHEN s.prompt_policy IS NOT NULL THEN @extschema@._steadytext_policy_problem(input_text) END)
    INTO problem FROM @extschema@._steadytext_settings s;
    IF problem IS NULL THEN
        input_text := @extschema@._steadytext_text_trimmed(input_text);
        IF cached THEN
            SELECT p.* INTO hit FROM @extschema@._steadytext_cache_probe(input_text, params) p;
            IF hit.is_hit THEN
                RETURN hit.response;
            END IF;
        END IF;
        reply := @extschema@._steadytext_request('generate_batch', request
            || jsonb_build_object('prompts', jsonb_build_array(input_text || (params ->> 'suffix'))));
        answer := @extschema@._steadytext_answer_text(reply -> 'answers' -> 0);
        problem := @extschema@._steadytext_answer_problem(reply -> 'answers' -> 0);
    END IF;
    IF problem IS NULL THEN
        IF cached AND answer <> '' THEN
            PERFORM @extschema@._steadytext_cache_store(ARRAY[input_text], params, ARRAY[answer], NULL,
                reply ->> 'model', reply ->> 'digest', @extschema@._steadytext_ms_since(started));
        END IF;
    ELSIF strict THEN
        PERFORM @extschema@._steadytext_raise(problem ->> 'code', problem ->> 'error', problem ->> 'hint');
    ELSE
        RAISE WARNING USING MESSAGE = problem ->> 'error', ERRCODE = problem ->> 'code';
    END IF;
    RETURN answer;
END
$$;

-- The same for many texts, in input order; each different text is asked about once.
CREATE FUNCTION @extschema@._steadytext_operate(
    texts text[], params jsonb, request jsonb, cached boolean, strict boolean
) RETURNS TABLE (place bigint, answer text, error text)
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_variable
DECLARE
    known text[];
    known_answers text[];
    missing text[];
    problems jsonb[];
    missing_problems jsonb[] := '{}'::jsonb[];
    reply record;
    chunk constant integer := 200;
BEGIN
    IF texts IS NULL OR strict IS NULL THEN
        PERFORM @extschema@._steadytext_raise('22004',
            CASE WHEN texts IS NULL THEN 'texts' ELSE 'strict' END || ' cannot be null');
    END IF;
    SELECT array_agg(coalesce(
        @extschema@._steadytext_text_problem(t.content, s.max_prompt_chars),
        CASE WHEN s.prompt_policy IS NOT NULL THEN @extschema@._steadytext_policy_problem(t.content) END) ORDER BY t.place)
    INTO problems FROM @extschema@._steadytext_settings s, unnest(texts) WITH ORDINALITY t (content, place);
    PERFORM @extschema@._steadytext_first_problem(problems, strict);
    texts := ARRAY(SELECT CASE WHEN t.problem IS NULL THEN @extschema@._steadytext_text_trimmed(t.content) END
                   FROM ROWS FROM (unnest(texts), unnest(problems)) WITH ORDINALITY t (content, problem, place)
                   ORDER BY t.place);
    SELECT k.* INTO known, known_answers, missing FROM @extschema@._steadytext_known(texts, params, cached) k;
    FOR head IN 1 .. cardinality(missing) BY chunk LOOP
        SELECT f.* INTO reply FROM @extschema@._steadytext_operate_fresh(
            missing[head : head + chunk - 1], params, request, cached) f;
        PERFORM @extschema@._steadytext_first_problem(ARRAY(
            SELECT f.problem FROM unnest(texts) WITH ORDINALITY t (content, place)
            LEFT JOIN ROWS FROM (unnest(missing[head : head + chunk - 1]), unnest(reply.problems)) f (content, problem)
            ON f.content = t.content ORDER BY t.place), strict);
        known := known || missing[head : head + chunk - 1];
        known_answers := known_answers || reply.answers;
        missing_problems := missing_problems || reply.problems;
    END LOOP;
    RETURN QUERY
    SELECT t.place, k.answer, coalesce(t.problem, f.problem) ->> 'error'
    FROM ROWS FROM (unnest(texts), unnest(problems)) WITH ORDINALITY t (content, problem, place)
    LEFT JOIN ROWS FROM (unnest(known), unnest(known_answers)) k (content, answer) ON k.content = t.content
    LEFT JOIN ROWS FROM (unnest(missing), unnest(missing_problems)) f (content, problem) ON f.content = t.content
    ORDER BY t.place;
END
$$;

CREATE FUNCTION @extschema@._steadytext_first_problem(problems jsonb[], strict boolean, name text DEFAULT 'texts')
RETURNS void
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_variable
BEGIN
    IF strict THEN
        PERFORM @extschema@._steadytext_raise(p.problem ->> 'code',
            format('%s[%s]: %s', name, p.place, p.problem ->> 'error'), p.problem ->> 'hint')
        FROM unnest(problems) WITH ORDINALITY p (problem, place) WHERE p.problem IS NOT NULL ORDER BY p.place LIMIT 1;
    END IF;
END
$$;

-- What the cache holds of some texts with its answers, and the texts that it does not, each once; hits are counted.
CREATE FUNCTION @extschema@._steadytext_known(
    texts text[], params jsonb, cached boolean, OUT known text[], OUT answers text[], OUT missing text[]
) LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_variable
DECLARE
    hits bigint[];
BEGIN
    SELECT coalesce(array_agg(t.content) FILTER (WHERE c.id IS NOT NULL), '{}'),
           coalesce(array_agg(c.response) FILTER (WHERE c.id IS NOT NULL), '{}'),
           coalesce(array_agg(t.content ORDER BY t.place) FILTER (WHERE c.id IS NULL), '{}'),
           coalesce(array_agg(c.id) FILTER (WHERE c.id IS NOT NULL), '{}')
    INTO known, answers, missing, hits
    FROM (SELECT u.content, min(u.place) AS place FROM unnest(texts) WITH ORDINALITY u (content, place)
          WHERE u.content IS NOT NULL GROUP BY u.content) t
    LEFT JOIN @extschema@.steadytext_cache c
        ON cached AND c.cache_key = @extschema@.steadytext_cache_key(t.content, params);
    IF @extschema@._steadytext_writable() THEN
        INSERT INTO @extschema@._steadytext_cache_hits (entry_id) SELECT h FROM unnest(hits) h;
    END IF;
END
$$;

-- Ask the daemon about some texts in one request, and keep the answers there are.
CREATE FUNCTION @extschema@._steadytext_operate_fresh(
    texts text[], params jsonb, request jsonb, keep boolean, OUT answers text[], OUT problems jsonb[]
) LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_variable
DECLARE
    reply json;
    kept record;
    started timestamptz := clock_timestamp();
BEGIN
    reply := @extschema@._steadytext_request('generate_batch', request || jsonb_build_object('prompts',
        ARRAY(SELECT t.content || (params ->> 'suffix') FROM unnest(texts) WITH ORDINALITY t (content, place)
              ORDER BY t.place)));
    SELECT array_agg(@extschema@._steadytext_answer_text(a.answer) ORDER BY a.place),
           array_agg(@extschema@._steadytext_answer_problem(a.answer) ORDER BY a.place)
    INTO answers, problems FROM json_array_elements(reply -> 'answers') WITH ORDINALITY a (answer, place);
    IF cardinality(answers) IS DISTINCT FROM cardinality(texts) THEN
        PERFORM @extschema@._steadytext_raise('58000',
            format('the daemon answered %s texts with %s answers', cardinality(texts), cardinality(answers)));
    END IF;
    SELECT array_agg(k.content) AS texts, array_agg(k.answer) AS answers INTO kept
    FROM ROWS FROM (unnest(texts), unnest(answers)) k (content, answer) WHERE k.answer <> '';
    IF keep AND kept.texts IS NOT NULL THEN
        PERFORM @extschema@._steadytext_cache_store(kept.texts, params, kept.answers, NULL, reply ->> 'model',
            reply ->> 'digest', (@extschema@._steadytext_ms_since(started) / cardinality(texts))::integer);
    END IF;
END
$$;
