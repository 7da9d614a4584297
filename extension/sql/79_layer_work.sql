-- What a worker does with a row of a layer's source: read its text and what to ask, ask (with no transaction open), and put
-- what came of it into the destination, if the text is still the same.

CREATE FUNCTION @extschema@._steadytext_layer_text(l @extschema@.steadytext_layers, key text) RETURNS text
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_variable
DECLARE
    found text;
BEGIN
    IF @extschema@._steadytext_column_names(l.source, ARRAY[l.source_column]) = '{}' THEN
        PERFORM @extschema@._steadytext_raise('42703', format('column "%s" of %s, of which %s is made, was dropped', l.source_column_name, l.source, l.destination));
    END IF;
    SELECT r.value INTO found FROM @extschema@._steadytext_as_owner_of(l.source, format(
        'SELECT ($1)[1] AS key, n.%I::pg_catalog.text AS value, NULL::pg_catalog.text AS note FROM %s AS n WHERE (%s) = (%s)',
        (@extschema@._steadytext_column_names(l.source, ARRAY[l.source_column]))[1], @extschema@._steadytext_relation_name(l.source),
        @extschema@._steadytext_key_list(l.source, l.key_columns, 'n'),
        @extschema@._steadytext_key_values(l.source, l.key_columns, '($1)[1]')), ARRAY[key], until => @extschema@._steadytext_owner_until()) r;
    RETURN CASE WHEN found ~ '[^[:space:]]' THEN found END;
END
$$;

CREATE FUNCTION @extschema@._steadytext_text_digest(words text) RETURNS text
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RETURN encode(sha256(convert_to(coalesce(words, ''), 'UTF8')), 'hex');
END
$$;

-- A row's text, and the request that it means for the daemon. Where nothing is asked, the text itself is the answer.
CREATE FUNCTION @extschema@._steadytext_layer_read(
    layer integer, key text, OUT ask text, OUT request jsonb, OUT answer text, OUT digest text
) LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = '2s' AS $$
#variable_conflict use_variable
DECLARE
    l @extschema@.steadytext_layers;
    words text;
BEGIN
    SELECT e.* INTO l FROM @extschema@.steadytext_layers e JOIN pg_class s ON s.oid = e.source JOIN pg_class d ON d.oid = e.destination
    WHERE e.id = layer;
    IF l.id IS NULL THEN
        PERFORM @extschema@._steadytext_raise('P0002', format('there is no layer %s: it, or a table of it, was dropped', layer));
    END IF;
    PERFORM @extschema@._steadytext_layer_fill(l.id);
    words := @extschema@._steadytext_layer_text(l, key);
    digest := @extschema@._steadytext_text_digest(words);
    ask := CASE WHEN words IS NULL THEN 'nothing' ELSE l.ask END;
    IF ask = 'generate' THEN
        request := (@extschema@._steadytext_structured_prepare(
            replace(l.options ->> 'prompt', '{text}', words), 'schema', l.options -> 'schema',
            coalesce((l.options ->> 'max_tokens')::integer, 256), false, 42, false, l.model_name)).request;
    ELSIF ask = 'embed' THEN
        request := jsonb_build_object('texts', ARRAY[words], 'model', l.model_name);
    ELSE
        answer := words;
    END IF;
END
$$;

-- The rows that replace those made of a source's row before. A row without an id is given one by what it says, so that
-- what is said again keeps its row.
CREATE FUNCTION @extschema@._steadytext_layer_replace(l @extschema@.steadytext_layers, key text, made jsonb) RETURNS void
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_variable
DECLARE
    given jsonb;
    columns text[];
