-- Facts: what a text states, by constrained JSON, and one of each kind, by embedding.

-- The schema leaves a small model no room to go on for ever, and keeps the whole answer within max_tokens_limit.
CREATE FUNCTION @extschema@.steadytext_extract_facts(
    input_text text, max_facts integer DEFAULT 10, model text DEFAULT NULL, unsafe_mode boolean DEFAULT false
) RETURNS jsonb
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_variable
DECLARE
    settings @extschema@._steadytext_settings;
    longest integer;
    answer jsonb;
BEGIN
    SELECT s.* INTO settings FROM @extschema@._steadytext_settings s;
    PERFORM @extschema@._steadytext_check_text('input_text', input_text, settings.max_prompt_chars);
    IF max_facts IS NULL THEN
        PERFORM @extschema@._steadytext_raise('22004', 'max_facts cannot be null');
    ELSIF max_facts NOT BETWEEN 1 AND 50 THEN
        PERFORM @extschema@._steadytext_raise('22023', 'max_facts must be between 1 and 50');
    END IF;
    longest := greatest(20, least(160, settings.max_tokens_limit / max_facts - 8));
    answer := @extschema@._steadytext_structured(
        format(E'Extract the facts of the following text as a list of complete sentences.\n\nText: %s\n\nFacts:', input_text), 'schema',
        jsonb_build_object('type', 'object', 'required', '["facts"]'::jsonb, 'additionalProperties', false,
            'properties', jsonb_build_object('facts', jsonb_build_object(
                'type', 'array', 'maxItems', max_facts, 'items', jsonb_build_object(
                    'type', 'string', 'minLength', 1, 'maxLength', longest)))),
        least(settings.max_tokens_limit, max_facts * (longest + 8) + 16), true, 42, unsafe_mode, model)::jsonb;
    RETURN jsonb_build_object('facts', (
        SELECT coalesce(jsonb_agg(f.fact ORDER BY f.place), '[]')
        FROM (SELECT btrim(e.value) AS fact, min(e.ordinality) AS place
              FROM jsonb_array_elements_text(answer -> 'facts') WITH ORDINALITY e
              WHERE e.value ~ '[^[:space:]]' GROUP BY btrim(e.value)) f));
END
$$;

-- For each text, the places of the earlier ones that are as similar as that; equal texts always are.
CREATE FUNCTION @extschema@._steadytext_resembled(texts text[], similarity double precision)
RETURNS TABLE (place bigint, earlier bigint[])
LANGUAGE sql VOLATILE
BEGIN ATOMIC
    WITH fact AS MATERIALIZED (
        SELECT e.place, e.content, e.embedding
        FROM @extschema@.steadytext_embed_batch(texts) WITH ORDINALITY AS e (content, embedding, place)
    )
    SELECT f.place, pg_catalog.array_agg(o.place)
    FROM fact f JOIN fact o ON o.place < f.place AND (o.content = f.content OR 1 - (f.embedding <=> o.embedding) >= similarity)
    GROUP BY f.place ORDER BY f.place;
END;

-- Keep the first of every group of facts that say the same. A fact is a text, or an object with one in "text" or "fact".
CREATE FUNCTION @extschema@.steadytext_deduplicate_facts(facts_array jsonb, similarity double precision DEFAULT 0.85)
RETURNS jsonb
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_variable
DECLARE
    settings @extschema@._steadytext_settings;
    texts text[];
    kept boolean[];
    pair record;
BEGIN
    IF num_nulls(facts_array, similarity) > 0 THEN
        PERFORM @extschema@._steadytext_raise('22004',
            CASE WHEN facts_array IS NULL THEN 'facts_array' ELSE 'similarity' END || ' cannot be null');
    ELSIF jsonb_typeof(facts_array) <> 'array' THEN
        PERFORM @extschema@._steadytext_raise('22023',
            format('facts_array must be a JSON array, not %s', jsonb_typeof(facts_array)),
            'Of what steadytext_extract_facts returns, pass -> ''facts''.');
    ELSIF NOT similarity BETWEEN 0 AND 1 THEN
        PERFORM @extschema@._steadytext_raise('22023', 'similarity must be between 0 and 1');
    END IF;
    texts := ARRAY(
        SELECT CASE WHEN jsonb_typeof(e.value) = 'string' THEN e.value #>> '{}'
                    WHEN jsonb_typeof(e.value -> 'text') = 'string' THEN e.value ->> 'text'
                    WHEN jsonb_typeof(e.value -> 'fact') = 'string' THEN e.value ->> 'fact' END
        FROM jsonb_array_elements(facts_array) WITH ORDINALITY e ORDER BY e.ordinality);
    IF array_position(texts, NULL) IS NOT NULL THEN
        PERFORM @extschema@._steadytext_raise('22023', format(
            'facts_array[%s] must be a text, or an object with a text in "text" or "fact"', array_position(texts, NULL)));
    END IF;
    SELECT s.* INTO settings FROM @extschema@._steadytext_settings s;
    PERFORM @extschema@._steadytext_check_text(format('facts_array[%s]', t.place), t.content, settings.max_prompt_chars)
    FROM unnest(texts) WITH ORDINALITY t (content, place);
    IF cardinality(texts) < 2 THEN
        RETURN facts_array;
    END IF;
    kept := array_fill(true, ARRAY[cardinality(texts)]);
    FOR pair IN SELECT r.place, r.earlier FROM @extschema@._steadytext_resembled(texts, similarity) r ORDER BY r.place LOOP
        kept[pair.place] := NOT EXISTS (SELECT FROM unnest(pair.earlier) e WHERE kept[e]);
    END LOOP;
    RETURN (SELECT jsonb_agg(e.value ORDER BY e.ordinality)
            FROM jsonb_array_elements(facts_array) WITH ORDINALITY e WHERE kept[e.ordinality]);
END
$$;
