-- What a worker does with changed rows: drain the log into work, claim some of it with the texts to embed. In between,
-- while it embeds, no transaction is open.

-- Turn what the log holds into work, up to so many entries: each key once, in pieces that one claim takes whole.
CREATE FUNCTION @extschema@._steadytext_autoembed_drain(entries integer) RETURNS bigint
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    drained bigint;
BEGIN
    WITH taken AS (
        DELETE FROM @extschema@._steadytext_autoembed_log l
        WHERE l.id = ANY (ARRAY(SELECT o.id FROM @extschema@._steadytext_autoembed_log o
                                ORDER BY o.id LIMIT entries FOR UPDATE SKIP LOCKED))
        RETURNING l.id, l.autoembed_id, l.keys, l.noted_at
    ), listed AS (
        SELECT t.autoembed_id, k.key, min(t.id) AS first_id, min(k.place) AS place, min(t.noted_at) AS noted_at
        FROM taken t, unnest(t.keys) WITH ORDINALITY k (key, place) GROUP BY t.autoembed_id, k.key
    ), placed AS (
        SELECT l.autoembed_id, l.key, l.first_id, l.place, l.noted_at,
               (row_number() OVER (PARTITION BY l.autoembed_id ORDER BY l.first_id, l.place) - 1) / 64 AS part
        FROM listed l
    )
    INSERT INTO @extschema@._steadytext_autoembed_work (autoembed_id, priority, keys, noted_at)
    SELECT p.autoembed_id, 5, array_agg(p.key ORDER BY p.first_id, p.place), min(p.noted_at) FROM placed p
    WHERE EXISTS (SELECT FROM @extschema@.steadytext_autoembeddings d WHERE d.id = p.autoembed_id)
    GROUP BY p.autoembed_id, p.part ORDER BY min(p.first_id), p.part;
    GET DIAGNOSTICS drained = ROW_COUNT;
    RETURN drained;
END
$$;

-- Queue keys of the backfill, in pieces that one claim takes whole. With a pace none is of more than a second's rows, and
-- each is due when all its rows may be done.
CREATE FUNCTION @extschema@._steadytext_backfill_queue(
    d @extschema@.steadytext_autoembeddings, keys text[], noted_at timestamptz
) RETURNS void
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_variable
BEGIN
    INSERT INTO @extschema@._steadytext_autoembed_work (autoembed_id, priority, keys, due_at, noted_at)
    SELECT d.id, 1, array_agg(k.key ORDER BY k.place),
           clock_timestamp() + make_interval(secs => coalesce(max(k.place) / d.backfill_rate::double precision, 0)), noted_at
    FROM unnest(keys) WITH ORDINALITY k (key, place)
    GROUP BY (k.place - 1) / least(64, d.backfill_rate) ORDER BY min(k.place);
END
$$;

-- Note what a worker met that keeps a declaration from working. An error of the server's says nothing of the table.
CREATE FUNCTION @extschema@._steadytext_autoembed_break(wanted integer, code text, fault text) RETURNS void
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_variable
BEGIN
    UPDATE @extschema@.steadytext_autoembeddings e SET state = 'broken', reason = fault, version = e.version + 1
    WHERE e.id = wanted AND code !~ '^(25|40|53|57)' AND (e.state <> 'broken' OR e.reason IS DISTINCT FROM fault);
END
$$;

-- Queue the next rows of a table that was there before its declaration. One worker at a time does it for a table. Rows that
-- are tried again, with growing pauses, hold up no others. With a pace few rows are queued ahead: their time goes on
-- running while nobody works, and what is overdue is done at once. A table that cannot be read, as when its owner may not,
-- is broken for itself: it keeps no worker from the others.
CREATE FUNCTION @extschema@._steadytext_autoembed_backfill(wanted integer, rows_at_once integer DEFAULT 2048) RETURNS bigint
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    d @extschema@.steadytext_autoembeddings;
    at_once integer;
    keys text[];
    total bigint;
    queued bigint := 0;
    message text;
