-- What a worker does with what it has embedded: write the vectors back, note what failed, give back what it cannot do.

-- Write vectors of one declaration: keys that somebody else has locked come back as 'locked', those that could not be
-- written with their error, the written ones as 'written'; of the others the text has changed, or the row is gone. All of
-- it has an end: what is late is so for all keys that are not written.
CREATE FUNCTION @extschema@._steadytext_autoembed_put(
    d @extschema@.steadytext_autoembeddings, keys text[], digests text[], vectors text[], until timestamptz
) RETURNS TABLE (key text, note text, code text, error text)
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_variable
DECLARE
    message text;
BEGIN
    BEGIN
        RETURN QUERY SELECT r.key, r.note, NULL::text, NULL::text FROM @extschema@._steadytext_as_owner_of(
            d.relation, CASE WHEN d.chunk_table IS NULL THEN @extschema@._steadytext_write_statement(d)
                             ELSE @extschema@._steadytext_write_chunks_statement(d) END, keys, digests, vectors, until => until) r;
        RETURN;
    EXCEPTION WHEN lock_not_available OR deadlock_detected THEN
        RETURN QUERY SELECT k, 'locked', NULL::text, NULL::text FROM unnest(keys) k;
        RETURN;
    WHEN OTHERS THEN
        GET STACKED DIAGNOSTICS message = MESSAGE_TEXT;
        IF cardinality(keys) = 1 OR SQLSTATE = 'ST002' THEN
            RETURN QUERY SELECT k, 'failed', SQLSTATE, message FROM unnest(keys) k;
            RETURN;
        END IF;
    END;
    FOR place IN 1 .. cardinality(keys) LOOP
        RETURN QUERY SELECT r.* FROM @extschema@._steadytext_autoembed_put(
            d, keys[place : place], digests[place : place], vectors[place : place], until) r;
    END LOOP;
END
$$;

-- Keep a declaration's columns and tables from changing their names until this transaction ends: between the statement that
-- is written of them and its run, new vectors could come in the place of the old.
CREATE FUNCTION @extschema@._steadytext_autoembed_hold(autoembed integer) RETURNS void
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    relation regclass;
BEGIN
    SELECT e.relation INTO relation FROM @extschema@.steadytext_autoembeddings e
    JOIN pg_class c ON c.oid = e.relation WHERE e.id = autoembed;
    IF relation IS NOT NULL THEN
        EXECUTE format('LOCK TABLE ONLY %s IN ACCESS SHARE MODE', relation);
    END IF;
EXCEPTION WHEN undefined_table THEN
    NULL;  -- dropped this moment, and its declaration with it
END
$$;

-- The same for a worker, whom nobody who locks a table of theirs may keep from the others: false where somebody has it.
CREATE FUNCTION @extschema@._steadytext_autoembed_hold_soon(autoembed integer) RETURNS boolean
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp SET lock_timeout = '500ms' AS $$
BEGIN
    PERFORM @extschema@._steadytext_autoembed_hold(autoembed);
    RETURN true;
EXCEPTION WHEN lock_not_available OR deadlock_detected THEN
    RETURN false;
END
$$;

-- Remove the chunks of keys whose row is gone, or tell what is in the way. A foreign key has done so, but not for what
-- replication applies. They are locked first: a row that comes back meanwhile is seen by the second statement, or
-- its chunks are written after it.
CREATE FUNCTION @extschema@._steadytext_autoembed_sweep(
    d @extschema@.steadytext_autoembeddings, keys text[], until timestamptz, OUT code text, OUT error text
) LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_variable
BEGIN
    IF d.chunk_table IS NULL OR cardinality(keys) = 0 THEN
        RETURN;
    END IF;
    PERFORM @extschema@._steadytext_as_owner_of(d.relation, @extschema@._steadytext_orphans_statement(
        d, 'SELECT NULL::pg_catalog.text AS key, NULL::pg_catalog.text AS value, NULL::pg_catalog.text AS note FROM {chunks} AS c,', 'FOR UPDATE OF c'), keys, until => until);
    PERFORM @extschema@._steadytext_as_owner_of(d.relation, @extschema@._steadytext_orphans_statement(d, 'DELETE FROM {chunks} AS c USING',
        'RETURNING NULL::pg_catalog.text AS key, NULL::pg_catalog.text AS value, NULL::pg_catalog.text AS note'), keys, until => until);
EXCEPTION WHEN OTHERS THEN
    GET STACKED DIAGNOSTICS error = MESSAGE_TEXT;
    code := CASE SQLSTATE WHEN '40P01' THEN '55P03' ELSE SQLSTATE END;
END
$$;

-- Of keys that were written just now, those that the write itself has put into the log, since a trigger of the table changes
-- more than the vector: `is_other` where the text is another than the one that was embedded, null where it takes too long to say. What is in the log since then was
-- noted by this transaction, or by one that was committed before this one locked its rows, and so by digest.
CREATE FUNCTION @extschema@._steadytext_autoembed_echo(
    d @extschema@.steadytext_autoembeddings, since bigint, keys text[], digests text[], until timestamptz
) RETURNS TABLE (key text, is_other boolean, error text)
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_variable
DECLARE
    noted constant text[] := ARRAY(
        SELECT DISTINCT k FROM @extschema@._steadytext_autoembed_log l, unnest(l.keys) k
        WHERE l.id > since AND l.autoembed_id = d.id AND k = ANY (keys));
