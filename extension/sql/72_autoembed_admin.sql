-- What an owner asks of a declaration once it is there: to pause, to change it, to embed anew, to drop it.

CREATE FUNCTION @extschema@._steadytext_autoembed_set_state(relation regclass, destination text, wanted text) RETURNS void
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_variable
DECLARE
    d @extschema@.steadytext_autoembeddings;
BEGIN
    d := @extschema@._steadytext_autoembed_find(relation, destination, true);
    IF d.state = 'broken' THEN
        PERFORM @extschema@._steadytext_raise('55000', format('the automatic embedding of %s is broken: %s', relation, d.reason),
            'Change it with steadytext_autoembed_alter(), or drop it.');
    END IF;
    UPDATE @extschema@.steadytext_autoembeddings e SET state = wanted WHERE d.id IN (e.id, e.replaces) AND e.state <> 'broken';
    IF wanted = 'active' AND d.state = 'paused' THEN
        PERFORM @extschema@._steadytext_backfill_requeue(d.id);
    END IF;
    PERFORM @extschema@._steadytext_autoembed_wake();
END
$$;

-- Changes go on being logged while embedding is paused.
CREATE FUNCTION @extschema@.steadytext_autoembed_pause(relation regclass, destination text DEFAULT NULL) RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM @extschema@._steadytext_autoembed_set_state(relation, destination, 'paused');
END
$$;

CREATE FUNCTION @extschema@.steadytext_autoembed_resume(relation regclass, destination text DEFAULT NULL) RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM @extschema@._steadytext_autoembed_set_state(relation, destination, 'active');
END
$$;

CREATE FUNCTION @extschema@._steadytext_autoembed_forget(d @extschema@.steadytext_autoembeddings) RETURNS void
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM @extschema@._steadytext_capture_drop(d);
    DELETE FROM @extschema@._steadytext_autoembed_work w WHERE w.autoembed_id = d.id AND w.worker_id IS NULL;
    DELETE FROM @extschema@.steadytext_autoembeddings e WHERE e.id = d.id;
END
$$;

-- Stop embedding a table. The vectors stay, unless their column is to go too.
CREATE FUNCTION @extschema@.steadytext_autoembed_drop(
    relation regclass, destination text DEFAULT NULL, drop_vectors boolean DEFAULT false
) RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_variable
DECLARE
    d @extschema@.steadytext_autoembeddings;
BEGIN
    d := @extschema@._steadytext_autoembed_find(relation, destination, true);
    IF drop_vectors IS NULL THEN
        PERFORM @extschema@._steadytext_raise('22004', 'drop_vectors cannot be null');
    END IF;
    PERFORM @extschema@._steadytext_reembed_abandon(s) FROM @extschema@.steadytext_autoembeddings s WHERE s.replaces = d.id;
    PERFORM @extschema@._steadytext_reembed_sweep(d, '5s');
    PERFORM @extschema@._steadytext_autoembed_forget(d);
    PERFORM @extschema@._steadytext_as_owner_of(relation, format('DROP INDEX IF EXISTS %1$I.%2$I, %1$I.%3$I', n.nspname,
        @extschema@._steadytext_index_name(d, 'vector'), @extschema@._steadytext_index_name(d, 'words')), NULL, NULL, NULL, '5s')
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.oid = relation;
    IF drop_vectors AND d.chunk_table IS NOT NULL THEN
        PERFORM @extschema@._steadytext_as_owner_of(relation, format('DROP TABLE %s CASCADE',
            @extschema@._steadytext_relation_name(d.chunk_table)), NULL, NULL, NULL, '5s');
    ELSIF drop_vectors THEN
        PERFORM @extschema@._steadytext_as_owner_of(relation, format('ALTER TABLE %s DROP COLUMN %I',
            @extschema@._steadytext_relation_name(relation), a.attname), NULL, NULL, NULL, '5s')
        FROM pg_attribute a WHERE a.attrelid = relation AND a.attnum = d.destination_column AND NOT a.attisdropped;
    END IF;
END
$$;

-- Queue what waits of the backfill as the pace now is, from this moment on. What is tried again keeps its own time, and so does
-- the empty piece that says that somebody else does the backfill.
CREATE FUNCTION @extschema@._steadytext_backfill_requeue(wanted integer) RETURNS void
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_variable
DECLARE
    d @extschema@.steadytext_autoembeddings;
    keys text[];
    noted_at timestamptz;
