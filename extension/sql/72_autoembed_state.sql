-- What an owner may know of a declaration: how far it is, what waits or has failed, when it is done.

-- Keys that wait, are in work or have failed. The log is read as it is: a key that changed twice counts twice there.
CREATE FUNCTION @extschema@._steadytext_autoembed_counts(
    wanted integer, OUT pending bigint, OUT processing bigint, OUT failed bigint
) LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    SELECT coalesce(sum(cardinality(w.keys)) FILTER (WHERE w.worker_id IS NULL AND NOT w.failed), 0)
               + (SELECT coalesce(sum(cardinality(l.keys)), 0) FROM @extschema@._steadytext_autoembed_log l WHERE l.autoembed_id = wanted),
           coalesce(sum(cardinality(w.keys)) FILTER (WHERE w.worker_id IS NOT NULL), 0),
           coalesce(sum(cardinality(w.keys)) FILTER (WHERE w.failed), 0)
    INTO pending, processing, failed
    FROM @extschema@._steadytext_autoembed_work w WHERE w.autoembed_id = wanted;
END
$$;

-- How many rows there are, and how many have a vector: a full scan, by an index of the latter where there is one.
CREATE FUNCTION @extschema@._steadytext_autoembed_totals(d @extschema@.steadytext_autoembeddings, OUT total bigint, OUT embedded bigint)
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_variable
BEGIN
    SELECT r.key::bigint, r.value::bigint INTO total, embedded FROM @extschema@._steadytext_as_owner_of(d.relation, format(
        'SELECT count(*)::text AS key, (count(*) FILTER (WHERE NOT (%s)))::text AS value, NULL::text AS note FROM %s',
        @extschema@._steadytext_missing_condition(d, @extschema@._steadytext_relation_name(d.relation)),
        @extschema@._steadytext_relation_name(d.relation))) r;
EXCEPTION WHEN OTHERS THEN
    total := NULL;
    embedded := NULL;
END
$$;

CREATE FUNCTION @extschema@.steadytext_autoembed_status(
    relation regclass DEFAULT NULL,
    OUT id integer, OUT table_name text, OUT destination name, OUT model text, OUT state text, OUT reason text,
    OUT total bigint, OUT embedded bigint, OUT pending bigint, OUT processing bigint, OUT failed bigint,
    OUT backfill text, OUT rate double precision, OUT estimated_end timestamptz, OUT index_state text,
    OUT backfill_rows bigint, OUT backfill_total bigint, OUT backfill_rate integer, OUT replaces name, OUT outdated boolean
) RETURNS SETOF record
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
    wanted constant regclass := $1;
    d @extschema@.steadytext_autoembeddings;
BEGIN
    FOR d IN SELECT e.* FROM @extschema@.steadytext_autoembeddings e JOIN pg_class c ON c.oid = e.relation
             WHERE (wanted IS NULL OR e.relation = wanted)
               AND (pg_has_role(@extschema@._steadytext_caller(), c.relowner, 'USAGE') OR @extschema@._steadytext_caller_is('steadytext_admin'))
             ORDER BY e.id LOOP
        PERFORM @extschema@._steadytext_autoembed_gone(d);
        SELECT t.total, t.embedded INTO total, embedded FROM @extschema@._steadytext_autoembed_totals(d) t;
        -- the count may have waited while other vectors came in the place of these: then it is counted where they are now
        SELECT e.* INTO d FROM @extschema@.steadytext_autoembeddings e WHERE e.id = d.id;
        CONTINUE WHEN NOT FOUND;
        IF total IS NULL THEN
            SELECT t.total, t.embedded INTO total, embedded FROM @extschema@._steadytext_autoembed_totals(d) t;
        END IF;
        SELECT c.pending, c.processing, c.failed INTO pending, processing, failed FROM @extschema@._steadytext_autoembed_counts(d.id) c;
        id := d.id;
        table_name := @extschema@._steadytext_relation_name(d.relation);
        destination := d.destination;
        model := d.model_name;
        state := d.state;
        backfill := CASE WHEN d.backfill_done THEN 'done' ELSE 'running' END;
        backfill_rate := d.backfill_rate;
        backfill_rows := d.backfill_queued - (
            SELECT coalesce(sum(cardinality(w.keys)), 0) FROM @extschema@._steadytext_autoembed_work w
            WHERE w.autoembed_id = d.id AND w.priority = 1 AND NOT w.failed);
        backfill_total := CASE WHEN d.backfill_done THEN d.backfill_queued ELSE greatest(coalesce(d.backfill_total, total), d.backfill_queued) END;
        replaces := (SELECT o.destination FROM @extschema@.steadytext_autoembeddings o WHERE o.id = d.replaces);
        -- the vectors are of other weights than the model now has
        outdated := coalesce((SELECT m.digest <> d.model_digest FROM @extschema@.steadytext_models m WHERE m.name = d.model_name), false);
        reason := CASE WHEN outdated AND d.reason IS NULL AND d.replaces IS NULL
            THEN format('the file of %s has changed since the table was embedded: steadytext_autoembed_reembed() embeds it anew', d.model_name)
            ELSE d.reason END;
        rate := coalesce(d.rate * exp(-least(1000, greatest(0, extract(epoch FROM clock_timestamp() - d.rated_at))) / 30), 0);
        estimated_end := CASE WHEN pending + processing = 0 AND d.backfill_done THEN NULL WHEN rate > 0.01
            THEN clock_timestamp() + make_interval(secs => least(1e9,
                (pending + processing + CASE WHEN d.backfill_done THEN 0 ELSE backfill_total - d.backfill_queued END) / rate)) END;
        index_state := d.index_state;
        RETURN NEXT;
    END LOOP;
    IF id IS NULL AND wanted IS NOT NULL THEN
        PERFORM @extschema@._steadytext_autoembed_find(wanted, NULL, true);
    END IF;
