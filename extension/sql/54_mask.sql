-- Personal data out of texts. What has a form is found by it (the next topic); names and addresses are found by the
-- model, when asked for. Nothing else of a text changes by a byte.

CREATE FUNCTION @extschema@.steadytext_mask(
    input_text text, kinds text[] DEFAULT '{email,phone,iban,card,ip}', use_cache boolean DEFAULT true,
    seed integer DEFAULT 42, model text DEFAULT NULL, strict boolean DEFAULT true
) RETURNS text
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_variable
DECLARE
    plan record;
    named text;
    problem jsonb;
BEGIN
    PERFORM @extschema@._steadytext_mask_check(kinds);
    IF strict IS NULL THEN
        PERFORM @extschema@._steadytext_raise('22004', 'strict cannot be null');
    END IF;
    IF kinds && '{name,address}' AND input_text ~ '[^[:space:]]' THEN
        plan := @extschema@._steadytext_mask_plan(kinds, use_cache, seed, model);
        named := @extschema@._steadytext_operate_one(input_text, plan.params, plan.request, plan.cached, strict);
        IF named IS NULL THEN
            RETURN NULL;
        END IF;
    ELSE
        problem := @extschema@._steadytext_mask_problem(input_text);
        IF problem IS NOT NULL AND strict THEN
            PERFORM @extschema@._steadytext_raise(problem ->> 'code', problem ->> 'error');
        ELSIF problem IS NOT NULL THEN
            RAISE WARNING USING MESSAGE = problem ->> 'error', ERRCODE = problem ->> 'code';
            RETURN NULL;
        END IF;
    END IF;
    RETURN @extschema@._steadytext_mask_all(input_text, kinds, named::jsonb);
END
$$;

CREATE FUNCTION @extschema@.steadytext_mask_batch(
    texts text[], kinds text[] DEFAULT '{email,phone,iban,card,ip}', use_cache boolean DEFAULT true,
    seed integer DEFAULT 42, model text DEFAULT NULL, strict boolean DEFAULT false
) RETURNS TABLE (ordinal bigint, result text, error text)
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_variable
DECLARE
    plan record;
    problems jsonb[];
BEGIN
    PERFORM @extschema@._steadytext_mask_check(kinds);
    IF texts IS NULL OR strict IS NULL THEN
        PERFORM @extschema@._steadytext_raise('22004',
            CASE WHEN texts IS NULL THEN 'texts' ELSE 'strict' END || ' cannot be null');
    ELSIF NOT kinds && '{name,address}' THEN
        problems := ARRAY(SELECT @extschema@._steadytext_mask_problem(t.content)
                          FROM unnest(texts) WITH ORDINALITY t (content, place) ORDER BY t.place);
        PERFORM @extschema@._steadytext_first_problem(problems, strict);
        RETURN QUERY SELECT t.place, CASE WHEN t.problem IS NULL THEN @extschema@._steadytext_mask_all(t.content, kinds, NULL) END,
                            t.problem ->> 'error'
                     FROM ROWS FROM (unnest(texts), unnest(problems)) WITH ORDINALITY t (content, problem, place);
        RETURN;
    END IF;
    plan := @extschema@._steadytext_mask_plan(kinds, use_cache, seed, model);
    RETURN QUERY
    SELECT o.place, CASE WHEN o.error IS NULL THEN
               @extschema@._steadytext_mask_all(t.content, kinds, o.answer::jsonb) END, o.error
    FROM @extschema@._steadytext_operate(
        ARRAY(SELECT CASE WHEN t.content ~ '[^[:space:]]' THEN t.content END FROM unnest(texts) WITH ORDINALITY t (content, place)
              ORDER BY t.place), plan.params, plan.request, plan.cached, strict) o
    JOIN unnest(texts) WITH ORDINALITY t (content, place) ON t.place = o.place
    ORDER BY o.place;
END
$$;

