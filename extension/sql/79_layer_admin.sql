-- Seeing layers and tending them; and a search over several embedded tables.

-- The layer that a table is. Only its owner, and administrators, tend it.
CREATE FUNCTION @extschema@._steadytext_layer_find(destination regclass) RETURNS @extschema@.steadytext_layers
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_variable
DECLARE
    found @extschema@.steadytext_layers;
BEGIN
    IF destination IS NULL THEN
        PERFORM @extschema@._steadytext_raise('22004', 'destination cannot be null');
    END IF;
    PERFORM @extschema@._steadytext_check_owner(destination);
    SELECT e.* INTO found FROM @extschema@.steadytext_layers e WHERE e.destination = destination;
    IF found.id IS NULL THEN
        PERFORM @extschema@._steadytext_raise('P0002', format('table %s is no layer', destination), 'Declare it with steadytext_layer().');
    END IF;
    RETURN found;
END
$$;

-- Each row of a layer's source that has been noted, with its state.
CREATE FUNCTION @extschema@._steadytext_layer_states(layer integer)
RETURNS TABLE (key text, state text, retry_count integer, last_retry_at timestamptz, error text)
LANGUAGE sql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
    SELECT r.key, CASE WHEN r.state <> 'queued' THEN r.state
                       WHEN q.status IN ('pending', 'processing') THEN q.status ELSE 'failed' END,
           coalesce(q.retry_count, 0), CASE WHEN q.retry_count > 0 THEN q.started_at END, coalesce(r.error, q.error)
    FROM @extschema@._steadytext_layer_rows r LEFT JOIN @extschema@.steadytext_queue q ON q.request_id = r.request_id
    WHERE r.layer_id = $1
$$;

CREATE FUNCTION @extschema@.steadytext_layer_status(
    destination regclass DEFAULT NULL,
    OUT layer text, OUT source text, OUT ask text, OUT model text, OUT total bigint, OUT completed bigint, OUT pending bigint,
    OUT processing bigint, OUT failed bigint
) RETURNS SETOF record
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
BEGIN
    IF $1 IS NOT NULL THEN
        PERFORM @extschema@._steadytext_layer_find($1);
    END IF;
    RETURN QUERY
    SELECT @extschema@._steadytext_relation_name(l.destination), @extschema@._steadytext_relation_name(l.source), l.ask, l.model_name,
           count(s.key), count(*) FILTER (WHERE s.state = 'completed'), count(*) FILTER (WHERE s.state = 'pending'),
           count(*) FILTER (WHERE s.state = 'processing'), count(*) FILTER (WHERE s.state = 'failed')
    FROM @extschema@.steadytext_layers l JOIN pg_class c ON c.oid = l.destination
    LEFT JOIN LATERAL @extschema@._steadytext_layer_states(l.id) s ON true
    WHERE ($1 IS NULL OR l.destination = $1)
      AND (pg_has_role(@extschema@._steadytext_caller(), c.relowner, 'USAGE') OR @extschema@._steadytext_caller_is('steadytext_admin'))
    GROUP BY l.id, l.destination, l.source, l.ask, l.model_name ORDER BY l.id;
END
$$;

CREATE FUNCTION @extschema@.steadytext_layer_row_status(
    destination regclass, key text,
    OUT retry_status text, OUT retry_count integer, OUT max_retries integer, OUT last_retry_at timestamptz, OUT error text
) LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
    l @extschema@.steadytext_layers := @extschema@._steadytext_layer_find($1);
BEGIN
    SELECT s.state, s.retry_count, s.last_retry_at, s.error INTO retry_status, retry_count, last_retry_at, error
    FROM @extschema@._steadytext_layer_states(l.id) s WHERE s.key = $2;
    max_retries := (SELECT s.queue_max_retries FROM @extschema@._steadytext_settings s);
END
$$;

CREATE FUNCTION @extschema@.steadytext_layer_failures(
    destination regclass, OUT key text, OUT error text, OUT retry_count integer, OUT last_retry_at timestamptz
) RETURNS SETOF record
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
    l @extschema@.steadytext_layers := @extschema@._steadytext_layer_find($1);