END
$$;

-- Wait until nothing of a table is pending or in work; false when that takes longer. What this transaction itself has
-- changed cannot be waited for: nobody else sees it before it commits.
CREATE FUNCTION @extschema@.steadytext_autoembed_wait(
    relation regclass, timeout_seconds double precision DEFAULT 30, destination text DEFAULT NULL
) RETURNS boolean
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_variable
DECLARE
    give_up constant timestamptz := clock_timestamp() + make_interval(secs => timeout_seconds);
    pause double precision := 0.005;
    done boolean;
BEGIN
    IF timeout_seconds IS NULL THEN
        PERFORM @extschema@._steadytext_raise('22004', 'timeout_seconds cannot be null');
    END IF;
    PERFORM @extschema@._steadytext_autoembed_find(relation, destination, false);
    PERFORM @extschema@._steadytext_check_owner(relation);
    LOOP
        SELECT bool_and(d.backfill_done AND c.pending + c.processing = 0 AND d.replaces IS NULL) INTO done
        FROM @extschema@.steadytext_autoembeddings d, LATERAL @extschema@._steadytext_autoembed_counts(d.id) c
        WHERE d.relation = relation AND (destination IS NULL OR d.destination = destination
              OR d.replaces = (SELECT e.id FROM @extschema@.steadytext_autoembeddings e WHERE e.relation = relation AND e.destination = destination));
        IF done THEN
            RETURN true;
        ELSIF clock_timestamp() >= give_up THEN
            RETURN false;
        END IF;
        PERFORM pg_sleep(least(pause, greatest(0, extract(epoch FROM give_up - clock_timestamp()))));
        pause := least(2 * pause, 0.25);
    END LOOP;
END
$$;

-- Failed work whose rows are gone, chunks and all, is over; returns which it was, where it cannot be deleted too.
CREATE FUNCTION @extschema@._steadytext_autoembed_gone(d @extschema@.steadytext_autoembeddings) RETURNS bigint[]
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_variable
DECLARE
    keys constant text[] := ARRAY(SELECT k FROM @extschema@._steadytext_autoembed_work w, unnest(w.keys) k
                                  WHERE w.autoembed_id = d.id AND w.failed);
    there text[];
    gone bigint[];
