-- Operators on texts, one row at a time. Each is a question that many rows share, put before the row's text: the daemon
-- keeps that beginning in the model and reads only the text. The set-wise forms ask the same questions, so both give the
-- same answers under the same cache key.

-- A question to ask of texts: `params` is the cache key's, `request` the daemon's, less the texts.
CREATE FUNCTION @extschema@._steadytext_operator_plan(
    prefix text, suffix text, wanted jsonb, scored boolean, use_cache boolean, seed integer, model text, max_tokens integer,
    OUT params jsonb, OUT request jsonb, OUT cached boolean
) LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_variable
DECLARE
    plan record;
    shared jsonb := wanted || jsonb_build_object('prefix', prefix)
        || CASE WHEN scored THEN jsonb_build_object('return_logprobs', true) ELSE '{}' END;
BEGIN
    plan := @extschema@._steadytext_generate_prepare(
        prefix, max_tokens, use_cache, seed, '[EOS]', model, NULL, NULL, NULL, false, false, 0);
    params := plan.params || shared || jsonb_build_object('suffix', suffix);
    request := (plan.request - 'prompt') || shared;
    cached := plan.cached;
END
$$;

-- The whole of an argument that every row shares.
CREATE FUNCTION @extschema@._steadytext_operator_argument(name text, value text) RETURNS text
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_variable
BEGIN
    PERFORM @extschema@._steadytext_check_text(name, value, s.max_prompt_chars) FROM @extschema@._steadytext_settings s;
    RETURN regexp_replace(value, '^[[:space:]]+|[[:space:]]+$', '', 'g');
END
$$;

CREATE FUNCTION @extschema@._steadytext_filter_plan(
    question text, use_cache boolean, seed integer, model text, OUT params jsonb, OUT request jsonb, OUT cached boolean
) LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT p.* FROM @extschema@._steadytext_operator_plan(
        E'Answer a question about a text with one word: yes, no, or unknown where the text does not tell.\n\n'
        || E'Question: Is it about an animal?\nText:\nThe cat sleeps on the sofa.\nAnswer: yes\n\n'
        || E'Question: Is it about an animal?\nText:\nThe train to the coast was late again.\nAnswer: no\n\n'
        || E'Question: Is the writer older than forty?\nText:\nI like green tea with honey.\nAnswer: unknown\n\n'
        || E'Question: ' || @extschema@._steadytext_operator_argument('question', question) || E'\nText:\n',
        E'\nAnswer:', '{"choices": ["yes", "no", "unknown"]}', false, use_cache, seed, model, NULL) p
$$;

CREATE FUNCTION @extschema@._steadytext_score_plan(
    criterion text, use_cache boolean, seed integer, model text, OUT params jsonb, OUT request jsonb, OUT cached boolean
) LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT p.* FROM @extschema@._steadytext_operator_plan(
        E'Does a text fit a description? Answer with one word: yes or no.\n\n'
        || E'Description: about an animal\nText:\nThe cat sleeps on the sofa.\nAnswer: yes\n\n'
        || E'Description: about an animal\nText:\nThe train to the coast was late again.\nAnswer: no\n\n'
        || E'Description: ' || @extschema@._steadytext_operator_argument('criterion', criterion) || E'\nText:\n',
        E'\nAnswer:', '{"choices": ["yes", "no"]}', true, use_cache, seed, model, NULL) p
$$;

CREATE FUNCTION @extschema@._steadytext_classify_plan(
    labels text[], scored boolean, use_cache boolean, seed integer, model text,
    OUT params jsonb, OUT request jsonb, OUT cached boolean
) LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_variable
DECLARE
    plan record;
BEGIN
    PERFORM @extschema@._steadytext_labels_check(labels);
    plan := @extschema@._steadytext_operator_plan(
        E'Choose the label that fits a text best. Answer with the label alone.\n\n'
        || E'Labels: fruit | vehicle\nText:\nThe bicycle has a flat tyre.\nAnswer: vehicle\n\n'
        || E'Labels: fruit | vehicle\nText:\nThe apples in the garden ripen in autumn.\nAnswer: fruit\n\n'
        || E'Labels: ' || array_to_string(labels, ' | ') || E'\nText:\n',
        E'\nAnswer:', jsonb_build_object('choices', to_jsonb(labels)), scored, use_cache, seed, model, NULL);
    params := plan.params;
    request := plan.request;
    cached := plan.cached;
END
$$;

