-- The backfill of one table by many machines: ranges of keys instead of pieces of work, so that nothing is queued that a
-- large table would be too large for. Vectors are written by the rules of the queue's workers.
--
-- Whoever does it holds a ticket: an empty piece of work, due when the lease ends. While it waits, no worker goes on with the
-- backfill and none builds the index; a worker that takes it after the lease has ended finds nothing in it, and goes on.

CREATE FUNCTION @extschema@._steadytext_ranges_begin(
    relation regclass, destination text, lease interval,
    OUT ticket bigint, OUT autoembed integer, OUT version integer, OUT model text, OUT digest text, OUT chunking jsonb
) LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_variable
DECLARE
    d @extschema@.steadytext_autoembeddings;
BEGIN
    d := @extschema@._steadytext_autoembed_find(relation, destination, false);
    SELECT e.* INTO d FROM @extschema@.steadytext_autoembeddings e WHERE e.id = d.id FOR NO KEY UPDATE;
    IF d.state <> 'active' THEN
        PERFORM @extschema@._steadytext_raise('55000', format('the automatic embedding of %s is %s%s', relation, d.state,
            coalesce(': ' || d.reason, '')), 'Resume or alter it first.');
    ELSIF d.remote THEN
        PERFORM @extschema@._steadytext_raise('0A000', format('the embedding model of %s is a remote one: %s', relation, d.model_name),
            'A remote model is as fast by the queue''s workers.');
    ELSIF EXISTS (SELECT FROM @extschema@._steadytext_autoembed_work w
                  WHERE w.autoembed_id = d.id AND w.keys = '{}' AND w.worker_id IS NULL AND w.due_at > clock_timestamp()) THEN
        PERFORM @extschema@._steadytext_raise('55006', format('another backfill of %s is under way', relation),
            'Wait for it; one that was lost is over a minute later.');
    END IF;
    DELETE FROM @extschema@._steadytext_autoembed_work w WHERE w.autoembed_id = d.id AND w.keys = '{}' AND w.worker_id IS NULL;
    INSERT INTO @extschema@._steadytext_autoembed_work (autoembed_id, priority, keys, due_at)
    VALUES (d.id, 1, '{}', clock_timestamp() + lease) RETURNING id INTO ticket;
    UPDATE @extschema@.steadytext_autoembeddings e SET backfill_done = false, backfill_missing = true, backfill_cursor = NULL
    WHERE e.id = d.id AND e.backfill_done;
    autoembed := d.id;
    version := d.version;
    model := d.model_name;
    digest := d.model_digest;
    chunking := d.chunking;
END
$$;

-- The declaration, unless it is no longer the one that was read.
CREATE FUNCTION @extschema@._steadytext_ranges_declaration(autoembed integer, version integer)
RETURNS @extschema@.steadytext_autoembeddings
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_variable
DECLARE
    d @extschema@.steadytext_autoembeddings;
BEGIN
    SELECT e.* INTO d FROM @extschema@.steadytext_autoembeddings e WHERE e.id = autoembed;
    IF d.version IS DISTINCT FROM version OR d.state <> 'active' THEN
        PERFORM @extschema@._steadytext_raise('55000', 'the declaration was changed, paused or dropped during its backfill',
            'Begin again: what is embedded stays.');
    END IF;
    RETURN d;
END
$$;

-- Renew a ticket's lease, and note that everything up to a key is done; null: nothing new is.
CREATE FUNCTION @extschema@._steadytext_ranges_keep(
    ticket bigint, autoembed integer, version integer, lease interval, done_to text
) RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_variable
BEGIN
    PERFORM @extschema@._steadytext_ranges_declaration(autoembed, version);
    UPDATE @extschema@._steadytext_autoembed_work w SET due_at = clock_timestamp() + lease
    WHERE w.id = ticket AND w.autoembed_id = autoembed AND w.keys = '{}' AND w.worker_id IS NULL;
    IF NOT FOUND THEN
        PERFORM @extschema@._steadytext_raise('55000', 'this backfill''s lease has ended, and its workers go on with it',
            'Begin again: what is embedded stays.');
    END IF;
    UPDATE @extschema@.steadytext_autoembeddings e SET backfill_cursor = done_to
    WHERE e.id = autoembed AND e.version = version AND done_to IS NOT NULL;
END
$$;

-- Give the ticket back. A complete backfill is done; what is left of another is the workers'.
CREATE FUNCTION @extschema@._steadytext_ranges_end(ticket bigint, autoembed integer, version integer, complete boolean) RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_variable
BEGIN
    DELETE FROM @extschema@._steadytext_autoembed_work w
    WHERE w.id = ticket AND w.autoembed_id = autoembed AND w.keys = '{}' AND w.worker_id IS NULL;
    UPDATE @extschema@.steadytext_autoembeddings e SET backfill_done = true
    WHERE FOUND AND complete AND e.id = autoembed AND e.version = version;
    PERFORM @extschema@._steadytext_autoembed_wake();
END
$$;

