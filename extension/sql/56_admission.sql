-- Who may queue how much. Two caps hold exactly, for each owner and for the whole queue, without making anybody wait
-- for somebody else's open transaction: a call refuses what it can see to be too much, and the transaction's commit
-- settles what concurrent sessions could not see of each other. Counting is rare: a remembered count plus the ids
-- handed out since is an upper bound of what is active now, and only where that bound passes the cap is it counted.

CREATE TABLE @extschema@._steadytext_queue_depth (
    scope text PRIMARY KEY,
    active bigint NOT NULL,
    id_mark bigint NOT NULL
) WITH (fillfactor = 20, autovacuum_vacuum_threshold = 50, autovacuum_vacuum_scale_factor = 0);

COMMENT ON COLUMN @extschema@._steadytext_queue_depth.scope IS 'An owner; empty: all of them';
COMMENT ON COLUMN @extschema@._steadytext_queue_depth.active IS
    'At least the unfinished requests with ids up to id_mark whose transactions had committed';

-- Open transactions that have queued something; each row is gone when its transaction is.
CREATE UNLOGGED TABLE @extschema@._steadytext_queue_admissions (
    xid xid8 NOT NULL,
    owner text NOT NULL,
    lane text NOT NULL,
    first_id bigint NOT NULL,
    PRIMARY KEY (xid, owner, lane)
) WITH (autovacuum_vacuum_threshold = 5000, autovacuum_vacuum_scale_factor = 0, autovacuum_analyze_scale_factor = 10);

-- Unfinished requests of a scope, counted up to one more than `most`.
CREATE FUNCTION @extschema@._steadytext_queue_count(scope text, most bigint) RETURNS bigint
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_variable
BEGIN
    IF scope = '' THEN
        RETURN (SELECT count(*) FROM (SELECT FROM @extschema@.steadytext_queue q
                                      WHERE q.status IN ('pending', 'processing') LIMIT most + 1) active);
    END IF;
    RETURN (SELECT count(*) FROM (
        SELECT FROM @extschema@.steadytext_queue q
        WHERE q.worker_id IS NULL AND q.owner = scope AND q.status IN ('pending', 'processing')
        UNION ALL
        SELECT FROM @extschema@.steadytext_queue q
        WHERE q.worker_id IS NOT NULL AND q.owner = scope AND q.status IN ('pending', 'processing')
        LIMIT most + 1) active);
END
$$;

CREATE FUNCTION @extschema@._steadytext_queue_last_id() RETURNS bigint
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RETURN (SELECT s.last_value FROM @extschema@.steadytext_queue_id_seq s);
END
$$;

-- Whether no more unfinished requests than `most` can exist in the scope; false also where that is not known.
CREATE FUNCTION @extschema@._steadytext_queue_fits(scope text, most bigint, first_id bigint) RETURNS boolean
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_variable
BEGIN
    RETURN EXISTS (
        SELECT FROM @extschema@._steadytext_queue_depth d, @extschema@.steadytext_queue_id_seq s
        WHERE d.scope = scope AND d.id_mark < first_id AND d.active + s.last_value - d.id_mark <= most);
END
$$;

CREATE FUNCTION @extschema@._steadytext_queue_refuse(scope text, most bigint) RETURNS void
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF scope = '' THEN
        PERFORM @extschema@._steadytext_raise('53400', format('the queue is full: it holds %s requests', most),
            'Try again when some are done, or have an administrator raise max_queue_size.');
    END IF;
    PERFORM @extschema@._steadytext_raise('53400', format('role "%s" has too many pending requests: the limit is %s', scope, most),
        'Try again when some are done, or have an administrator raise max_pending_per_user.');
END
$$;

-- Called after requests were inserted, the first of them with `first_id`. Where the bound says nothing, a large cap
-- is counted at every two-hundredth part of it only: a million calls in a statement must not count a million each.
CREATE FUNCTION @extschema@._steadytext_queue_admit(
    owner text, lane text, first_id bigint, requests integer
) RETURNS void
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_variable
DECLARE
    settings @extschema@._steadytext_settings;
    scope text;
    most bigint;