BEGIN
    FOR d IN SELECT e.* FROM @extschema@.steadytext_autoembeddings e WHERE wanted IN (e.id, e.replaces) LOOP
        WITH waiting AS (
            DELETE FROM @extschema@._steadytext_autoembed_work w
            WHERE w.autoembed_id = d.id AND w.priority = 1 AND w.worker_id IS NULL AND NOT w.failed AND w.attempt = 0 AND w.retry_count = 0
              AND w.keys <> '{}' RETURNING w.id, w.due_at, w.keys, w.noted_at
        )
        SELECT array_agg(k.key ORDER BY w.due_at, w.id, k.place), min(w.noted_at) INTO keys, noted_at
        FROM waiting w, unnest(w.keys) WITH ORDINALITY k (key, place);
        PERFORM @extschema@._steadytext_backfill_queue(d, coalesce(keys, '{}'), noted_at);
    END LOOP;
END
$$;

-- How fast the backfill goes from now on, also with what it has queued; null leaves it as it is.
CREATE FUNCTION @extschema@._steadytext_backfill_pace(wanted integer, rate integer) RETURNS void
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_variable
BEGIN
    IF rate IS NULL THEN
        RETURN;
    END IF;
    UPDATE @extschema@.steadytext_autoembeddings e SET backfill_rate = nullif(rate, 0) WHERE wanted IN (e.id, e.replaces);
    PERFORM @extschema@._steadytext_backfill_requeue(wanted);
END
$$;

-- Embed rows that have no vector, as those of a table that was declared without backfill, or all anew in their place; and
-- say how many rows a second at most. Goes on from where it is if such a backfill is under way.
CREATE FUNCTION @extschema@.steadytext_autoembed_backfill(
    relation regclass, everything boolean DEFAULT false, rate integer DEFAULT NULL, destination text DEFAULT NULL
) RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_variable
DECLARE
    d @extschema@.steadytext_autoembeddings;
BEGIN
    d := @extschema@._steadytext_autoembed_find(relation, destination, true);
    IF everything IS NULL THEN
        PERFORM @extschema@._steadytext_raise('22004', 'everything cannot be null');
    ELSIF rate < 0 THEN
        PERFORM @extschema@._steadytext_raise('22023', 'rate must be rows a second, or 0 for no limit');
    END IF;
    UPDATE @extschema@.steadytext_autoembeddings e
    SET backfill_cursor = NULL, backfill_total = NULL, backfill_queued = 0, backfill_missing = NOT everything, backfill_done = false
    WHERE e.id = d.id AND (e.backfill_done OR everything AND e.backfill_missing);
    PERFORM @extschema@._steadytext_backfill_pace(d.id, rate);
    PERFORM @extschema@._steadytext_autoembed_wake();
END
$$;

-- Change what is embedded, or how. Null leaves as it is; an empty filter takes it away. Where the texts may have become
-- others, all rows are embedded anew; meanwhile each keeps the vector that it has.
CREATE FUNCTION @extschema@.steadytext_autoembed_alter(
    relation regclass, columns text[] DEFAULT NULL, template text DEFAULT NULL, filter text DEFAULT NULL,
    mode text DEFAULT NULL, language text DEFAULT NULL, backfill_rate integer DEFAULT NULL, destination text DEFAULT NULL,
    model text DEFAULT NULL, unsafe_mode boolean DEFAULT false
) RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_variable
DECLARE
    d @extschema@.steadytext_autoembeddings;
    anew boolean;