-- What of the table is left to do: after the cursor, and without a vector where others are passed over.
CREATE FUNCTION @extschema@._steadytext_ranges_condition(d @extschema@.steadytext_autoembeddings, after text) RETURNS text
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    source constant text := @extschema@._steadytext_relation_name(d.relation);
BEGIN
    RETURN 'WHERE true'
        || CASE WHEN after IS NULL THEN '' ELSE format(' AND (%s) > (%s)',
               @extschema@._steadytext_key_list(d.relation, d.key_columns, source),
               @extschema@._steadytext_key_values(d.relation, d.key_columns, '($1)[1]')) END
        || CASE WHEN d.backfill_missing THEN ' AND ' || @extschema@._steadytext_missing_condition(d, source) ELSE '' END;
END
$$;

-- Ranges of so many rows, each by the key it begins after (null: the first) and its last key.
CREATE FUNCTION @extschema@._steadytext_ranges_plan(
    autoembed integer, version integer, range_rows integer,
    OUT after_key text, OUT last_key text, OUT rows bigint
) RETURNS SETOF record
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_variable
DECLARE
    d @extschema@.steadytext_autoembeddings;
    source text;
BEGIN
    IF range_rows IS NULL OR range_rows < 1 THEN
        PERFORM @extschema@._steadytext_raise('22023', 'range_rows must be at least 1');
    END IF;
    d := @extschema@._steadytext_ranges_declaration(autoembed, version);
    source := @extschema@._steadytext_relation_name(d.relation);
    RETURN QUERY
    SELECT lag(r.key, 1, d.backfill_cursor) OVER (ORDER BY r.value::bigint), r.key,
           r.value::bigint - lag(r.value::bigint, 1, 0::bigint) OVER (ORDER BY r.value::bigint)
    FROM @extschema@._steadytext_as_owner_of(d.relation, format($f$
        SELECT s.key, s.place::pg_catalog.text AS value, NULL::pg_catalog.text AS note FROM (
            SELECT %1$s AS key, pg_catalog.row_number() OVER w AS place, pg_catalog.lead(true) OVER w IS NULL AS is_last
            FROM %2$s %3$s WINDOW w AS (ORDER BY %4$s)) AS s
        WHERE s.is_last OR s.place OPERATOR(pg_catalog.%%) %5$s::bigint OPERATOR(pg_catalog.=) 0$f$,
        @extschema@._steadytext_key_text(d.relation, d.key_columns, source), source,
        @extschema@._steadytext_ranges_condition(d, d.backfill_cursor),
        @extschema@._steadytext_key_list(d.relation, d.key_columns, source), range_rows), ARRAY[d.backfill_cursor]) r;
END
$$;

-- The texts of a range's rows that are still to be embedded.
CREATE FUNCTION @extschema@._steadytext_range_read(
    autoembed integer, version integer, after_key text, last_key text,
    OUT key text, OUT words text, OUT code text, OUT error text
) RETURNS SETOF record
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_variable
DECLARE
    d @extschema@.steadytext_autoembeddings;
    source text;
BEGIN
    IF last_key IS NULL THEN
        PERFORM @extschema@._steadytext_raise('22004', 'last_key cannot be null');
    END IF;
    d := @extschema@._steadytext_ranges_declaration(autoembed, version);
    source := @extschema@._steadytext_relation_name(d.relation);
    RETURN QUERY SELECT t.* FROM @extschema@._steadytext_autoembed_read(d, ARRAY(
        SELECT r.key FROM @extschema@._steadytext_as_owner_of(d.relation, format(
            'SELECT %1$s AS key, NULL::pg_catalog.text AS value, NULL::pg_catalog.text AS note FROM %2$s %3$s AND (%4$s) <= (%5$s)',
            @extschema@._steadytext_key_text(d.relation, d.key_columns, source), source,
            @extschema@._steadytext_ranges_condition(d, after_key),
            @extschema@._steadytext_key_list(d.relation, d.key_columns, source),
            @extschema@._steadytext_key_values(d.relation, d.key_columns, '($2)[1]')), ARRAY[after_key], ARRAY[last_key]) r)) t;
END
$$;

-- Write what was made of a range, as a worker ends its work: rows that are locked, or that failed, stay as work of their own.
CREATE FUNCTION @extschema@._steadytext_range_write(
    autoembed integer, version integer, keys text[], digests text[], vectors text[], codes text[], errors text[]
) RETURNS bigint
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_variable
DECLARE
    piece bigint;
BEGIN
    PERFORM @extschema@._steadytext_ranges_declaration(autoembed, version);
    IF coalesce(cardinality(keys), 0) = 0 THEN
        RETURN 0;
    END IF;
    INSERT INTO @extschema@._steadytext_autoembed_work (autoembed_id, priority, keys) VALUES (autoembed, 1, keys) RETURNING id INTO piece;
    RETURN @extschema@._steadytext_autoembed_finish(NULL, autoembed, version, ARRAY[piece], ARRAY[0],
        array_fill(piece, ARRAY[cardinality(keys)]), keys, digests, vectors, codes, errors);
END
$$;

GRANT EXECUTE ON FUNCTION
    @extschema@._steadytext_ranges_begin(regclass, text, interval), @extschema@._steadytext_ranges_keep(bigint, integer, integer, interval, text),
    @extschema@._steadytext_ranges_end(bigint, integer, integer, boolean), @extschema@._steadytext_ranges_plan(integer, integer, integer),
    @extschema@._steadytext_range_read(integer, integer, text, text),
    @extschema@._steadytext_range_write(integer, integer, text[], text[], text[], text[], text[])
TO steadytext_worker;
