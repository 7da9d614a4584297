-- Tables change: declarations follow. A renamed table or column is followed by the trigger functions that name it; a
-- dropped table takes its declaration with it; where a column is gone, the declaration is broken and says why, and its
-- triggers do nothing, so that the table stays usable.

-- What keeps a declaration from working, if anything.
CREATE FUNCTION @extschema@._steadytext_autoembed_fault(d @extschema@.steadytext_autoembeddings) RETURNS text
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_variable
DECLARE
    gone text;
BEGIN
    SELECT n.name INTO gone FROM unnest(d.columns, d.column_names) n (number, name)
    WHERE NOT EXISTS (SELECT FROM pg_attribute a WHERE a.attrelid = d.relation AND a.attnum = n.number AND NOT a.attisdropped);
    RETURN CASE
        WHEN gone IS NOT NULL THEN format('column "%s" was dropped', gone)
        WHEN d.chunk_table IS NOT NULL AND @extschema@._steadytext_chunk_keys(d) IS NULL
            THEN format('table "%s", which held the chunks, was dropped or has lost its foreign key', d.destination)
        WHEN d.chunk_table IS NULL AND NOT EXISTS (SELECT FROM pg_attribute a WHERE a.attrelid = d.relation AND a.attnum = d.destination_column AND NOT a.attisdropped)
            THEN format('column "%s", which held the vectors, was dropped', d.destination)
        WHEN NOT EXISTS (SELECT FROM pg_constraint c WHERE c.conrelid = d.relation AND c.contype = 'p' AND c.conkey = d.key_columns)
            THEN 'its primary key has changed'
        WHEN d.filter IS NOT NULL THEN 'its filter cannot be used: ' || @extschema@._steadytext_expressions_refusal(d) END;
END
$$;

-- Numbers of columns that are known by number and name. A renamed column keeps its number; in a restored table the numbers
-- are others, and the names are there.
CREATE FUNCTION @extschema@._steadytext_renumbered(relation regclass, numbers smallint[], names text[]) RETURNS smallint[]
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_variable
BEGIN
    RETURN ARRAY(
        SELECT coalesce((SELECT a.attnum FROM pg_attribute a WHERE a.attrelid = relation AND a.attname = k.name AND NOT a.attisdropped), k.number)
        FROM unnest(numbers, names) WITH ORDINALITY k (number, name, place) ORDER BY k.place);
END
$$;

-- A declaration that is restored has its table's new numbers from the first, and no command needs to find it out.
CREATE FUNCTION @extschema@._steadytext_autoembed_restored() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    NEW.columns := @extschema@._steadytext_renumbered(NEW.relation, NEW.columns, NEW.column_names);
    NEW.key_columns := @extschema@._steadytext_renumbered(NEW.relation, NEW.key_columns, NEW.key_names);
    IF NEW.chunk_table IS NULL THEN
        NEW.destination_column := (@extschema@._steadytext_renumbered(NEW.relation, ARRAY[NEW.destination_column], ARRAY[NEW.destination::text]))[1];
    END IF;
    RETURN NEW;
END
$$;
CREATE TRIGGER _steadytext_autoembed_restored BEFORE INSERT ON @extschema@.steadytext_autoembeddings
    FOR EACH ROW EXECUTE FUNCTION @extschema@._steadytext_autoembed_restored();

-- Whether columns of a declaration's table have other names than it knows.
CREATE FUNCTION @extschema@._steadytext_autoembed_renamed(d @extschema@.steadytext_autoembeddings) RETURNS boolean
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_variable
BEGIN
    RETURN @extschema@._steadytext_column_names(d.relation, d.columns || d.key_columns || d.destination_column)
        IS DISTINCT FROM array_remove(d.column_names || d.key_names || CASE WHEN d.chunk_table IS NULL THEN d.destination::text END, NULL);
END
$$;