-- What keeps a text from being masked, or null: its length; an empty text has nothing to mask.
CREATE FUNCTION @extschema@._steadytext_mask_problem(value text) RETURNS jsonb
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RETURN (SELECT @extschema@._steadytext_text_problem(value, s.max_prompt_chars) FROM @extschema@._steadytext_settings s
            WHERE value ~ '[^[:space:]]');
END
$$;

CREATE FUNCTION @extschema@._steadytext_mask_check(kinds text[]) RETURNS void
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_variable
DECLARE
    known constant text[] := ARRAY['email', 'phone', 'iban', 'card', 'ip', 'name', 'address'];
    wrong text;
BEGIN
    IF kinds IS NULL OR array_position(kinds, NULL) IS NOT NULL THEN
        PERFORM @extschema@._steadytext_raise('22004',
            CASE WHEN kinds IS NULL THEN 'kinds cannot be null' ELSE 'kinds cannot contain null' END);
    ELSIF cardinality(kinds) = 0 THEN
        PERFORM @extschema@._steadytext_raise('22023', 'kinds cannot be empty');
    END IF;
    SELECT k INTO wrong FROM unnest(kinds) k WHERE k <> ALL (known) LIMIT 1;
    IF wrong IS NOT NULL THEN
        PERFORM @extschema@._steadytext_raise('22023', format('kinds cannot contain "%s"', left(wrong, 100)),
            'The kinds are ' || array_to_string(known, ', ') || '.');
    END IF;
END
$$;

-- The model's part: names and addresses as they stand in the text.
CREATE FUNCTION @extschema@._steadytext_mask_plan(
    kinds text[], use_cache boolean, seed integer, model text, OUT params jsonb, OUT request jsonb, OUT cached boolean
) LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT p.*
    FROM (SELECT array_agg(w.plural ORDER BY w.plural) AS wanted
          FROM (VALUES ('name', 'names_of_people'), ('address', 'postal_addresses')) w (kind, plural)
          WHERE w.kind = ANY (kinds)) k,
         LATERAL @extschema@._steadytext_extract_plan(jsonb_build_object(
             'type', 'object', 'additionalProperties', false, 'required', k.wanted,
             'properties', (SELECT jsonb_object_agg(n, jsonb_build_object('type', 'array', 'maxItems', 8, 'items',
                 '{"type": "string", "minLength": 2, "maxLength": 60}'::jsonb)) FROM unnest(k.wanted) n)),
             use_cache, seed, model, NULL) p
$$;

-- Everything that was asked for, in a fixed order, so that an address in an email is not a name first.
CREATE FUNCTION @extschema@._steadytext_mask_all(value text, kinds text[], named jsonb) RETURNS text
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_variable
DECLARE
    form text;
    found record;
    spoken text;
BEGIN
    FOREACH form IN ARRAY ARRAY['email', 'ip', 'iban', 'card', 'phone'] LOOP
        IF form = ANY (kinds) THEN
            value := CASE WHEN form IN ('email', 'ip') THEN @extschema@._steadytext_mask_written(value, form)
                          ELSE @extschema@._steadytext_mask_numbers(value, form) END;
        END IF;
    END LOOP;
    FOR found IN SELECT w.kind, s.text FROM (VALUES ('address', 'postal_addresses'), ('name', 'names_of_people')) w (kind, plural),
                 LATERAL jsonb_array_elements_text(named -> w.plural) s (text)
                 WHERE w.kind = ANY (kinds) ORDER BY w.kind, length(s.text) DESC, s.text
    LOOP
        spoken := regexp_replace(found.text, '([^[:alnum:][:space:]])', E'\\\\\\1', 'g');
        IF found.text ~ '[[:alpha:]]' THEN
            value := regexp_replace(value, '(?<![[:alnum:][])' || spoken || '(?![][:alnum:]])', '[' || upper(found.kind) || ']', 'g');
        END IF;
    END LOOP;
    RETURN value;
END
$$;