BEGIN
    FOR d IN SELECT e.* FROM @extschema@.steadytext_autoembeddings e
             WHERE NOT e.backfill_done AND e.state = 'active' AND (e.id = wanted OR wanted IS NULL AND e.mode = 'auto'
               AND NOT EXISTS (SELECT FROM @extschema@._steadytext_autoembed_work w
                               WHERE w.autoembed_id = e.id AND w.priority = 1 AND w.worker_id IS NULL AND NOT w.failed
                                 AND w.attempt = 0 AND w.retry_count = 0))
             ORDER BY e.id FOR NO KEY UPDATE SKIP LOCKED LOOP
        BEGIN
            at_once := least(rows_at_once, 10 * d.backfill_rate::bigint);
            total := d.backfill_total;
            IF total IS NULL THEN
                SELECT r.key::bigint INTO total
                FROM @extschema@._steadytext_as_owner_of(d.relation, @extschema@._steadytext_scan_count_statement(d)) r;
            END IF;
            keys := ARRAY(SELECT r.key FROM @extschema@._steadytext_as_owner_of(
                d.relation, @extschema@._steadytext_scan_statement(d, at_once), ARRAY[d.backfill_cursor]) r);
        EXCEPTION WHEN lock_not_available OR deadlock_detected THEN
            CONTINUE;
        WHEN OTHERS THEN
            IF wanted IS NOT NULL THEN
                RAISE;
            END IF;
            GET STACKED DIAGNOSTICS message = MESSAGE_TEXT;
            PERFORM @extschema@._steadytext_autoembed_break(d.id, SQLSTATE, 'its rows cannot be read: ' || message);
            CONTINUE;
        END;
        PERFORM @extschema@._steadytext_backfill_queue(d, keys, clock_timestamp());
        UPDATE @extschema@.steadytext_autoembeddings e
        SET backfill_cursor = coalesce(keys[cardinality(keys)], e.backfill_cursor), backfill_done = cardinality(keys) < at_once,
            backfill_total = total, backfill_queued = e.backfill_queued + cardinality(keys)
        WHERE e.id = d.id;
        queued := queued + cardinality(keys);
    END LOOP;
    RETURN queued;
END
$$;

-- A declaration whose owner's code takes too long is broken. Its owner may keep that from being written, but not for
-- longer than they hold up the declaration: its work is to wait so long then.
CREATE FUNCTION @extschema@._steadytext_autoembed_too_slow(wanted integer, fault text) RETURNS interval
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM FROM @extschema@.steadytext_autoembeddings e WHERE e.id = wanted FOR NO KEY UPDATE SKIP LOCKED;
    IF NOT FOUND THEN
        RETURN interval '1 min';
    END IF;
    PERFORM @extschema@._steadytext_autoembed_break(wanted, 'ST002', fault);
    RETURN interval '0';
END
$$;

-- Texts of keys: a row for each that exists. An expression that fails for one row must not fail the others: then each
-- key is read alone. All of it has an end: what is late is so for all keys.
CREATE FUNCTION @extschema@._steadytext_autoembed_read(
    d @extschema@.steadytext_autoembeddings, keys text[], until timestamptz DEFAULT @extschema@._steadytext_owner_until()
) RETURNS TABLE (key text, words text, code text, error text)
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_variable
DECLARE
    alone text;
    message text;
BEGIN
    BEGIN
        RETURN QUERY SELECT r.key, r.value, NULL::text, NULL::text
        FROM @extschema@._steadytext_as_owner_of(d.relation, @extschema@._steadytext_read_statement(d), keys, until => until) r;
        RETURN;
    EXCEPTION WHEN lock_not_available THEN
        RETURN QUERY SELECT k, NULL::text, '55P03', 'the table is locked' FROM unnest(keys) k;
        RETURN;
    WHEN OTHERS THEN
        GET STACKED DIAGNOSTICS message = MESSAGE_TEXT;
        IF cardinality(keys) = 1 OR SQLSTATE = 'ST002' THEN
            RETURN QUERY SELECT k, NULL::text, SQLSTATE, message FROM unnest(keys) k;
            RETURN;
        END IF;
    END;
    FOREACH alone IN ARRAY keys LOOP
        RETURN QUERY SELECT r.* FROM @extschema@._steadytext_autoembed_read(d, ARRAY[alone], until) r;
    END LOOP;
END
$$;

-- The same for a worker. The owner's code may raise what looks like a cancel, or a failed assertion, which OTHERS leaves
-- through: it would keep the worker from all tables.
CREATE FUNCTION @extschema@._steadytext_autoembed_read_each(
    d @extschema@.steadytext_autoembeddings, keys text[], until timestamptz DEFAULT @extschema@._steadytext_owner_until()
) RETURNS TABLE (key text, words text, code text, error text)
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_variable
DECLARE
    message text;
BEGIN
    RETURN QUERY SELECT r.* FROM @extschema@._steadytext_autoembed_read(d, keys, until) r;
EXCEPTION WHEN query_canceled OR assert_failure THEN
    IF cardinality(keys) = 1 THEN
        GET STACKED DIAGNOSTICS message = MESSAGE_TEXT;
        RETURN QUERY SELECT keys[1], NULL::text, SQLSTATE, message;
        RETURN;
    END IF;
    RETURN QUERY SELECT r.* FROM unnest(keys) k, LATERAL @extschema@._steadytext_autoembed_read_each(d, ARRAY[k], until) r;