BEGIN
    IF cardinality(keys) = 0 OR d.state = 'broken' THEN
        RETURN '{}'::bigint[];
    END IF;
    there := ARRAY(SELECT r.key FROM @extschema@._steadytext_as_owner_of(d.relation, @extschema@._steadytext_exists_statement(d), keys) r);
    IF d.chunk_table IS NOT NULL THEN
        there := there || ARRAY(SELECT r.key FROM @extschema@._steadytext_as_owner_of(d.relation, @extschema@._steadytext_orphans_statement(
            d, 'SELECT DISTINCT l.steadytext_key AS key, NULL::pg_catalog.text AS value, NULL::pg_catalog.text AS note FROM {chunks} AS c,', ''), keys) r);
    END IF;
    gone := ARRAY(SELECT w.id FROM @extschema@._steadytext_autoembed_work w
                  WHERE w.autoembed_id = d.id AND w.failed AND NOT w.keys && there);
    IF cardinality(gone) > 0 AND @extschema@._steadytext_writable() THEN
        DELETE FROM @extschema@._steadytext_autoembed_work w WHERE w.id = ANY (gone) AND w.failed;
    END IF;
    RETURN gone;
EXCEPTION WHEN OTHERS THEN
    RETURN '{}'::bigint[];  -- somebody changes the table, or it cannot be read: it is seen the next time
END
$$;

-- Rows that could not be embedded and are not tried again by themselves. What is gone meanwhile is forgotten.
CREATE FUNCTION @extschema@.steadytext_autoembed_failures(
    relation regclass, destination text DEFAULT NULL,
    OUT key text, OUT code text, OUT error text, OUT retry_count integer, OUT last_retry_at timestamptz
) RETURNS SETOF record
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
    d @extschema@.steadytext_autoembeddings;
    gone bigint[];
BEGIN
    PERFORM @extschema@._steadytext_check_owner($1);
    d := @extschema@._steadytext_autoembed_find($1, $2, false);
    gone := @extschema@._steadytext_autoembed_gone(d);
    RETURN QUERY SELECT k.key, w.code, w.error, w.retry_count, w.last_retry_at
    FROM @extschema@._steadytext_autoembed_work w, unnest(w.keys) k (key)
    WHERE w.autoembed_id = d.id AND w.failed AND w.id <> ALL (gone) ORDER BY w.id;
END
$$;

-- One row's state: pending, processing, failed, or completed, which is also the state of one that is not known.
CREATE FUNCTION @extschema@.steadytext_autoembed_row_status(
    relation regclass, key text, destination text DEFAULT NULL,
    OUT retry_status text, OUT retry_count integer, OUT max_retries integer, OUT last_retry_at timestamptz, OUT error text
) LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
    d @extschema@.steadytext_autoembeddings;
BEGIN
    PERFORM @extschema@._steadytext_check_owner($1);
    d := @extschema@._steadytext_autoembed_find($1, $3, false);
    SELECT CASE WHEN w.failed THEN 'failed' WHEN w.worker_id IS NOT NULL THEN 'processing' ELSE 'pending' END, w.retry_count, w.last_retry_at, w.error
    INTO retry_status, retry_count, last_retry_at, error
    FROM @extschema@._steadytext_autoembed_work w WHERE w.autoembed_id = d.id AND $2 = ANY (w.keys) ORDER BY w.failed, w.id LIMIT 1;
    IF EXISTS (SELECT FROM @extschema@._steadytext_autoembed_log l WHERE l.autoembed_id = d.id AND $2 = ANY (l.keys)) THEN
        retry_status := 'pending';
    END IF;
    retry_status := coalesce(retry_status, 'completed');
    retry_count := coalesce(retry_count, 0);
    max_retries := (SELECT s.queue_max_retries FROM @extschema@._steadytext_settings s);
END
$$;

-- Try all that has failed once more; returns how many rows.
CREATE FUNCTION @extschema@.steadytext_autoembed_retry(relation regclass, destination text DEFAULT NULL) RETURNS bigint
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_variable
DECLARE
    d @extschema@.steadytext_autoembeddings;
    rows bigint;
BEGIN
    PERFORM @extschema@._steadytext_check_owner(relation);
    d := @extschema@._steadytext_autoembed_find(relation, destination, false);
    PERFORM @extschema@._steadytext_autoembed_gone(d);
    WITH again AS (
        UPDATE @extschema@._steadytext_autoembed_work w
        SET failed = false, attempt = 0, retry_count = 0, due_at = clock_timestamp(), code = NULL, error = NULL
        WHERE w.autoembed_id = d.id AND w.failed RETURNING cardinality(w.keys) AS size
    ) SELECT coalesce(sum(a.size), 0) INTO rows FROM again a;
    PERFORM @extschema@._steadytext_autoembed_wake();
    RETURN rows;
END
$$;
