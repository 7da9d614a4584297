-- One answer over more text than the model's context holds: texts fill a context, a full context is reduced to a short
-- text, short texts fill the next level's context, and so on up. At any time there is one unfinished context a level,
-- so memory is bounded whatever the number of rows, and each row is read once: the calls are as many as the contexts.
--
-- A state is JSON. What every row needs lies at its top: `pending`, the level that takes the rows, and `metadata`, the
-- last row's. `levels` are the ones above. `parts` are other states that were merged into this one, and wait.

-- A text of up to so many octets is as good as its own summary; a summary has at most half of them.
CREATE FUNCTION @extschema@._steadytext_node_bytes(room integer) RETURNS integer
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RETURN least(1024, room / 4);
END
$$;

-- What a context is asked: the raw texts or what was made of them, for the whole or for a part of it.
CREATE FUNCTION @extschema@._steadytext_node_prompt(task jsonb, body text, is_raw boolean, is_top boolean) RETURNS text
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    wanted text := task ->> 'instruction';
BEGIN
    RETURN CASE
        WHEN wanted IS NULL THEN format(E'Summarize the following %s in one or two sentences:\n\n%s',
            CASE WHEN is_raw THEN 'texts' ELSE 'summaries' END, body)
        ELSE format(E'%s:\n%s\n\n%s', CASE WHEN is_raw THEN 'Texts' ELSE 'Notes' END, body,
            CASE WHEN is_top THEN '' ELSE 'Note briefly what matters here for this task: ' END || wanted) END;
END
$$;

-- How many octets of text a context takes. A token is never shorter than an octet, so what fits by octets fits by tokens
-- in every language; the rest is for the prompt around it, the model's chat template and the answer.
CREATE FUNCTION @extschema@._steadytext_node_room(task jsonb) RETURNS integer
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_variable
DECLARE
    settings @extschema@._steadytext_settings;
    context integer;
    room integer;
BEGIN
    SELECT s.* INTO settings FROM @extschema@._steadytext_settings s;
    context := coalesce((@extschema@._steadytext_model_resolve('generation', task ->> 'model', NULL, NULL, NULL,
        (task ->> 'unsafe_mode')::boolean)).context_length, 8192);
    room := least(context, settings.max_prompt_chars) - 256
        - octet_length(@extschema@._steadytext_node_prompt(task, '', false, false))
        - least(coalesce((task ->> 'max_tokens')::integer, settings.default_max_tokens), context / 4);
    IF room < 1000 THEN
        PERFORM @extschema@._steadytext_raise('22001',
            'the model''s context, or max_prompt_chars, leaves no room for the texts beside the instruction',
            'Shorten the instruction, or use a model with a longer context.');
    END IF;
    RETURN room;
END
$$;

-- Ask the model about one context. An answer below the top is cut to its size, so that the tree always narrows.
CREATE FUNCTION @extschema@._steadytext_node_reduce(task jsonb, room integer, body text, is_raw boolean, is_top boolean)
RETURNS text
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_variable
DECLARE
    prompt text := @extschema@._steadytext_node_prompt(task, body, is_raw, is_top);
    plan record;
    answer text;
BEGIN
    plan := @extschema@._steadytext_generate_prepare(
        prompt, CASE WHEN is_top THEN (task ->> 'max_tokens')::integer ELSE 64 END, true, 42, '[EOS]', task ->> 'model',
        NULL, NULL, NULL, (task ->> 'unsafe_mode')::boolean, false, 0);
    answer := btrim(@extschema@._steadytext_generate_answer(prompt, plan.params, plan.request, plan.cached), E' \t\r\n');
    IF answer = '' THEN
        PERFORM @extschema@._steadytext_raise('58000', 'the model answered with nothing');
    END IF;
    RETURN CASE WHEN is_top THEN answer
                ELSE @extschema@._steadytext_text_head(answer, @extschema@._steadytext_node_bytes(room) / 2) END;
END
$$;

-- As much of a text's beginning as fits, up to the last white space where there is one near the end.
CREATE FUNCTION @extschema@._steadytext_text_head(value text, octets integer) RETURNS text
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    head text := left(value, octets);
    word text;
BEGIN
    WHILE octet_length(head) > octets LOOP
        head := left(head, greatest(1, (length(head)::bigint * octets / octet_length(head))::integer));
    END LOOP;
    IF head = value THEN
        RETURN head;
    END IF;
    word := substring(right(head, 100), '^.*[[:space:]]');
    RETURN CASE WHEN word IS NULL OR length(head) <= 200 THEN head
                ELSE left(head, length(head) - length(right(head, 100)) + length(word)) END;
END
$$;

-- The same, unless the context is as short as an answer.
CREATE FUNCTION @extschema@._steadytext_node_shorten(task jsonb, room integer, body text, is_raw boolean) RETURNS text
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF octet_length(body) <= @extschema@._steadytext_node_bytes(room) THEN
        RETURN body;
    END IF;
    RETURN @extschema@._steadytext_node_reduce(task, room, body, is_raw, false);
END
$$;

-- Put an item on a level (1 is the first above the rows). Where it does not fit, what is there moves up, reduced.
CREATE FUNCTION @extschema@._steadytext_levels_push(task jsonb, room integer, levels text[], level integer, item text)
RETURNS text[]
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_variable
DECLARE
    filled text;
BEGIN
    LOOP
        filled := levels[level];
        IF coalesce(filled, '') = '' THEN
            levels[level] := item;
            RETURN levels;
        ELSIF octet_length(filled) + 1 + octet_length(item) <= room THEN
            levels[level] := filled || E'\n' || item;
            RETURN levels;
        END IF;
        levels[level] := item;
        item := @extschema@._steadytext_node_reduce(task, room, filled, false, false);
        level := level + 1;
    END LOOP;
END
$$;

-- Move everything up until one context holds it. `is_raw`: that context is of the rows themselves.
CREATE FUNCTION @extschema@._steadytext_levels_top(
    task jsonb, room integer, pending text, levels text[], OUT body text, OUT is_raw boolean
) LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_variable
DECLARE
    level integer := 1;
    held text;
BEGIN
    is_raw := cardinality(levels) = 0;
    IF is_raw THEN
        body := pending;
        RETURN;
    ELSIF pending <> '' THEN
        levels := @extschema@._steadytext_levels_push(
            task, room, levels, 1, @extschema@._steadytext_node_shorten(task, room, pending, true));
    END IF;
    WHILE level < cardinality(levels) LOOP
        held := levels[level];
        IF held <> '' THEN
            levels := @extschema@._steadytext_levels_push(
                task, room, levels, level + 1, @extschema@._steadytext_node_shorten(task, room, held, false));
        END IF;
        level := level + 1;
    END LOOP;
    body := levels[cardinality(levels)];
END
$$;

-- The line that tells what the rows after it have in common; nothing for nothing.
CREATE FUNCTION @extschema@._steadytext_context_line(context jsonb) RETURNS text
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RETURN coalesce((SELECT '(' || string_agg(c.key || ': ' || coalesce(c.value, 'null'), ', ' ORDER BY c.key COLLATE "C")
                            || E')\n'
                     FROM jsonb_each_text(context) c), '');
END
$$;