CREATE FUNCTION @extschema@._steadytext_labels_check(labels text[]) RETURNS void
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_variable
BEGIN
    IF array_ndims(labels) > 1 THEN
        PERFORM @extschema@._steadytext_raise('22023', 'labels must be an array of one dimension');
    ELSIF labels IS NULL OR array_position(labels, NULL) IS NOT NULL THEN
        PERFORM @extschema@._steadytext_raise('22004',
            CASE WHEN labels IS NULL THEN 'labels cannot be null' ELSE 'labels cannot contain null' END);
    ELSIF cardinality(labels) < 2 THEN
        PERFORM @extschema@._steadytext_raise('22023', 'labels must contain at least 2 labels');
    ELSIF EXISTS (SELECT FROM unnest(labels) l WHERE l !~ '[^[:space:]]') THEN
        PERFORM @extschema@._steadytext_raise('22023', 'labels cannot contain an empty label');
    ELSIF (SELECT count(DISTINCT l) FROM unnest(labels) l) < cardinality(labels) THEN
        PERFORM @extschema@._steadytext_raise('22023', 'labels cannot contain duplicates');
    END IF;
END
$$;

CREATE FUNCTION @extschema@._steadytext_extract_plan(
    schema jsonb, use_cache boolean, seed integer, model text, max_tokens integer,
    OUT params jsonb, OUT request jsonb, OUT cached boolean
) LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT p.* FROM @extschema@._steadytext_operator_plan(
        E'Extract data from a text as JSON. Follow the schema, and take every value from the text.\n\n'
        || E'Schema:\n{"type": "object", "required": ["city", "day"], "properties": {"city": {"type": "string"}, '
        || E'"day": {"type": "string"}}}\nText:\nWe meet on Friday in Oslo.\nJSON:\n{"city": "Oslo", "day": "Friday"}\n\n'
        || E'Schema:\n' || @extschema@._steadytext_schema_check(schema)::text || E'\nText:\n',
        E'\nJSON:', jsonb_build_object('schema', schema), false, use_cache, seed, model, max_tokens) p
$$;

CREATE FUNCTION @extschema@._steadytext_translate_plan(
    language text, use_cache boolean, seed integer, model text, max_tokens integer,
    OUT params jsonb, OUT request jsonb, OUT cached boolean
) LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT p.* FROM @extschema@._steadytext_operator_plan(
        'Translate the text into ' || @extschema@._steadytext_operator_argument('language', language)
        || E'. Answer with the translation alone.\n\nText:\n',
        E'\n\nTranslation:', '{}', false, use_cache, seed, model, max_tokens) p
$$;

CREATE FUNCTION @extschema@._steadytext_sentiment_plan(
    use_cache boolean, seed integer, model text, OUT params jsonb, OUT request jsonb, OUT cached boolean
) LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT p.* FROM @extschema@._steadytext_operator_plan(
        E'What feeling does a text express? Answer with one word: positive, negative, neutral or mixed.\n\n'
        || E'Text:\nWhat a wonderful evening, thank you.\nAnswer: positive\n\n'
        || E'Text:\nThe soup was cold and the waiter rude.\nAnswer: negative\n\n'
        || E'Text:\nThe shop opens at nine.\nAnswer: neutral\n\n'
        || E'Text:\nLovely room, but far too expensive.\nAnswer: mixed\n\nText:\n',
        E'\nAnswer:', '{"choices": ["positive", "negative", "neutral", "mixed"]}', false, use_cache, seed, model, NULL) p
$$;

CREATE FUNCTION @extschema@.steadytext_filter(
    question text, input_text text, use_cache boolean DEFAULT true, seed integer DEFAULT 42, model text DEFAULT NULL,
    strict boolean DEFAULT true
) RETURNS boolean
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_variable
DECLARE
    plan record;
BEGIN
    plan := @extschema@._steadytext_filter_plan(question, use_cache, seed, model);
    RETURN @extschema@._steadytext_truth(@extschema@._steadytext_operate_one(
        input_text, plan.params, plan.request, plan.cached, strict));
END
$$;

CREATE FUNCTION @extschema@._steadytext_truth(answer text) RETURNS boolean
LANGUAGE sql STABLE
BEGIN ATOMIC
    SELECT CASE answer WHEN 'yes' THEN true WHEN 'no' THEN false END;
END;

-- How likely "yes" is beside "no".
CREATE FUNCTION @extschema@._steadytext_share(answer text, choice text) RETURNS double precision
LANGUAGE sql STABLE
BEGIN ATOMIC
    SELECT (e ->> 'probability')::double precision FROM pg_catalog.json_array_elements(answer::json) e
    WHERE e ->> 'choice' = choice;