-- Queue all rows of partitions that have come to a table: a vector that one brings may be that of another text.
CREATE FUNCTION @extschema@._steadytext_autoembed_admit(d @extschema@.steadytext_autoembeddings, parts regclass[]) RETURNS void
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_variable
DECLARE
    part regclass;
    queued bigint;
BEGIN
    FOREACH part IN ARRAY parts LOOP
        EXECUTE format(
            'WITH q AS (INSERT INTO @extschema@._steadytext_autoembed_work (autoembed_id, priority, keys) '
            'SELECT %s, 1, array_agg(k.key) FROM (SELECT %s AS key, (row_number() OVER () - 1) / 64 AS part FROM ONLY %s AS n) k '
            'GROUP BY k.part RETURNING cardinality(keys) AS size) SELECT coalesce(sum(q.size), 0) FROM q',
            d.id, @extschema@._steadytext_key_text(d.relation, d.key_columns, 'n'), @extschema@._steadytext_relation_name(part)) INTO queued;
        CONTINUE WHEN queued = 0;
        UPDATE @extschema@.steadytext_autoembeddings e
        SET backfill_queued = e.backfill_queued + queued, backfill_total = e.backfill_total + queued WHERE e.id = d.id;
        IF d.backfill_rate IS NOT NULL THEN
            PERFORM @extschema@._steadytext_backfill_requeue(d.id);
        END IF;
        PERFORM @extschema@._steadytext_autoembed_wake();
    END LOOP;
END
$$;

-- Bring a declaration into line with its table. Triggers are put on partitions only where `complete` says so.
CREATE FUNCTION @extschema@._steadytext_autoembed_follow(wanted integer, complete boolean) RETURNS void
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_variable
DECLARE
    d @extschema@.steadytext_autoembeddings;
    fault text;
    event text;
BEGIN
    SELECT e.* INTO d FROM @extschema@.steadytext_autoembeddings e WHERE e.id = wanted FOR NO KEY UPDATE;
    IF NOT EXISTS (SELECT FROM pg_class c WHERE c.oid = d.relation) THEN
        IF d.replaces IS NOT NULL AND EXISTS (SELECT FROM pg_class c WHERE c.oid = d.chunk_table) THEN
            -- chunks of another model that nobody has seen yet: only their foreign key went with the table
            PERFORM @extschema@._steadytext_as_owner_of(d.chunk_table, format('DROP TABLE %s', d.chunk_table), NULL, NULL, NULL, '5s');
        END IF;
        PERFORM @extschema@._steadytext_autoembed_forget(d);
        RETURN;
    END IF;
    UPDATE @extschema@.steadytext_autoembeddings e
    SET columns = @extschema@._steadytext_renumbered(d.relation, d.columns, d.column_names),
        key_columns = @extschema@._steadytext_renumbered(d.relation, d.key_columns, d.key_names),
        destination_column = CASE WHEN d.chunk_table IS NULL
            THEN (@extschema@._steadytext_renumbered(d.relation, ARRAY[d.destination_column], ARRAY[d.destination::text]))[1] END
    WHERE e.id = d.id RETURNING e.* INTO d;
    fault := @extschema@._steadytext_autoembed_fault(d);
    IF fault IS NOT NULL THEN
        UPDATE @extschema@.steadytext_autoembeddings e SET state = 'broken', reason = fault, version = e.version + 1
        WHERE e.id = d.id AND e.state <> 'broken';
        IF FOUND THEN
            FOREACH event IN ARRAY ARRAY['insert', 'update', 'row'] LOOP
                PERFORM @extschema@._steadytext_capture_put(d, event, 'BEGIN RETURN NULL; END');
            END LOOP;
        END IF;
        RETURN;
    END IF;
    UPDATE @extschema@.steadytext_autoembeddings e
    SET relation_name = @extschema@._steadytext_relation_name(d.relation),
        column_names = @extschema@._steadytext_column_names(d.relation, d.columns),
        key_names = @extschema@._steadytext_column_names(d.relation, d.key_columns),
        destination = coalesce((SELECT c.relname FROM pg_class c WHERE c.oid = d.chunk_table),
                               (@extschema@._steadytext_column_names(d.relation, ARRAY[d.destination_column]))[1]),
        state = CASE e.state WHEN 'broken' THEN 'active' ELSE e.state END, reason = NULL,
        -- what changed while it was broken was not noted
        backfill_cursor = CASE e.state WHEN 'broken' THEN NULL ELSE e.backfill_cursor END,
        backfill_missing = e.backfill_missing AND e.state <> 'broken', backfill_done = e.backfill_done AND e.state <> 'broken',
        backfill_total = CASE e.state WHEN 'broken' THEN NULL ELSE e.backfill_total END,
        backfill_queued = CASE e.state WHEN 'broken' THEN 0 ELSE e.backfill_queued END
    WHERE e.id = d.id AND (e.relation_name, e.column_names, e.key_names, e.destination::text, e.state <> 'broken') IS DISTINCT FROM
          (@extschema@._steadytext_relation_name(d.relation), @extschema@._steadytext_column_names(d.relation, d.columns),
           @extschema@._steadytext_column_names(d.relation, d.key_columns),
           coalesce((SELECT c.relname::text FROM pg_class c WHERE c.oid = d.chunk_table),
                    (@extschema@._steadytext_column_names(d.relation, ARRAY[d.destination_column]))[1]), true);
    IF FOUND OR NOT complete THEN
        PERFORM @extschema@._steadytext_capture_write(d);
    END IF;
    IF complete THEN
        PERFORM @extschema@._steadytext_capture_detach(d);
        PERFORM @extschema@._steadytext_autoembed_admit(d, @extschema@._steadytext_capture_attach(d));
    END IF;