BEGIN
    RETURN QUERY SELECT s.key, s.error, s.retry_count, s.last_retry_at
    FROM @extschema@._steadytext_layer_states(l.id) s WHERE s.state = 'failed' ORDER BY s.key;
END
$$;

-- Have the failed rows worked on again; returns how many.
CREATE FUNCTION @extschema@.steadytext_layer_retry(destination regclass) RETURNS bigint
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_variable
DECLARE
    l @extschema@.steadytext_layers := @extschema@._steadytext_layer_find(destination);
    again bigint;
BEGIN
    UPDATE @extschema@._steadytext_layer_rows r SET state = 'pending', request_id = NULL, error = NULL, changed_at = clock_timestamp()
    WHERE r.layer_id = l.id AND r.key IN (SELECT s.key FROM @extschema@._steadytext_layer_states(l.id) s WHERE s.state = 'failed');
    GET DIAGNOSTICS again = ROW_COUNT;
    PERFORM @extschema@._steadytext_layer_fill(l.id);
    RETURN again;
END
$$;

-- Wait until these rows of the source, or all, are completed or failed in a layer; false when that takes longer. Call it in
-- a transaction of its own.
CREATE FUNCTION @extschema@.steadytext_layer_wait(
    destination regclass, keys text[] DEFAULT NULL, timeout_seconds double precision DEFAULT 30
) RETURNS boolean
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_variable
DECLARE
    l @extschema@.steadytext_layers := @extschema@._steadytext_layer_find(destination);
    give_up timestamptz;
    pause double precision := 0.005;
BEGIN
    IF timeout_seconds IS NULL THEN
        PERFORM @extschema@._steadytext_raise('22004', 'timeout_seconds cannot be null');
    END IF;
    give_up := clock_timestamp() + make_interval(secs => timeout_seconds);
    WHILE EXISTS (SELECT FROM @extschema@._steadytext_layer_states(l.id) s
                  WHERE s.state IN ('pending', 'processing') AND (keys IS NULL OR s.key = ANY (keys))) LOOP
        IF clock_timestamp() >= give_up THEN
            RETURN false;
        END IF;
        PERFORM pg_sleep(least(pause, greatest(0, extract(epoch FROM give_up - clock_timestamp()))));
        pause := least(2 * pause, 0.25);
    END LOOP;
    RETURN true;
END
$$;

-- Take a layer's triggers off its source, withdraw what is queued of it, and forget it.
CREATE FUNCTION @extschema@._steadytext_layer_forget(l @extschema@.steadytext_layers) RETURNS void
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_variable
DECLARE
    name text;
BEGIN
    FOR name IN SELECT t.tgname FROM pg_trigger t WHERE t.tgrelid = l.source AND NOT t.tgisinternal
                AND t.tgname ~ format('^steadytext_layer_%s_(insert|update|delete|truncate)$', l.id) LOOP
        EXECUTE format('DROP TRIGGER %I ON %s', name, @extschema@._steadytext_relation_name(l.source));
    END LOOP;
    UPDATE @extschema@.steadytext_queue q SET status = 'cancelled', completed_at = clock_timestamp()
    FROM @extschema@._steadytext_layer_rows r WHERE r.layer_id = l.id AND r.request_id = q.request_id AND q.status = 'pending';
    DELETE FROM @extschema@.steadytext_layers e WHERE e.id = l.id;
END
$$;

-- Bring layers into line with their tables: one that lost a table is forgotten, a renamed column is followed. Everybody's
-- commands come here, and none waits for what somebody else has locked: then it is done the next time.
CREATE FUNCTION @extschema@._steadytext_layers_follow() RETURNS void
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp SET lock_timeout = '100ms' AS $$
DECLARE
    l @extschema@.steadytext_layers;