BEGIN
    IF jsonb_typeof(made) <> 'array' OR EXISTS (SELECT FROM jsonb_array_elements(made) e WHERE jsonb_typeof(e) <> 'object') THEN
        PERFORM @extschema@._steadytext_raise('22023', format('rows for %s must be a JSON array of objects', l.destination));
    END IF;
    SELECT coalesce(jsonb_agg(e.value || jsonb_build_object('source_id', key, 'id', coalesce(e.value ->> 'id', left(
               @extschema@._steadytext_text_digest(jsonb_build_array(l.id, key, e.value)::text), 32)))), '[]') INTO given
    FROM (SELECT DISTINCT a.value FROM jsonb_array_elements(made) a) e;
    columns := ARRAY(SELECT a.attname::text FROM pg_attribute a WHERE a.attrelid = l.destination AND a.attnum > 0 AND NOT a.attisdropped
                     AND EXISTS (SELECT FROM jsonb_array_elements(given) e WHERE e ? a.attname) ORDER BY a.attnum);
    PERFORM @extschema@._steadytext_as_owner_of(l.destination, format($f$
        WITH steadytext_gone AS (
            DELETE FROM %1$s AS d WHERE d.source_id = ($1)[1] AND NOT EXISTS (
                SELECT FROM pg_catalog.jsonb_array_elements(($2)[1]::pg_catalog.jsonb) e WHERE e ->> 'id' = d.id)
        ), steadytext_put AS (
            INSERT INTO %1$s (%2$s) SELECT %3$s
            FROM pg_catalog.jsonb_populate_recordset(NULL::%1$s, ($2)[1]::pg_catalog.jsonb) AS p ON CONFLICT (id) DO NOTHING
        ) SELECT NULL::pg_catalog.text AS key, NULL::pg_catalog.text AS value, NULL::pg_catalog.text AS note$f$,
        @extschema@._steadytext_relation_name(l.destination),
        CASE WHEN given = '[]' THEN 'id, source_id' ELSE (SELECT string_agg(quote_ident(c), ', ') FROM unnest(columns) c) END,
        CASE WHEN given = '[]' THEN 'p.id, p.source_id' ELSE (SELECT string_agg(format('p.%I', c), ', ') FROM unnest(columns) c) END),
        ARRAY[key], ARRAY[given::text], NULL, '2s', @extschema@._steadytext_owner_until());
END
$$;

-- Put an answer into the destination: 'written', or 'changed' where the text is another one by now. Two who do it for the
-- same row come one after the other; a worker waits for nobody who has changed the row and does not commit.
CREATE FUNCTION @extschema@._steadytext_layer_put(layer integer, key text, digest text, answer text, request uuid) RETURNS text
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = '2s' AS $$
#variable_conflict use_variable
DECLARE
    l @extschema@.steadytext_layers;
    made text := answer;
BEGIN
    SELECT e.* INTO l FROM @extschema@.steadytext_layers e WHERE e.id = layer;
    PERFORM FROM @extschema@._steadytext_layer_rows r WHERE r.layer_id = layer AND r.key = key FOR UPDATE;
    IF NOT FOUND OR @extschema@._steadytext_text_digest(@extschema@._steadytext_layer_text(l, key)) <> digest THEN
        UPDATE @extschema@._steadytext_layer_rows r SET state = 'pending', request_id = NULL
        WHERE r.layer_id = layer AND r.key = key AND r.request_id IS NOT DISTINCT FROM request;
        PERFORM @extschema@._steadytext_layer_fill(layer);
        RETURN 'changed';
    END IF;
    IF answer IS NULL THEN
        PERFORM @extschema@._steadytext_layer_replace(l, key, '[]');
    ELSE
        IF l.function IS NOT NULL THEN
            SELECT r.value INTO made FROM @extschema@._steadytext_as_owner_of(l.destination, format(
                'SELECT NULL::pg_catalog.text AS key, %s(($1)[1], ($1)[2])::pg_catalog.text AS value, NULL::pg_catalog.text AS note',
                (SELECT format('%I.%I', n.nspname, p.proname) FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace WHERE p.oid = l.function)),
                ARRAY[key, answer], NULL, NULL, '2s', @extschema@._steadytext_owner_until()) r;
        END IF;
        IF made IS NOT NULL THEN
            PERFORM @extschema@._steadytext_layer_replace(l, key, CASE WHEN l.function IS NULL AND l.options ? 'rows'
                THEN made::jsonb -> (l.options ->> 'rows') ELSE made::jsonb END);
        END IF;
    END IF;
    UPDATE @extschema@._steadytext_layer_rows r SET state = 'completed', digest = digest, request_id = NULL, error = NULL
    WHERE r.layer_id = layer AND r.key = key AND r.request_id IS NOT DISTINCT FROM request;
    DELETE FROM @extschema@._steadytext_layer_rows r
    WHERE answer IS NULL AND r.layer_id = layer AND r.key = key AND r.state = 'completed' AND NOT EXISTS (
        SELECT FROM @extschema@._steadytext_as_owner_of(l.source, format(
            'SELECT ($1)[1] AS key, NULL::pg_catalog.text AS value, NULL::pg_catalog.text AS note FROM %s AS n WHERE (%s) = (%s)',
            @extschema@._steadytext_relation_name(l.source), @extschema@._steadytext_key_list(l.source, l.key_columns, 'n'),
            @extschema@._steadytext_key_values(l.source, l.key_columns, '($1)[1]')), ARRAY[key]));
    RETURN 'written';