BEGIN
    INSERT INTO @extschema@._steadytext_queue_admissions VALUES (pg_current_xact_id(), owner, lane, first_id)
    ON CONFLICT DO NOTHING;
    SELECT s.* INTO settings FROM @extschema@._steadytext_settings s;
    FOREACH scope IN ARRAY ARRAY[owner, ''] LOOP
        most := CASE scope WHEN '' THEN settings.max_queue_size ELSE settings.max_pending_per_user END;
        IF (requests > 1 OR first_id % greatest(1, most / 200) = 0)
           AND NOT @extschema@._steadytext_queue_fits(scope, most, 9223372036854775807)
           AND @extschema@._steadytext_queue_count(scope, most) > most THEN
            PERFORM @extschema@._steadytext_queue_refuse(scope, most);
        END IF;
    END LOOP;
END
$$;

-- The full id of a transaction from the 32 bits that a row keeps of it. Few are newer than what a snapshot has seen.
CREATE FUNCTION @extschema@._steadytext_xid8(short xid) RETURNS xid8
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    near constant bigint := pg_snapshot_xmax(pg_current_snapshot())::text::bigint;
    round constant bigint := 4294967296;
    newer constant bigint := 1048576;
    behind constant bigint := ((near - short::text::bigint + newer) % round + round) % round - newer;
BEGIN
    RETURN greatest(near - behind, 0)::text::xid8;
END
$$;

-- Whether a transaction has committed that this one, above READ COMMITTED, cannot see. Only an id handed out now tells
-- how far the others have come; the row that takes it is gone again at once.
CREATE FUNCTION @extschema@._steadytext_queue_is_past() RETURNS boolean
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    seen constant pg_snapshot := pg_current_snapshot();
    ahead constant bigint := pg_snapshot_xmax(seen)::text::bigint;
    newest bigint;
BEGIN
    BEGIN
        INSERT INTO @extschema@._steadytext_queue_admissions VALUES (pg_current_xact_id(), '', '', 0)
        RETURNING @extschema@._steadytext_xid8(xmin)::text::bigint INTO newest;
        RAISE SQLSTATE 'ST001';
    EXCEPTION WHEN SQLSTATE 'ST001' THEN
        NULL;
    END;
    RETURN newest - ahead > 10000 OR EXISTS (
        SELECT FROM (SELECT pg_snapshot_xip(seen) UNION ALL SELECT x::text::xid8 FROM generate_series(ahead, newest) x) o (xid)
        WHERE pg_xact_status(o.xid) = 'committed');
END
$$;

-- At commit: settle the caps, and wake workers that wait for the lane. The caps are settled under a lock that lasts until
-- the commit is visible. It is shared while the bound holds, so that commits still go to disk together. A transaction above
-- READ COMMITTED may not see what was settled since it began: where that could matter, it fails like any other that cannot
-- be serialized.
CREATE FUNCTION @extschema@._steadytext_queue_settle(scope text, most bigint, first_id bigint) RETURNS void
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp SET lock_timeout = '5s' AS $$
#variable_conflict use_variable
DECLARE
    key constant integer := hashtext('pg_steadytext queue ' || scope);
    is_current constant boolean := current_setting('transaction_isolation') IN ('read committed', 'read uncommitted');
    mark bigint;
    counted bigint;