END
$$;

-- For a worker, once in a while: what no command told of, as a partition that was attached. What is wrong with one table
-- is told there, and keeps no worker from the others.
CREATE FUNCTION @extschema@._steadytext_autoembed_look_after() RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = '1s' AS $$
DECLARE
    d @extschema@.steadytext_autoembeddings;
    message text;
BEGIN
    PERFORM set_config('steadytext.following', 'on', true);
    DELETE FROM @extschema@._steadytext_autoembed_work w
    WHERE w.worker_id IS NULL AND NOT EXISTS (SELECT FROM @extschema@.steadytext_autoembeddings e WHERE e.id = w.autoembed_id);
    FOR d IN SELECT e.* FROM @extschema@.steadytext_autoembeddings e LOOP
        CONTINUE WHEN EXISTS (SELECT FROM pg_class c WHERE c.oid = d.relation AND c.relkind = 'r')
            AND d.relation_name = @extschema@._steadytext_relation_name(d.relation)
            AND (d.state = 'broken' OR NOT @extschema@._steadytext_autoembed_renamed(d));
        -- to find out whether it does so still would take as long again: its owner is to say
        CONTINUE WHEN d.state = 'broken' AND position('code of the owner of table ' IN d.reason) > 0
            AND EXISTS (SELECT FROM pg_class c WHERE c.oid = d.relation);
        BEGIN
            PERFORM @extschema@._steadytext_autoembed_follow(d.id, true);
        EXCEPTION WHEN lock_not_available OR deadlock_detected THEN
            NULL;  -- the next time
        WHEN OTHERS OR query_canceled OR assert_failure THEN  -- the latter may be raised by the owner's code
            GET STACKED DIAGNOSTICS message = MESSAGE_TEXT;
            PERFORM @extschema@._steadytext_autoembed_break(d.id, SQLSTATE, 'its table cannot be followed: ' || message);
        END;
    END LOOP;
    PERFORM @extschema@._steadytext_layer_fill(l.id) FROM @extschema@.steadytext_layers l
    WHERE EXISTS (SELECT FROM @extschema@._steadytext_layer_rows r WHERE r.layer_id = l.id AND r.state = 'pending');
    PERFORM set_config('steadytext.following', 'off', true);
END
$$;