BEGIN
    d := @extschema@._steadytext_autoembed_find(relation, destination, true);
    anew := num_nonnulls(columns, template, filter) > 0 OR d.state = 'broken';  -- what changed while it was broken was not noted
    IF num_nonnulls(columns, template) > 1 THEN
        PERFORM @extschema@._steadytext_raise('22023', 'columns and template cannot both be given');
    ELSIF backfill_rate < 0 THEN
        PERFORM @extschema@._steadytext_raise('22023', 'backfill_rate must be rows a second, or 0 for no limit');
    END IF;
    d.filter := CASE WHEN filter IS NULL THEN d.filter WHEN filter ~ '[^[:space:]]' THEN filter END;
    IF num_nonnulls(columns, template) = 1 THEN
        d.template := template;
        d.columns := @extschema@._steadytext_source_columns(relation, coalesce(columns, ARRAY(
            SELECT t.column_name FROM @extschema@._steadytext_template_parts(template) t WHERE t.column_name IS NOT NULL ORDER BY t.place)));
        d.column_names := @extschema@._steadytext_column_names(relation, d.columns);
    END IF;
    d.mode := coalesce(mode, d.mode);
    d.language := coalesce(language, d.language);
    PERFORM @extschema@._steadytext_autoembed_check(
        relation, CASE WHEN d.template IS NULL THEN d.column_names END, d.template, d.filter, d.index_kind, d.index_params, d.mode, true, d.language, d.remote);
    PERFORM @extschema@._steadytext_check_expressions(d);
    d.key_columns := @extschema@._steadytext_primary_key(relation);
    UPDATE @extschema@.steadytext_autoembeddings e
    SET columns = d.columns, column_names = d.column_names, template = d.template, filter = d.filter, mode = d.mode, language = d.language,
        key_columns = d.key_columns, key_names = @extschema@._steadytext_column_names(relation, d.key_columns),
        -- a pace, or a model that comes beside this one, changes nothing of what is in work
        version = e.version + (num_nonnulls(columns, template, filter, mode, language) > 0 OR e.state = 'broken'
                               OR e.key_columns <> d.key_columns)::integer,
        state = CASE e.state WHEN 'broken' THEN 'active' ELSE e.state END, reason = NULL,
        backfill_cursor = CASE WHEN anew THEN NULL ELSE e.backfill_cursor END,
        backfill_total = CASE WHEN anew THEN NULL ELSE e.backfill_total END,
        backfill_queued = CASE WHEN anew THEN 0 ELSE e.backfill_queued END,
        backfill_missing = e.backfill_missing AND NOT anew, backfill_done = e.backfill_done AND NOT anew
    WHERE d.id IN (e.id, e.replaces);
    PERFORM @extschema@._steadytext_backfill_pace(d.id, backfill_rate);
    FOR d IN SELECT e.* FROM @extschema@.steadytext_autoembeddings e WHERE d.id IN (e.id, e.replaces) LOOP
        PERFORM @extschema@._steadytext_capture_write(d);
        PERFORM @extschema@._steadytext_capture_attach(d);
    END LOOP;
    IF model IS NOT NULL THEN
        PERFORM @extschema@.steadytext_autoembed_reembed(relation, model, destination, unsafe_mode);
    END IF;
    PERFORM @extschema@._steadytext_autoembed_wake();
END
$$;

-- Embed up to so many pending rows in the caller's own session and transaction: the synchronous mode, and the way to
-- work without a worker. Returns how many were taken up, those that are gone meanwhile among them: 0 says that none is left.
CREATE FUNCTION @extschema@.steadytext_autoembed_run(
    relation regclass, batch_size integer DEFAULT 256, destination text DEFAULT NULL
) RETURNS bigint
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_variable
DECLARE
    d @extschema@.steadytext_autoembeddings;
    mine bigint[];
    given record;
    vectors text[];
    taken bigint;
    version integer;
    too_slow text;