BEGIN
    IF cardinality(noted) > 0 THEN
        RETURN QUERY SELECT r.key, CASE WHEN r.code = 'ST002' THEN NULL
                                        ELSE encode(sha256(convert_to(r.words, 'UTF8')), 'hex') IS DISTINCT FROM g.digest END, r.error
        FROM @extschema@._steadytext_autoembed_read(d, noted, until) r
        JOIN ROWS FROM (unnest(keys), unnest(digests)) AS g (k, digest) ON g.k = r.key;
    END IF;
END
$$;

-- End claimed work of one declaration. Arrays `works` and `attempts` name it; the others run in parallel, an element for
-- each key: its work, the digest of the text that was embedded, the vector, or what failed. Returns how many were written.
-- Of several keys, those that fail or are locked go on as work of their own, so that no row holds up another. Where the
-- owner's code takes too long, the declaration is broken, and what was not written waits until it is mended.
CREATE FUNCTION @extschema@._steadytext_autoembed_finish(
    worker bigint, autoembed integer, expected_version integer, works bigint[], attempts integer[], key_works bigint[],
    keys text[], digests text[], vectors text[], codes text[], errors text[]
) RETURNS bigint
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = '2s' AS $$
#variable_conflict use_variable
DECLARE
    free constant boolean := @extschema@._steadytext_autoembed_hold_soon(autoembed);
    d @extschema@.steadytext_autoembeddings;
    held @extschema@._steadytext_autoembed_work;
    swept record;
    good integer[];
    gone text[];
    written bigint := 0;
    notes jsonb := '{}'::jsonb;
    since bigint;
    until constant timestamptz := @extschema@._steadytext_owner_until();
    too_slow text := errors[array_position(codes, 'ST002')];
    pause interval := interval '0.2 s';
    echoes text[] := '{}'::text[];
    heard text[] := '{}'::text[];
BEGIN
    since := nextval('@extschema@._steadytext_autoembed_log_id_seq');
    SELECT e.* INTO d FROM @extschema@.steadytext_autoembeddings e WHERE e.id = autoembed;
    good := ARRAY(SELECT p FROM generate_subscripts(keys, 1) p WHERE codes[p] IS NULL);
    IF free AND d.version = expected_version AND cardinality(good) > 0 THEN
        SELECT coalesce(jsonb_object_agg(r.key, jsonb_build_array(r.note, r.code, r.error)) FILTER (WHERE r.note <> 'written'), '{}'),
               count(*) FILTER (WHERE r.note = 'written'), coalesce(too_slow, min(r.error) FILTER (WHERE r.code = 'ST002'))
        INTO notes, written, too_slow
        FROM @extschema@._steadytext_autoembed_put(d, ARRAY(SELECT keys[p] FROM unnest(good) p),
            ARRAY(SELECT digests[p] FROM unnest(good) p), ARRAY(SELECT vectors[p] FROM unnest(good) p), until) r;
        SELECT coalesce(array_agg(e.key), '{}'), coalesce(too_slow, min(e.error) FILTER (WHERE e.is_other IS NULL)), notes || coalesce(jsonb_object_agg(e.key, jsonb_build_array(
                   'failed', '09000', 'a trigger of the table changes the text whenever the vector is written')) FILTER (WHERE e.is_other), '{}')
        INTO echoes, too_slow, notes
        FROM @extschema@._steadytext_autoembed_echo(d, since, ARRAY(SELECT keys[p] FROM unnest(good) p WHERE NOT notes ? keys[p]),
            ARRAY(SELECT digests[p] FROM unnest(good) p WHERE NOT notes ? keys[p]), until) e;
    ELSIF NOT free OR d.version <> expected_version THEN
        notes := (SELECT coalesce(jsonb_object_agg(keys[p], '["locked", null, null]'::jsonb), '{}') FROM unnest(good) p);
    END IF;
    IF too_slow IS NOT NULL THEN
        pause := greatest(pause, @extschema@._steadytext_autoembed_too_slow(autoembed, too_slow));
        notes := notes || (SELECT coalesce(jsonb_object_agg(keys[p], '["locked", null, null]'::jsonb), '{}')
                           FROM generate_subscripts(keys, 1) p WHERE codes[p] = 'ST002' OR notes -> keys[p] ->> 1 = 'ST002');
    END IF;
    FOR held IN
        DELETE FROM @extschema@._steadytext_autoembed_work w
        USING ROWS FROM (unnest(works), unnest(attempts)) AS g (id, attempt)
        WHERE w.id = g.id AND w.worker_id IS NOT DISTINCT FROM worker AND w.attempt = g.attempt RETURNING w.*
    LOOP
        CONTINUE WHEN d.id IS NULL;
        heard := heard || ARRAY(SELECT k FROM unnest(held.keys) k WHERE k = ANY (echoes));
        gone := ARRAY(SELECT k FROM unnest(held.keys) k WHERE k <> ALL (keys));
        SELECT s.* INTO swept FROM @extschema@._steadytext_autoembed_sweep(d, gone, until) s;
        IF swept.code = 'ST002' THEN
            pause := greatest(pause, @extschema@._steadytext_autoembed_too_slow(autoembed, swept.error));
        END IF;
        PERFORM @extschema@._steadytext_autoembed_give_up(held, k, swept.code, swept.error)
        FROM unnest(gone) k WHERE swept.code <> 'ST002';
        INSERT INTO @extschema@._steadytext_autoembed_work (autoembed_id, priority, keys, due_at, noted_at, retry_count)
        SELECT d.id, held.priority, array_agg(l.k), clock_timestamp() + pause, held.noted_at, held.retry_count
        FROM (SELECT g.k FROM ROWS FROM (unnest(keys), unnest(key_works)) AS g (k, work)
              WHERE g.work = held.id AND notes -> g.k ->> 0 = 'locked'
              UNION ALL SELECT k FROM unnest(gone) k WHERE swept.code = 'ST002') l HAVING count(*) > 0;
        PERFORM @extschema@._steadytext_autoembed_give_up(held, g.k, coalesce(g.code, notes -> g.k ->> 1), coalesce(g.error, notes -> g.k ->> 2))
        FROM ROWS FROM (unnest(keys), unnest(key_works), unnest(codes), unnest(errors)) AS g (k, work, code, error)
        WHERE g.work = held.id AND (g.code <> 'ST002' OR notes -> g.k ->> 0 = 'failed');
    END LOOP;
    DELETE FROM @extschema@._steadytext_autoembed_log l  -- else such a trigger would have its rows embedded for ever
    WHERE l.id > since AND l.autoembed_id = d.id AND l.keys <@ heard AND cardinality(heard) > 0;
    DELETE FROM @extschema@._steadytext_autoembed_work w  -- what failed before, and has succeeded now
    WHERE w.autoembed_id = d.id AND w.failed
      AND w.keys <@ ARRAY(SELECT keys[p] FROM unnest(good) p WHERE NOT notes ? keys[p]);
    -- a rate is worth no waiting: whoever changes the declaration has it locked until that is committed
    UPDATE @extschema@.steadytext_autoembeddings e
    SET embedded = e.embedded + written, rated_at = clock_timestamp(),
        rate = coalesce(e.rate, 0) * exp(-least(1000, greatest(0, extract(epoch FROM clock_timestamp() - coalesce(e.rated_at, clock_timestamp())))) / 30) + written / 30.0
    WHERE written > 0 AND e.id = (SELECT f.id FROM @extschema@.steadytext_autoembeddings f WHERE f.id = d.id FOR NO KEY UPDATE SKIP LOCKED);
    RETURN written;