END
$$;

-- Seconds after which a worker that found nothing looks again, though nobody tells it to: when something is due, or soon
-- while a transaction is under way that has written to the log. Null where there is nothing to wait for.
CREATE FUNCTION @extschema@._steadytext_autoembed_pause() RETURNS double precision
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RETURN (
        SELECT least(
            (SELECT greatest(0.05, extract(epoch FROM min(f.due_at) - clock_timestamp()))
             FROM @extschema@.steadytext_autoembeddings d, unnest(ARRAY[1, 5]) p, LATERAL (
                SELECT w.due_at FROM @extschema@._steadytext_autoembed_work w
                WHERE w.autoembed_id = d.id AND w.priority = p AND w.worker_id IS NULL AND NOT w.failed
                ORDER BY w.due_at LIMIT 1) f
             WHERE d.state = 'active' AND d.mode = 'auto'),
            (SELECT 0.1 WHERE EXISTS (
                SELECT FROM pg_locks l WHERE l.relation = '@extschema@._steadytext_autoembed_log'::regclass
                AND l.mode = 'RowExclusiveLock' AND l.pid <> pg_backend_pid()
                AND l.database = (SELECT b.oid FROM pg_database b WHERE b.datname = current_database())))));
END
$$;

-- Claim work for about `wanted` keys, changes before backfill, with the texts of those that exist; texts may be null.
-- Where there is none: one row without work, whose `pause` says when to look again. Where the owner's code of one table takes
-- long, it is read no more, and when that of several has taken so long together, the others are for the next claim.
CREATE FUNCTION @extschema@._steadytext_autoembed_claim(worker bigint, wanted integer)
RETURNS TABLE (work_id bigint, attempt integer, priority smallint, autoembed_id integer, version integer, model text,
               remote boolean, chunking jsonb, keys text[], words text[], codes text[], errors text[], pause double precision)
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
    until constant timestamptz := @extschema@._steadytext_owner_until();
    claimed bigint[];
    piece record;
    given record;
    slow jsonb := '{}'::jsonb;
    given_any boolean := false;
BEGIN
    PERFORM @extschema@._steadytext_worker_keep(worker);
    PERFORM @extschema@._steadytext_autoembed_drain(1000);
    PERFORM @extschema@._steadytext_autoembed_suspect();
    claimed := @extschema@._steadytext_autoembed_pick(worker, wanted);
    IF cardinality(claimed) = 0 AND @extschema@._steadytext_autoembed_backfill(NULL) > 0 THEN
        claimed := @extschema@._steadytext_autoembed_pick(worker, wanted);
    END IF;
    UPDATE @extschema@._steadytext_autoembed_work w
    SET worker_id = worker, attempt = w.attempt + 1,
        due_at = CASE w.attempt WHEN 0 THEN w.due_at ELSE @extschema@._steadytext_queue_backoff(w.attempt) END  -- should it be lost
    WHERE w.id = ANY (claimed);
    FOR piece IN SELECT w.id, w.attempt, w.priority, w.keys, d.id::text AS declared, d FROM @extschema@._steadytext_autoembed_work w
                 JOIN @extschema@.steadytext_autoembeddings d ON d.id = w.autoembed_id WHERE w.id = ANY (claimed) LOOP
        IF NOT slow ? piece.declared AND clock_timestamp() < until THEN
            SELECT array_agg(r.key) AS keys, array_agg(r.words) AS words, array_agg(r.code) AS codes, array_agg(r.error) AS errors,
                   min(r.error) FILTER (WHERE r.code = 'ST002') AS too_slow INTO given
            FROM @extschema@._steadytext_autoembed_read_each(piece.d, piece.keys) r;
            IF given.too_slow IS NULL THEN
                given_any := true;
                RETURN QUERY SELECT piece.id, piece.attempt, piece.priority, (piece.d).id, (piece.d).version, (piece.d).model_name,
                    (piece.d).remote, (piece.d).chunking, given.keys, given.words, given.codes, given.errors, NULL::double precision;
                CONTINUE;
            END IF;
            slow := slow || jsonb_build_object(piece.declared,
                @extschema@._steadytext_autoembed_too_slow((piece.d).id, given.too_slow));
        END IF;
        PERFORM @extschema@._steadytext_autoembed_release(worker, ARRAY[piece.id], coalesce((slow ->> piece.declared)::interval, '0'));
    END LOOP;
    IF NOT given_any THEN
        RETURN QUERY SELECT NULL::bigint, NULL::integer, NULL::smallint, NULL::integer, NULL::integer, NULL::text, NULL::boolean,
            NULL::jsonb, NULL::text[], NULL::text[], NULL::text[], NULL::text[], @extschema@._steadytext_autoembed_pause();
    END IF;