BEGIN
    BEGIN
        PERFORM pg_advisory_xact_lock_shared(20259, key);
        IF is_current AND @extschema@._steadytext_queue_fits(scope, most, first_id) THEN
            RETURN;
        END IF;
        RAISE SQLSTATE 'ST001';
    EXCEPTION WHEN SQLSTATE 'ST001' OR lock_not_available THEN
        NULL;  -- which lets the shared lock go: two who hold it could not both have it exclusively
    END;
    BEGIN
        PERFORM pg_advisory_xact_lock(20259, key);
    EXCEPTION WHEN lock_not_available THEN
        -- only SET CONSTRAINTS ... IMMEDIATE makes a transaction hold the lock for longer than its commit takes
        PERFORM @extschema@._steadytext_raise('53400', 'another transaction keeps the queue''s limits locked', 'Try again.');
    END;
    IF NOT is_current THEN
        PERFORM FROM @extschema@._steadytext_queue_depth d WHERE d.scope = scope FOR SHARE;
        IF @extschema@._steadytext_queue_fits(scope, most, first_id) THEN
            RETURN;
        END IF;
    END IF;
    UPDATE @extschema@._steadytext_queue_depth d SET active = d.active + greatest(0, d.id_mark - first_id + 1)
    WHERE d.scope = scope
      AND d.active + greatest(0, d.id_mark - first_id + 1) + @extschema@._steadytext_queue_last_id() - d.id_mark <= most;
    IF FOUND THEN
        RETURN;
    END IF;
    mark := @extschema@._steadytext_queue_last_id();
    counted := @extschema@._steadytext_queue_count(scope, most);
    IF counted > most THEN
        PERFORM @extschema@._steadytext_queue_refuse(scope, most);
    ELSIF NOT is_current AND @extschema@._steadytext_queue_is_past() THEN
        PERFORM @extschema@._steadytext_raise('40001', 'could not serialize access: others have queued requests meanwhile',
            'Try the transaction again, or queue at READ COMMITTED.');
    END IF;
    INSERT INTO @extschema@._steadytext_queue_depth AS d VALUES (scope, counted, mark)
    ON CONFLICT ON CONSTRAINT _steadytext_queue_depth_pkey DO UPDATE SET active = excluded.active, id_mark = excluded.id_mark;
END
$$;

CREATE FUNCTION @extschema@._steadytext_queue_commit() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    settings @extschema@._steadytext_settings;
BEGIN
    SELECT s.* INTO settings FROM @extschema@._steadytext_settings s;
    DELETE FROM @extschema@._steadytext_queue_admissions a
    WHERE a.xid = NEW.xid AND a.owner = NEW.owner AND a.lane = NEW.lane;
    PERFORM @extschema@._steadytext_queue_settle(NEW.owner, settings.max_pending_per_user, NEW.first_id);
    PERFORM @extschema@._steadytext_queue_settle('', settings.max_queue_size, NEW.first_id);
    -- a snapshot that the transaction keeps may be older than the worker's sleep
    IF current_setting('transaction_isolation') <> 'read committed'
       OR EXISTS (SELECT FROM @extschema@.steadytext_workers w WHERE w.sleeping IS NULL OR NEW.lane = ANY (w.sleeping)) THEN
        PERFORM pg_notify('steadytext_queue', '');
    END IF;
    RETURN NULL;
END
$$;

CREATE CONSTRAINT TRIGGER _steadytext_queue_commit AFTER INSERT ON @extschema@._steadytext_queue_admissions
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION @extschema@._steadytext_queue_commit();

-- Rate limits: GCRA (the generic cell rate algorithm) with one theoretical arrival time a window. A window lets through
-- its whole number at once, then one each period / number. Whoever has no row here has no limit.
CREATE TABLE @extschema@.steadytext_rate_limits (
    user_id text PRIMARY KEY CHECK (user_id <> ''),
    requests_per_minute integer NOT NULL DEFAULT 60 CHECK (requests_per_minute > 0),
    requests_per_hour integer NOT NULL DEFAULT 1000 CHECK (requests_per_hour > 0),
    requests_per_day integer NOT NULL DEFAULT 10000 CHECK (requests_per_day > 0),
    minute_arrival timestamptz NOT NULL DEFAULT '-infinity',
    hour_arrival timestamptz NOT NULL DEFAULT '-infinity',
    day_arrival timestamptz NOT NULL DEFAULT '-infinity',
    current_minute_count integer NOT NULL DEFAULT 0,
    current_hour_count integer NOT NULL DEFAULT 0,
    current_day_count integer NOT NULL DEFAULT 0,
    last_reset_minute timestamptz NOT NULL DEFAULT pg_catalog.now(),
    last_reset_hour timestamptz NOT NULL DEFAULT pg_catalog.now(),
    last_reset_day timestamptz NOT NULL DEFAULT pg_catalog.now(),
    created_at timestamptz NOT NULL DEFAULT pg_catalog.now(),
    last_reset timestamptz NOT NULL DEFAULT pg_catalog.now()
);

COMMENT ON COLUMN @extschema@.steadytext_rate_limits.user_id IS 'A role, or a user_id that requests are made for';
COMMENT ON COLUMN @extschema@.steadytext_rate_limits.current_minute_count IS
    'Requests since last_reset_minute, to look at; the arrival times decide';