END;

CREATE FUNCTION @extschema@.steadytext_score(
    criterion text, input_text text, use_cache boolean DEFAULT true, seed integer DEFAULT 42, model text DEFAULT NULL,
    strict boolean DEFAULT true
) RETURNS double precision
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_variable
DECLARE
    plan record;
BEGIN
    plan := @extschema@._steadytext_score_plan(criterion, use_cache, seed, model);
    RETURN @extschema@._steadytext_share(@extschema@._steadytext_operate_one(
        input_text, plan.params, plan.request, plan.cached, strict), 'yes');
END
$$;

CREATE FUNCTION @extschema@.steadytext_classify(
    input_text text, labels text[], use_cache boolean DEFAULT true, seed integer DEFAULT 42, model text DEFAULT NULL,
    strict boolean DEFAULT true
) RETURNS text
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_variable
DECLARE
    plan record;
BEGIN
    plan := @extschema@._steadytext_classify_plan(labels, false, use_cache, seed, model);
    RETURN @extschema@._steadytext_operate_one(input_text, plan.params, plan.request, plan.cached, strict);
END
$$;

-- Every label with its score, best first: the shares of all labels, or with multi_label each label judged by itself.
CREATE FUNCTION @extschema@.steadytext_classify_scores(
    input_text text, labels text[], multi_label boolean DEFAULT false, use_cache boolean DEFAULT true,
    seed integer DEFAULT 42, model text DEFAULT NULL, strict boolean DEFAULT true
) RETURNS TABLE (label text, score double precision)
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_variable
DECLARE
    plan record;
    answer text;
BEGIN
    IF multi_label IS NULL THEN
        PERFORM @extschema@._steadytext_raise('22004', 'multi_label cannot be null');
    ELSIF multi_label THEN
        PERFORM @extschema@._steadytext_labels_check(labels);
        RETURN QUERY SELECT s.name, s.score FROM (
            SELECT l.name, l.place, @extschema@.steadytext_score(
                'about ' || l.name, input_text, use_cache, seed, model, strict) AS score
            FROM unnest(labels) WITH ORDINALITY l (name, place)) s ORDER BY s.score DESC, s.place;
        RETURN;
    END IF;
    plan := @extschema@._steadytext_classify_plan(labels, true, use_cache, seed, model);
    answer := @extschema@._steadytext_operate_one(input_text, plan.params, plan.request, plan.cached, strict);
    RETURN QUERY SELECT l.name, @extschema@._steadytext_share(answer, l.name)
                 FROM unnest(labels) WITH ORDINALITY l (name, place) ORDER BY 2 DESC, l.place;
END
$$;

CREATE FUNCTION @extschema@.steadytext_extract(
    input_text text, schema jsonb, max_tokens integer DEFAULT NULL, use_cache boolean DEFAULT true,
    seed integer DEFAULT 42, model text DEFAULT NULL, strict boolean DEFAULT true
) RETURNS jsonb
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_variable
DECLARE
    plan record;
BEGIN
    plan := @extschema@._steadytext_extract_plan(schema, use_cache, seed, model, max_tokens);
    RETURN @extschema@._steadytext_operate_one(input_text, plan.params, plan.request, plan.cached, strict)::jsonb;
END
$$;

CREATE FUNCTION @extschema@.steadytext_translate(
    input_text text, language text, max_tokens integer DEFAULT NULL, use_cache boolean DEFAULT true,
    seed integer DEFAULT 42, model text DEFAULT NULL, strict boolean DEFAULT true
) RETURNS text
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_variable
DECLARE
    plan record;
BEGIN
    plan := @extschema@._steadytext_translate_plan(language, use_cache, seed, model, max_tokens);
    RETURN @extschema@._steadytext_operate_one(input_text, plan.params, plan.request, plan.cached, strict);
END
$$;

CREATE FUNCTION @extschema@.steadytext_sentiment(
    input_text text, use_cache boolean DEFAULT true, seed integer DEFAULT 42, model text DEFAULT NULL,
    strict boolean DEFAULT true
) RETURNS text
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_variable
DECLARE
    plan record;
BEGIN
    plan := @extschema@._steadytext_sentiment_plan(use_cache, seed, model);
    RETURN @extschema@._steadytext_operate_one(input_text, plan.params, plan.request, plan.cached, strict);
END
$$;
