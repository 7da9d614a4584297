-- What is called: summaries and instructions over many rows.

-- The transition of steadytext_summarize. NULL and blank texts are not there.
CREATE FUNCTION @extschema@.steadytext_summarize_accumulate(state jsonb, value text, metadata jsonb DEFAULT '{}')
RETURNS jsonb
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_variable
DECLARE
    task jsonb;
BEGIN
    IF state IS NOT NULL THEN
        PERFORM @extschema@._steadytext_state_check('state', state);
    END IF;
    IF value IS NULL OR value !~ '[^[:space:]]' THEN
        RETURN state;
    END IF;
    metadata := coalesce(metadata, '{}');
    IF state IS NULL OR metadata IS DISTINCT FROM state -> 'metadata' THEN
        task := @extschema@._steadytext_summary_task(metadata);
    END IF;
    RETURN @extschema@._steadytext_state_add(
        coalesce(state, @extschema@._steadytext_state_begin(task)), value, metadata, task);
END
$$;

-- Two states in one, without a call of the model; the same whichever comes first.
CREATE FUNCTION @extschema@.steadytext_summarize_combine(state1 jsonb, state2 jsonb) RETURNS jsonb
LANGUAGE plpgsql STABLE PARALLEL SAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF state1 IS NOT NULL THEN
        PERFORM @extschema@._steadytext_state_check('state1', state1);
    END IF;
    IF state2 IS NOT NULL THEN
        PERFORM @extschema@._steadytext_state_check('state2', state2);
    END IF;
    RETURN @extschema@._steadytext_state_merge(ARRAY[state1, state2]);
END
$$;

CREATE FUNCTION @extschema@.steadytext_summarize_finalize(state jsonb) RETURNS text
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF state IS NULL THEN
        RETURN NULL;
    END IF;
    PERFORM @extschema@._steadytext_state_check('state', state);
    RETURN @extschema@._steadytext_state_answer(state);
END
$$;

-- A state that is short enough to keep: each part reduced to one short text.
CREATE FUNCTION @extschema@._steadytext_summarize_seal(state jsonb) RETURNS jsonb
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_variable
DECLARE
    task jsonb := state -> 'task';
    room integer := (state ->> 'room')::integer;
    part jsonb;
    sealed jsonb := '[]'::jsonb;
BEGIN
    FOR part IN SELECT p.value FROM jsonb_array_elements(@extschema@._steadytext_state_parts(state)) p LOOP
        sealed := sealed || jsonb_build_object(
            'context', part -> 'context', 'pending', @extschema@._steadytext_part_text(task, room, part), 'levels', '[]'::jsonb);
    END LOOP;
    RETURN state || jsonb_build_object(
        'metadata', NULL, 'context', NULL, 'pending', '', 'levels', '[]'::jsonb, 'parts', sealed);
END
$$;

CREATE FUNCTION @extschema@._steadytext_summarize_merged(states jsonb[]) RETURNS text
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM @extschema@._steadytext_state_check('the partial summary', s) FROM unnest(states) s WHERE s IS NOT NULL;
    RETURN @extschema@._steadytext_state_answer(@extschema@._steadytext_state_merge(states));
END
$$;

CREATE AGGREGATE @extschema@.steadytext_summarize(text, jsonb) (
    SFUNC = @extschema@.steadytext_summarize_accumulate, STYPE = jsonb,
    FINALFUNC = @extschema@.steadytext_summarize_finalize);

-- Without metadata.
CREATE FUNCTION @extschema@._steadytext_summarize_plain(state jsonb, value text) RETURNS jsonb
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RETURN @extschema@.steadytext_summarize_accumulate(state, value, '{}');
END
$$;

CREATE AGGREGATE @extschema@.steadytext_summarize(text) (
    SFUNC = @extschema@._steadytext_summarize_plain, STYPE = jsonb,
    FINALFUNC = @extschema@.steadytext_summarize_finalize);

-- What a summary of some rows leaves to keep, and the summary of what was kept.
CREATE AGGREGATE @extschema@.steadytext_summarize_partial(text, jsonb) (
    SFUNC = @extschema@.steadytext_summarize_accumulate, STYPE = jsonb,
    FINALFUNC = @extschema@._steadytext_summarize_seal);
CREATE AGGREGATE @extschema@.steadytext_summarize_final(jsonb) (
    SFUNC = pg_catalog.array_append, STYPE = jsonb[], FINALFUNC = @extschema@._steadytext_summarize_merged);

-- A text of any length that max_prompt_chars allows.
CREATE FUNCTION @extschema@.steadytext_summarize_text(
    input_text text, metadata jsonb DEFAULT '{}', model text DEFAULT NULL, unsafe_mode boolean DEFAULT false
) RETURNS text
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_variable
DECLARE
    longest integer;
BEGIN
    SELECT s.max_prompt_chars INTO longest FROM @extschema@._steadytext_settings s;
    PERFORM @extschema@._steadytext_check_text('input_text', input_text, longest);
    IF unsafe_mode IS NULL THEN
        PERFORM @extschema@._steadytext_raise('22004', 'unsafe_mode cannot be null');
    END IF;
    metadata := coalesce(metadata, '{}');
    PERFORM @extschema@._steadytext_summary_task(metadata);
    RETURN @extschema@._steadytext_state_answer(@extschema@.steadytext_summarize_accumulate(NULL, input_text, metadata
        || CASE WHEN model IS NULL THEN '{}' ELSE jsonb_build_object('model', model) END
        || CASE WHEN unsafe_mode THEN '{"unsafe_mode": true}' ELSE '{}'::jsonb END));
END
$$;

-- The transition of steadytext_agg.
CREATE FUNCTION @extschema@._steadytext_agg_accumulate(state jsonb, value text, instruction text) RETURNS jsonb
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_variable
DECLARE
    longest integer;
BEGIN
    IF value IS NULL OR value !~ '[^[:space:]]' THEN
        RETURN state;
    ELSIF state IS NULL OR instruction IS NULL THEN
        SELECT s.max_prompt_chars INTO longest FROM @extschema@._steadytext_settings s;
        PERFORM @extschema@._steadytext_check_text('instruction', instruction, longest);
        state := @extschema@._steadytext_state_begin(
            jsonb_build_object('instruction', instruction, 'model', NULL, 'unsafe_mode', false, 'max_tokens', NULL));
    ELSIF instruction <> state -> 'task' ->> 'instruction' THEN
        PERFORM @extschema@._steadytext_raise('22023', 'instruction must be the same for all rows of a group');
    END IF;
    RETURN @extschema@._steadytext_state_add(state, value, '{}', state -> 'task');
END
$$;

CREATE AGGREGATE @extschema@.steadytext_agg(text, text) (
    SFUNC = @extschema@._steadytext_agg_accumulate, STYPE = jsonb,
    FINALFUNC = @extschema@.steadytext_summarize_finalize);