COMMENT ON COLUMN @extschema@.steadytext_rate_limits.last_reset IS 'When one of the counts last began anew';

SELECT pg_catalog.pg_extension_config_dump('@extschema@.steadytext_rate_limits', '');

-- When the next request could arrive in a window after `requests` more. None was let through more than a period ahead of
-- its time: an arrival far later than that is of a clock that has been set back since, and means nothing.
CREATE FUNCTION @extschema@._steadytext_rate_arrival(
    arrival timestamptz, moment timestamptz, period interval, number integer, requests integer
) RETURNS timestamptz
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RETURN CASE WHEN arrival > moment + 2 * period THEN moment ELSE greatest(arrival, moment) END + period * (requests::double precision / number);
END
$$;

-- A user's limits, locked until the transaction ends, as what it takes from them is known only then; no row where there
-- are none.
CREATE FUNCTION @extschema@._steadytext_rate_lock(who text) RETURNS SETOF @extschema@.steadytext_rate_limits
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp SET lock_timeout = '5s' AS $$
#variable_conflict use_variable
BEGIN
    RETURN QUERY SELECT r.* FROM @extschema@.steadytext_rate_limits r WHERE r.user_id = who FOR NO KEY UPDATE;
EXCEPTION
    WHEN lock_not_available THEN
        PERFORM @extschema@._steadytext_raise('53400',
            format('another transaction keeps the rate limit of "%s" locked', left(who, 100)), 'Try again.');
END
$$;

-- Take `requests` from all windows of a user, or none: seconds to wait, 0 where they were taken.
CREATE FUNCTION @extschema@._steadytext_rate_take(who text, requests integer) RETURNS double precision
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_variable
DECLARE
    known @extschema@.steadytext_rate_limits;
    moment timestamptz;
    arrivals timestamptz[];
    pause double precision;
BEGIN
    IF NOT EXISTS (SELECT FROM @extschema@.steadytext_rate_limits r WHERE r.user_id = who) THEN
        RETURN 0;
    END IF;
    SELECT r.* INTO known FROM @extschema@._steadytext_rate_lock(who) r;
    IF known.user_id IS NULL THEN
        RETURN 0;
    END IF;
    moment := clock_timestamp();
    arrivals := ARRAY[
        @extschema@._steadytext_rate_arrival(known.minute_arrival, moment, '1 minute', known.requests_per_minute, requests),
        @extschema@._steadytext_rate_arrival(known.hour_arrival, moment, '1 hour', known.requests_per_hour, requests),
        @extschema@._steadytext_rate_arrival(known.day_arrival, moment, '1 day', known.requests_per_day, requests)];
    pause := extract(epoch FROM greatest(
        arrivals[1] - moment - interval '1 minute', arrivals[2] - moment - interval '1 hour',
        arrivals[3] - moment - interval '1 day', interval '0'));
    IF pause <= 0 THEN
        UPDATE @extschema@.steadytext_rate_limits r SET
            minute_arrival = arrivals[1], hour_arrival = arrivals[2], day_arrival = arrivals[3],
            current_minute_count = requests + CASE WHEN r.last_reset_minute > moment - interval '1 minute' THEN r.current_minute_count ELSE 0 END,
            last_reset_minute = CASE WHEN r.last_reset_minute > moment - interval '1 minute' THEN r.last_reset_minute ELSE moment END,
            current_hour_count = requests + CASE WHEN r.last_reset_hour > moment - interval '1 hour' THEN r.current_hour_count ELSE 0 END,
            last_reset_hour = CASE WHEN r.last_reset_hour > moment - interval '1 hour' THEN r.last_reset_hour ELSE moment END,
            current_day_count = requests + CASE WHEN r.last_reset_day > moment - interval '1 day' THEN r.current_day_count ELSE 0 END,
            last_reset_day = CASE WHEN r.last_reset_day > moment - interval '1 day' THEN r.last_reset_day ELSE moment END,
            last_reset = CASE WHEN least(r.last_reset_minute + interval '1 minute', r.last_reset_hour + interval '1 hour',
                                         r.last_reset_day + interval '1 day') > moment THEN r.last_reset ELSE moment END
        WHERE r.user_id = who;
    END IF;
    RETURN pause;