BEGIN
    FOR l IN SELECT e.* FROM @extschema@.steadytext_layers e
             WHERE NOT EXISTS (SELECT FROM pg_class c WHERE c.oid = e.source) OR NOT EXISTS (SELECT FROM pg_class c WHERE c.oid = e.destination)
    LOOP
        PERFORM @extschema@._steadytext_layer_forget(l);
    END LOOP;
    UPDATE @extschema@.steadytext_layers e
    SET source_column = n.numbers[1], key_columns = n.numbers[2 :],
        source_column_name = coalesce((@extschema@._steadytext_column_names(e.source, n.numbers[1 : 1]))[1], e.source_column_name),
        key_names = CASE cardinality(@extschema@._steadytext_column_names(e.source, n.numbers[2 :]))
            WHEN cardinality(e.key_names) THEN @extschema@._steadytext_column_names(e.source, n.numbers[2 :]) ELSE e.key_names END
    FROM (SELECT f.id, @extschema@._steadytext_renumbered(f.source, f.source_column || f.key_columns, f.source_column_name || f.key_names) AS numbers
          FROM @extschema@.steadytext_layers f) n
    WHERE n.id = e.id AND @extschema@._steadytext_column_names(e.source, e.source_column || e.key_columns)
          IS DISTINCT FROM e.source_column_name || e.key_names;
EXCEPTION WHEN lock_not_available THEN
    NULL;
END
$$;

-- As for declarations: a layer that is restored has its table's new numbers from the first.
CREATE FUNCTION @extschema@._steadytext_layer_restored() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    NEW.source_column := (@extschema@._steadytext_renumbered(NEW.source, ARRAY[NEW.source_column], ARRAY[NEW.source_column_name]))[1];
    NEW.key_columns := @extschema@._steadytext_renumbered(NEW.source, NEW.key_columns, NEW.key_names);
    RETURN NEW;
END
$$;
CREATE TRIGGER _steadytext_layer_restored BEFORE INSERT ON @extschema@.steadytext_layers
    FOR EACH ROW EXECUTE FUNCTION @extschema@._steadytext_layer_restored();

-- Forget a layer; the destination keeps its rows.
CREATE FUNCTION @extschema@.steadytext_layer_drop(destination regclass) RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_variable
BEGIN
    PERFORM @extschema@._steadytext_layer_forget(@extschema@._steadytext_layer_find(destination));
END
$$;

CREATE FUNCTION @extschema@._steadytext_search_relations(relations regclass[]) RETURNS SETOF regclass
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF relations IS NULL OR EXISTS (SELECT FROM unnest(relations) r WHERE r IS NULL) THEN
        PERFORM @extschema@._steadytext_raise('22004', CASE WHEN relations IS NULL THEN 'relations cannot be null' ELSE 'relations cannot contain null' END);
    ELSIF cardinality(relations) = 0 THEN
        PERFORM @extschema@._steadytext_raise('22023', 'relations cannot be empty');
    END IF;
    RETURN QUERY SELECT r FROM unnest(relations) r;
END
$$;

-- The best of several embedded tables, each row with the table that it is from: each table's ranking counts the same, by
-- reciprocal rank fusion (k = 60); of two rows at the same place the more similar one comes first.
CREATE FUNCTION @extschema@.steadytext_search_layers(
    relations regclass[], query text, k integer DEFAULT 10, mode text DEFAULT 'hybrid',
    OUT relation regclass, OUT key jsonb, OUT content text, OUT score double precision, OUT similarity double precision, OUT rank bigint
) RETURNS SETOF record
LANGUAGE sql VOLATILE
BEGIN ATOMIC
    SELECT f.relation, f.key, f.content, (1.0 / (60 + f.place))::double precision, f.similarity, f.place
    FROM (SELECT t.relation, s.key, s.content, s.similarity,
                 pg_catalog.row_number() OVER (PARTITION BY t.relation ORDER BY s.score DESC, s.key::text) AS place
          FROM @extschema@._steadytext_search_relations(relations) t (relation),
               LATERAL @extschema@.steadytext_search(t.relation, query, k, mode, destination => 'embedding') s) f
    ORDER BY 4 DESC, f.similarity DESC NULLS LAST, f.relation::text LIMIT k;
END;