BEGIN
    IF batch_size IS NULL OR batch_size < 1 THEN
        PERFORM @extschema@._steadytext_raise('22023', 'batch_size must be at least 1');
    END IF;
    PERFORM @extschema@._steadytext_check_owner(relation);
    d := @extschema@._steadytext_autoembed_find(relation, destination, false);
    IF d.state = 'broken' THEN
        PERFORM @extschema@._steadytext_raise('55000', format('the automatic embedding of %s is broken: %s', relation, d.reason),
            'Change it with steadytext_autoembed_alter(), or drop it.');
    END IF;
    PERFORM @extschema@._steadytext_autoembed_follow(d.id, true) FROM pg_class c WHERE c.oid = relation AND c.relkind = 'p';
    WHILE @extschema@._steadytext_autoembed_drain(1000) > 0 AND NOT EXISTS (
        SELECT FROM @extschema@._steadytext_autoembed_work w WHERE w.autoembed_id = d.id AND NOT w.failed) LOOP
        NULL;  -- those were other tables'
    END LOOP;
    PERFORM @extschema@._steadytext_autoembed_backfill(d.id)
    WHERE NOT EXISTS (SELECT FROM @extschema@._steadytext_autoembed_work w WHERE w.autoembed_id = d.id AND NOT w.failed);
    mine := ARRAY(
        SELECT t.id FROM (
            SELECT o.id, o.size, sum(o.size) OVER (ORDER BY o.priority DESC, o.due_at, o.id) AS running FROM (
                SELECT w.id, w.priority, w.due_at, cardinality(w.keys) AS size FROM @extschema@._steadytext_autoembed_work w
                WHERE w.autoembed_id = d.id AND w.worker_id IS NULL AND NOT w.failed AND w.due_at <= clock_timestamp()
                ORDER BY w.priority DESC, w.due_at LIMIT batch_size FOR UPDATE SKIP LOCKED) o) t
        WHERE t.running - t.size < batch_size);
    SELECT coalesce(sum(cardinality(w.keys)), 0) INTO taken FROM @extschema@._steadytext_autoembed_work w WHERE w.id = ANY (mine);
    SELECT array_agg(r.key) AS keys, array_agg(w.id) AS works, array_agg(r.words) AS words, array_agg(r.code) AS codes,
           array_agg(r.error) AS errors, min(r.error) FILTER (WHERE r.code = 'ST002') AS too_slow INTO given
    FROM @extschema@._steadytext_autoembed_work w, LATERAL @extschema@._steadytext_autoembed_read(d, w.keys) r
    WHERE w.id = ANY (mine);
    IF given.too_slow IS NOT NULL THEN
        PERFORM @extschema@._steadytext_raise('57014', given.too_slow);
    END IF;
    vectors := @extschema@._steadytext_autoembed_vectors(d, coalesce(given.words, '{}'));
    SELECT e.version INTO version FROM @extschema@.steadytext_autoembeddings e WHERE e.id = d.id;
    PERFORM @extschema@._steadytext_autoembed_finish(
        NULL, d.id, d.version, array_agg(w.id), array_agg(w.attempt), coalesce(given.works, '{}'), coalesce(given.keys, '{}'),
        ARRAY(SELECT encode(sha256(convert_to(t, 'UTF8')), 'hex') FROM unnest(given.words) WITH ORDINALITY u (t, n) ORDER BY n),
        vectors, coalesce(given.codes, '{}'), coalesce(given.errors, '{}'))
    FROM @extschema@._steadytext_autoembed_work w WHERE w.id = ANY (mine) HAVING count(*) > 0;
    SELECT e.reason INTO too_slow FROM @extschema@.steadytext_autoembeddings e WHERE e.id = d.id AND e.state = 'broken' AND e.version > version;
    IF too_slow IS NOT NULL THEN
        PERFORM @extschema@._steadytext_raise('57014', too_slow);
    END IF;
    RETURN taken;
END
$$;

-- Vectors of texts of which some are null, in their order.
CREATE FUNCTION @extschema@._steadytext_autoembed_vectors(d @extschema@.steadytext_autoembeddings, texts text[]) RETURNS text[]
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_variable
DECLARE
    wanted constant text[] := ARRAY(SELECT t FROM unnest(texts) WITH ORDINALITY u (t, n) WHERE t IS NOT NULL ORDER BY n);
    reply json;
    made text[] := '{}'::text[];
BEGIN
    FOR head IN 1 .. cardinality(wanted) BY 256 LOOP
        reply := @extschema@._steadytext_request('embed_batch', jsonb_build_object(
            'model', d.model_name, 'unsafe_mode', d.remote, 'texts', wanted[head : head + 255]));
        made := made || ARRAY(SELECT v FROM json_array_elements_text(reply -> 'embeddings') WITH ORDINALITY a (v, n) ORDER BY n);
    END LOOP;
    RETURN ARRAY(SELECT CASE WHEN t IS NOT NULL THEN made[count(t) OVER (ORDER BY n)] END FROM unnest(texts) WITH ORDINALITY u (t, n) ORDER BY n);
END
$$;