END
$$;

CREATE FUNCTION @extschema@._steadytext_rate_enforce(owner text, user_id text, requests integer) RETURNS void
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_variable
DECLARE
    who text;
    most integer;
    pause double precision;
BEGIN
    IF user_id <> owner AND EXISTS (SELECT FROM @extschema@.steadytext_rate_limits r WHERE r.user_id = user_id)
       AND EXISTS (SELECT FROM pg_roles r WHERE r.rolname = user_id AND pg_has_role(r.oid, 'steadytext_user', 'MEMBER')
                   AND NOT pg_has_role(owner, r.oid, 'MEMBER') AND NOT pg_has_role(owner, 'steadytext_admin', 'MEMBER')) THEN
        PERFORM @extschema@._steadytext_raise('42501', format('permission denied to use the rate limit of role "%s"', left(user_id, 100)),
            'user_id is for users that are no roles of this database.');
    END IF;
    FOREACH who IN ARRAY CASE WHEN user_id IS NULL OR user_id = owner THEN ARRAY[owner]
                              ELSE ARRAY[least(owner, user_id), greatest(owner, user_id)] END LOOP
        pause := @extschema@._steadytext_rate_take(who, requests);
        IF pause > 0 THEN
            SELECT least(r.requests_per_minute, r.requests_per_hour, r.requests_per_day) INTO most
            FROM @extschema@.steadytext_rate_limits r WHERE r.user_id = who;
            PERFORM @extschema@._steadytext_raise('53400', format('rate limit exceeded for "%s"', left(who, 100)),
                CASE WHEN requests > most THEN format('Queue at most %s requests at once.', most)
                     ELSE format('Try again in %s seconds.', ceil(pause)) END);
        END IF;
    END LOOP;
END
$$;

-- Take one request from a user's windows; false where one of them is used up. Ordinary roles ask for themselves.
CREATE FUNCTION @extschema@.steadytext_check_rate_limit(user_id text) RETURNS boolean
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_variable
BEGIN
    IF user_id IS NULL THEN
        PERFORM @extschema@._steadytext_raise('22004', 'user_id cannot be null');
    ELSIF user_id <> @extschema@._steadytext_caller() AND NOT @extschema@._steadytext_caller_is('steadytext_admin') THEN
        PERFORM @extschema@._steadytext_raise('42501', 'permission denied to use the rate limit of another user');
    END IF;
    RETURN @extschema@._steadytext_rate_take(user_id, 1) = 0;
END
$$;

-- Set a user's limits; null leaves one as it is, or takes the default for a user who had none.
CREATE FUNCTION @extschema@.steadytext_rate_limit_set(
    user_id text, requests_per_minute integer DEFAULT NULL, requests_per_hour integer DEFAULT NULL,
    requests_per_day integer DEFAULT NULL
) RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_variable
BEGIN
    IF user_id IS NULL THEN
        PERFORM @extschema@._steadytext_raise('22004', 'user_id cannot be null');
    ELSIF least(requests_per_minute, requests_per_hour, requests_per_day) < 1 OR length(user_id) NOT BETWEEN 1 AND 200 THEN
        PERFORM @extschema@._steadytext_raise('22023', 'user_id must have 1 to 200 characters, and every limit must be at least 1');
    END IF;
    INSERT INTO @extschema@.steadytext_rate_limits AS r (user_id, requests_per_minute, requests_per_hour, requests_per_day)
    VALUES (user_id, coalesce(requests_per_minute, 60), coalesce(requests_per_hour, 1000), coalesce(requests_per_day, 10000))
    ON CONFLICT ON CONSTRAINT steadytext_rate_limits_pkey DO UPDATE SET
        requests_per_minute = coalesce(requests_per_minute, r.requests_per_minute),
        requests_per_hour = coalesce(requests_per_hour, r.requests_per_hour),
        requests_per_day = coalesce(requests_per_day, r.requests_per_day);
    PERFORM @extschema@._steadytext_audit('rate_limit_set', jsonb_build_object(
        'user_id', user_id, 'per_minute', requests_per_minute, 'per_hour', requests_per_hour, 'per_day', requests_per_day));
END
$$;
