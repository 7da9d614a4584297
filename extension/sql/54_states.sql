-- Summaries of many rows, and an instruction followed over many rows: what goes into a state, how states are merged, and
-- what comes out.
--
-- None of the aggregates has a COMBINEFUNC, and none is parallel safe. Answers are kept in the cache, and nothing may
-- write while a parallel plan runs. Even without the cache, workers fill other contexts than one process does, by chance,
-- and a model answers other contexts otherwise. So the contexts are filled in the order of the rows, which an ORDER BY
-- inside the aggregate settles, and no plan, parallel or by partitions, can divide them. Those who do divide the rows
-- merge finished parts instead, in an order of the parts' own.

-- A state without rows. `task` is what stays the same for a whole group.
CREATE FUNCTION @extschema@._steadytext_state_begin(task jsonb) RETURNS jsonb
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RETURN jsonb_build_object(
        'task', task, 'room', @extschema@._steadytext_node_room(task), 'rows', 0, 'metadata', NULL, 'context', NULL,
        'pending', '', 'levels', '[]'::jsonb, 'parts', '[]'::jsonb);
END
$$;

-- Anybody may call the state functions, with anything.
CREATE FUNCTION @extschema@._steadytext_state_check(name text, state jsonb) RETURNS void
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF coalesce(jsonb_typeof(state #> '{task,unsafe_mode}') <> 'boolean'
        OR coalesce(state #>> '{task,max_tokens}', '1') !~ '^[0-9]{1,9}$' OR state ->> 'room' !~ '^[1-9][0-9]{3,7}$'
        OR state ->> 'rows' !~ '^[0-9]{1,15}$' OR jsonb_typeof(state -> 'pending') <> 'string'
        OR jsonb_typeof(state -> 'levels') <> 'array' OR jsonb_typeof(state -> 'parts') <> 'array'
        OR jsonb_path_exists(state, '$.levels[*] ? (@.type() != "string")')
        OR state -> 'parts' <> jsonb_path_query_array(state, '$.parts[*] ? (@.pending.type() == "string"
            && @.levels.type() == "array" && @.context.type() == "object")')
        OR jsonb_typeof(state -> 'context') NOT IN ('object', 'null')
        OR jsonb_path_exists(state, '$.parts[*].levels[*] ? (@.type() != "string")'), true) THEN
        PERFORM @extschema@._steadytext_raise('22023', name || ' is not a state of a summary',
            'The states are those of steadytext_summarize_partial, _accumulate and _combine.');
    END IF;
END
$$;

-- What the metadata says about the call; the rest of it is about the texts.
CREATE FUNCTION @extschema@._steadytext_summary_task(metadata jsonb) RETURNS jsonb
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF jsonb_typeof(metadata) <> 'object' THEN
        PERFORM @extschema@._steadytext_raise('22023', format('metadata must be a JSON object, not %s', jsonb_typeof(metadata)));
    ELSIF jsonb_typeof(metadata -> 'model') NOT IN ('string', 'null') THEN
        PERFORM @extschema@._steadytext_raise('22023', 'model in metadata must be a text');
    ELSIF jsonb_typeof(metadata -> 'unsafe_mode') NOT IN ('boolean', 'null') THEN
        PERFORM @extschema@._steadytext_raise('22023', 'unsafe_mode in metadata must be true or false');
    ELSIF metadata ->> 'max_tokens' !~ '^[0-9]{1,9}$' THEN
        PERFORM @extschema@._steadytext_raise('22023', 'max_tokens in metadata must be a whole number');
    END IF;
    RETURN jsonb_build_object(
        'model', metadata -> 'model', 'unsafe_mode', coalesce((metadata ->> 'unsafe_mode')::boolean, false),
        'max_tokens', coalesce((metadata ->> 'max_tokens')::integer, 128));
END
$$;

-- Add one row. Its metadata is written before it where it is not the last row's.
CREATE FUNCTION @extschema@._steadytext_state_add(state jsonb, value text, metadata jsonb, task jsonb) RETURNS jsonb
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_variable
DECLARE
    room integer := (state ->> 'room')::integer;
    pending text := state ->> 'pending';
    context jsonb := metadata - '{model,unsafe_mode,max_tokens,max_facts,preserve_samples}'::text[];
    line text := value;
    levels text[];
    longest integer;
BEGIN
    IF metadata IS DISTINCT FROM state -> 'metadata' THEN
        IF task IS DISTINCT FROM state -> 'task' THEN
            PERFORM @extschema@._steadytext_raise('22023', CASE WHEN task ? 'instruction'
                THEN 'instruction must be the same for all rows of a group'
                ELSE 'model, unsafe_mode and max_tokens in metadata must be the same for all rows of a group' END);
        END IF;
        line := @extschema@._steadytext_context_line(context) || value;
        IF octet_length(line) - octet_length(value) > @extschema@._steadytext_node_bytes(room) / 2 THEN
            PERFORM @extschema@._steadytext_raise('22001', format('metadata is longer than %s bytes',
                @extschema@._steadytext_node_bytes(room) / 2));
        END IF;
        state := state || jsonb_build_object('metadata', metadata, 'context', CASE
            WHEN jsonb_typeof(state -> 'context') = 'object'
            THEN (SELECT coalesce(jsonb_object_agg(c.key, c.value), '{}') FROM jsonb_each(context) c
                  WHERE state -> 'context' @> jsonb_build_object(c.key, c.value))
            ELSE context END);
    END IF;
    IF pending = '' AND octet_length(line) <= room THEN
        pending := line;
    ELSIF octet_length(pending) + 1 + octet_length(line) <= room THEN
        pending := pending || E'\n' || line;
    ELSE
        SELECT s.max_prompt_chars INTO longest FROM @extschema@._steadytext_settings s;
        PERFORM @extschema@._steadytext_check_text('text', value, longest);
        levels := ARRAY(SELECT l.value FROM jsonb_array_elements_text(state -> 'levels') WITH ORDINALITY l ORDER BY l.ordinality);
        LOOP
            IF pending <> '' THEN
                levels := @extschema@._steadytext_levels_push(state -> 'task', room, levels, 1,
                    @extschema@._steadytext_node_shorten(state -> 'task', room, pending, true));
            END IF;
            pending := @extschema@._steadytext_text_head(line, room);
            line := substr(line, length(pending) + 1);
            EXIT WHEN line = '';
        END LOOP;
        state := state || jsonb_build_object('levels', levels);
    END IF;
    RETURN state || jsonb_build_object('pending', pending, 'rows', (state ->> 'rows')::bigint + 1);
END
$$;

-- A state's own rows as one of its parts.
CREATE FUNCTION @extschema@._steadytext_state_parts(state jsonb) RETURNS jsonb
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RETURN state -> 'parts' || CASE WHEN state ->> 'pending' = '' AND state -> 'levels' = '[]' THEN '[]'
        ELSE jsonb_build_array(jsonb_build_object(
            'context', state -> 'context', 'pending', state -> 'pending', 'levels', state -> 'levels')) END;
END
$$;

-- Merge states without asking the model. Parts stand in the order of their metadata and texts, whichever state came
-- first, so that every way to merge the same states gives the same state.
CREATE FUNCTION @extschema@._steadytext_state_merge(states jsonb[]) RETURNS jsonb
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_variable
DECLARE
    merged jsonb;
    tasks bigint;
BEGIN
    SELECT count(DISTINCT s -> 'task'), jsonb_build_object(
        'task', (array_agg(s -> 'task'))[1], 'room', min((s ->> 'room')::integer), 'rows', sum((s ->> 'rows')::bigint),
        'metadata', NULL, 'context', NULL, 'pending', '', 'levels', '[]'::jsonb)
    INTO tasks, merged FROM unnest(states) s WHERE s IS NOT NULL;
    IF tasks = 0 THEN
        RETURN NULL;
    ELSIF tasks > 1 THEN
        PERFORM @extschema@._steadytext_raise('22023', 'states of different models or max_tokens cannot be merged');
    END IF;
    RETURN merged || (
        SELECT jsonb_build_object('parts', coalesce(jsonb_agg(p ORDER BY (p -> 'context')::text COLLATE "C", p::text COLLATE "C"), '[]'))
        FROM unnest(states) s, jsonb_array_elements(@extschema@._steadytext_state_parts(s)) p WHERE s IS NOT NULL);
END
$$;

-- One part as a text that is short enough to stand among others.
CREATE FUNCTION @extschema@._steadytext_part_text(task jsonb, room integer, part jsonb) RETURNS text
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_variable
DECLARE
    reached record;
    short text;
BEGIN
    reached := @extschema@._steadytext_levels_top(task, room, part ->> 'pending',
        ARRAY(SELECT l.value FROM jsonb_array_elements_text(part -> 'levels') WITH ORDINALITY l ORDER BY l.ordinality));
    short := @extschema@._steadytext_node_shorten(task, room, reached.body, reached.is_raw);
    RETURN CASE WHEN short = reached.body AND reached.is_raw THEN short
                ELSE @extschema@._steadytext_context_line(part -> 'context') || short END;
END
$$;

-- The answer over everything in a state; null where there is nothing.
CREATE FUNCTION @extschema@._steadytext_state_answer(state jsonb) RETURNS text
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_variable
DECLARE
    task jsonb := state -> 'task';
    room integer := (state ->> 'room')::integer;
    parts jsonb := @extschema@._steadytext_state_parts(state);
    levels text[] := '{}'::text[];
    part jsonb;
    reached record;
BEGIN
    IF state IS NULL OR parts = '[]' THEN
        RETURN NULL;
    ELSIF jsonb_array_length(parts) = 1 THEN
        reached := @extschema@._steadytext_levels_top(task, room, parts -> 0 ->> 'pending', ARRAY(
            SELECT l.value FROM jsonb_array_elements_text(parts -> 0 -> 'levels') WITH ORDINALITY l ORDER BY l.ordinality));
        RETURN @extschema@._steadytext_node_reduce(task, room, reached.body, reached.is_raw, true);
    END IF;
    FOR part IN SELECT p.value FROM jsonb_array_elements(parts) WITH ORDINALITY p ORDER BY p.ordinality LOOP
        levels := @extschema@._steadytext_levels_push(
            task, room, levels, 1, @extschema@._steadytext_part_text(task, room, part));
    END LOOP;
    reached := @extschema@._steadytext_levels_top(task, room, '', levels);
    RETURN @extschema@._steadytext_node_reduce(task, room, reached.body, false, true);
END
$$;