END
$$;

-- A key that failed: alone it is tried again, later each time, until its retries are used up; one of many first alone.
CREATE FUNCTION @extschema@._steadytext_autoembed_give_up(
    held @extschema@._steadytext_autoembed_work, key text, code text, error text
) RETURNS void
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_variable
DECLARE
    again boolean;
    alone constant boolean := cardinality(held.keys) = 1;
BEGIN
    SELECT NOT alone OR code = '55P03' OR (held.retry_count < s.queue_max_retries AND code !~ '^(22...|P0002|42501)$') INTO again
    FROM @extschema@._steadytext_settings s;
    DELETE FROM @extschema@._steadytext_autoembed_work w
    WHERE w.autoembed_id = held.autoembed_id AND w.failed AND w.keys = ARRAY[key];
    INSERT INTO @extschema@._steadytext_autoembed_work
        (autoembed_id, priority, keys, due_at, noted_at, retry_count, last_retry_at, failed, code, error)
    VALUES (held.autoembed_id, held.priority, ARRAY[key],
            CASE WHEN code = '55P03' THEN clock_timestamp() + interval '0.2 s' WHEN alone AND again
                 THEN @extschema@._steadytext_queue_backoff(held.retry_count) ELSE clock_timestamp() END, held.noted_at,
            held.retry_count + (alone AND again AND code <> '55P03')::integer,
            CASE WHEN alone THEN clock_timestamp() END, NOT again, code, error);
END
$$;

-- Give work back: the worker stops, or the daemon is not there. Costs no attempt, unless the daemon was lost with it.
CREATE FUNCTION @extschema@._steadytext_autoembed_release(
    worker bigint, works bigint[], pause interval, lost boolean DEFAULT false
) RETURNS bigint
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_variable
DECLARE
    released bigint;
BEGIN
    UPDATE @extschema@._steadytext_autoembed_work w
    SET worker_id = NULL, attempt = w.attempt - (NOT lost)::integer,
        due_at = CASE WHEN pause > interval '0' THEN clock_timestamp() + pause
                      WHEN lost THEN w.due_at ELSE least(w.due_at, clock_timestamp()) END
    WHERE w.id = ANY (works) AND w.worker_id = worker;
    GET DIAGNOSTICS released = ROW_COUNT;
    RETURN released;
END
$$;