END
$$;

-- Work whose workers were lost time and again. A key of it may be what ends them, so the others are parted from it; the
-- one that ended its worker alone is given up when its retries are used up.
CREATE FUNCTION @extschema@._steadytext_autoembed_suspect() RETURNS void
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_variable
DECLARE
    most integer;
    lost @extschema@._steadytext_autoembed_work;
BEGIN
    SELECT greatest(s.queue_max_retries, 1) INTO most FROM @extschema@._steadytext_settings s;
    FOR lost IN SELECT w.* FROM @extschema@._steadytext_autoembed_work w
                WHERE w.worker_id IS NULL AND NOT w.failed AND w.attempt > 0
                  AND (w.attempt > most OR w.attempt > 1 AND cardinality(w.keys) > 1) FOR UPDATE SKIP LOCKED LOOP
        IF cardinality(lost.keys) = 1 THEN
            UPDATE @extschema@._steadytext_autoembed_work w
            SET failed = true, attempt = 0, retry_count = lost.attempt - 1, last_retry_at = clock_timestamp(), code = '57P01',
                error = format('the process that embedded it was lost %s times', lost.attempt)
            WHERE w.id = lost.id;
        ELSE
            DELETE FROM @extschema@._steadytext_autoembed_work w WHERE w.id = lost.id;
            INSERT INTO @extschema@._steadytext_autoembed_work (autoembed_id, priority, keys, due_at, attempt, retry_count)
            SELECT lost.autoembed_id, lost.priority, ARRAY[k], lost.due_at, least(lost.attempt, most), lost.retry_count
            FROM unnest(lost.keys) k;
        END IF;
    END LOOP;
END
$$;

-- Work that is due, for about `wanted` keys: locked, not yet claimed. What a worker was lost with is taken by a worker that
-- holds nothing else, and alone, so that it can take nothing with it. What is embedded anew for another model comes in
-- small batches of its own, one at a time: a slow model must not hold up the vectors that are searched meanwhile.
CREATE FUNCTION @extschema@._steadytext_autoembed_pick(worker bigint, wanted integer) RETURNS bigint[]
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    lost bigint;
    anew bigint[];
BEGIN
    SELECT w.id INTO lost FROM @extschema@._steadytext_autoembed_work w
    JOIN @extschema@.steadytext_autoembeddings d ON d.id = w.autoembed_id AND d.state = 'active' AND d.mode = 'auto'
    WHERE w.worker_id IS NULL AND NOT w.failed AND w.attempt > 0 AND w.due_at <= clock_timestamp()
    ORDER BY w.due_at LIMIT 1 FOR UPDATE OF w SKIP LOCKED;
    IF EXISTS (SELECT FROM @extschema@._steadytext_autoembed_work w
               WHERE w.worker_id = worker AND (lost IS NOT NULL OR w.attempt > 1)) THEN
        RETURN '{}'::bigint[];
    ELSIF lost IS NOT NULL THEN
        RETURN ARRAY[lost];
    END IF;
    IF NOT EXISTS (SELECT FROM @extschema@._steadytext_autoembed_work w JOIN @extschema@.steadytext_autoembeddings d ON d.id = w.autoembed_id
                   WHERE w.worker_id = worker AND d.replaces IS NOT NULL) THEN
        anew := @extschema@._steadytext_autoembed_due(least(wanted, 64), true);
    END IF;
    RETURN CASE WHEN cardinality(anew) > 0 THEN anew ELSE @extschema@._steadytext_autoembed_due(wanted, false) END;
END
$$;

CREATE FUNCTION @extschema@._steadytext_autoembed_due(wanted integer, anew boolean) RETURNS bigint[]
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RETURN ARRAY(
        SELECT c.id FROM (
            SELECT f.id, f.size, sum(f.size) OVER (ORDER BY f.priority DESC, f.due_at, f.id) AS running
            FROM @extschema@.steadytext_autoembeddings d, unnest(ARRAY[5, 1]) p, LATERAL (
                SELECT o.id, o.priority, o.due_at, cardinality(o.keys) AS size FROM @extschema@._steadytext_autoembed_work o
                WHERE o.autoembed_id = d.id AND o.priority = p AND o.worker_id IS NULL AND NOT o.failed AND o.attempt = 0
                  AND o.due_at <= clock_timestamp()
                ORDER BY o.due_at LIMIT least(wanted, 64) FOR UPDATE SKIP LOCKED) f
            WHERE d.state = 'active' AND d.mode = 'auto' AND (d.replaces IS NOT NULL) = anew) c
        WHERE c.running - c.size < wanted);
END
$$;