END
$$;

-- What the daemon says to a request of a layer.
CREATE FUNCTION @extschema@._steadytext_layer_ask(ask text, request jsonb) RETURNS text
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RETURN CASE ask WHEN 'generate' THEN @extschema@._steadytext_request('generate', request) ->> 'text'
                    ELSE @extschema@._steadytext_request('embed_batch', request) #>> '{embeddings,0}' END;
END
$$;

-- The synchronous way: work on a layer's waiting rows in this call. Returns how many were worked on; what fails is listed.
CREATE FUNCTION @extschema@.steadytext_layer_run(destination regclass, batch_size integer DEFAULT 100) RETURNS bigint
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_variable
DECLARE
    l @extschema@.steadytext_layers := @extschema@._steadytext_layer_find(destination);
    waiting record;
    told record;
    message text;
    done bigint := 0;
BEGIN
    IF batch_size IS NULL OR batch_size < 1 THEN
        PERFORM @extschema@._steadytext_raise('22023', 'batch_size must be at least 1');
    END IF;
    FOR waiting IN SELECT r.key, r.request_id FROM @extschema@._steadytext_layer_rows r
                   LEFT JOIN @extschema@.steadytext_queue q ON q.request_id = r.request_id
                   WHERE r.layer_id = l.id AND (r.state = 'pending' OR r.state = 'queued' AND q.status = 'pending')
                   ORDER BY r.changed_at, r.key LIMIT batch_size FOR UPDATE OF r SKIP LOCKED LOOP
        UPDATE @extschema@.steadytext_queue q SET status = 'cancelled', completed_at = clock_timestamp()
        WHERE q.request_id = waiting.request_id AND q.status = 'pending';
        CONTINUE WHEN waiting.request_id IS NOT NULL AND NOT FOUND;
        -- nobody sees this before it is true: it keeps what reads the row from queueing it
        UPDATE @extschema@._steadytext_layer_rows r SET state = 'completed', request_id = NULL, error = NULL WHERE r.layer_id = l.id AND r.key = waiting.key;
        BEGIN
            told := @extschema@._steadytext_layer_read(l.id, waiting.key);
            IF told.ask <> 'nothing' THEN
                told.answer := @extschema@._steadytext_layer_ask(told.ask, told.request);
            END IF;
            PERFORM @extschema@._steadytext_layer_put(l.id, waiting.key, told.digest, told.answer, NULL);
        EXCEPTION WHEN data_exception OR integrity_constraint_violation OR syntax_error_or_access_rule_violation OR raise_exception OR SQLSTATE 'ST002' THEN
            GET STACKED DIAGNOSTICS message = MESSAGE_TEXT;
            UPDATE @extschema@._steadytext_layer_rows r SET state = 'failed', error = message, request_id = NULL
            WHERE r.layer_id = l.id AND r.key = waiting.key;
        END;
        done := done + 1;
    END LOOP;
    RETURN done;
END
$$;
