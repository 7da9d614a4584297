-- A reminder as every endpoint shows it.
CREATE OR REPLACE FUNCTION memory.reminder_json(r memory.reminders) RETURNS jsonb
LANGUAGE plpgsql STABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RETURN jsonb_build_object(
        'id', r.id, 'title', r.title, 'note', r.note, 'memory_id', r.memory_id, 'time_zone', r.time_zone,
        'starts_at', memory.wall(r.starts_at), 'rrule', r.rrule,
        'exdates', (SELECT coalesce(jsonb_agg(memory.wall(e) ORDER BY e), '[]') FROM unnest(r.exdates) e),
        'state', r.state, 'occurrence_at', memory.iso(r.occurrence_at), 'due_at', memory.iso(r.due_at),
        'due_local', memory.wall(r.due_at AT TIME ZONE r.time_zone), 'missed', r.missed,
        'next_at', memory.iso(r.next_at), 'snoozed_until', memory.iso(r.snoozed_until), 'announced', r.announced,
        'version', r.version, 'created_at', memory.iso(r.created_at), 'updated_at', memory.iso(r.updated_at));
END
$$;

CREATE OR REPLACE FUNCTION memory.wall(p_at timestamp) RETURNS text
LANGUAGE sql STABLE PARALLEL SAFE
RETURN pg_catalog.to_char(p_at, 'YYYY-MM-DD"T"HH24:MI:SS');

CREATE OR REPLACE FUNCTION memory.tell(r memory.reminders, p_kind text) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    INSERT INTO memory.reminder_events (user_id, seq, kind, reminder_id, content)
    VALUES (r.user_id, nextval('memory.reminder_event_seq'), p_kind, r.id,
            CASE p_kind WHEN 'deleted' THEN jsonb_build_object('id', r.id) ELSE memory.reminder_json(r) END);
    PERFORM pg_notify('memory_reminders', r.user_id::text);
END
$$;

CREATE OR REPLACE FUNCTION memory.check_reminder(r memory.reminders) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF r.memory_id IS NOT NULL AND NOT EXISTS (
        SELECT FROM memory.memories m WHERE m.user_id = r.user_id AND m.id = r.memory_id AND NOT memory.is_away(m)) THEN
        PERFORM memory.refuse(422, 'unknown-memory', 'memory_id names no memory of yours');
    END IF;
END
$$;

-- The fields come from the service, which knows calendars; counting, ownership and the feed are kept here.
CREATE OR REPLACE FUNCTION memory.add_reminder(p_reminder jsonb) RETURNS memory.reminders
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_me uuid := memory.me();
    r memory.reminders;
    v_tier memory.tiers;
    v_count bigint;
BEGIN
    SELECT t.* INTO v_tier FROM memory.tiers t WHERE t.name = (memory.lock_usage()).tier;
    SELECT count(*) INTO v_count FROM memory.reminders o WHERE o.user_id = v_me;
    IF v_count >= v_tier.reminders THEN
        PERFORM memory.refuse(402, 'plan-limit',
            format('the plan %s holds %s reminders; those that are done count until they are deleted', v_tier.name, v_tier.reminders),
            jsonb_build_object('plan', v_tier.name, 'what', 'reminders', 'limit', v_tier.reminders, 'used', v_count,
                'lifted_by', (SELECT coalesce(jsonb_agg(jsonb_build_object('plan', t.name, 'limit', t.reminders) ORDER BY t.rank), '[]')
                              FROM memory.tiers t WHERE t.reminders > v_tier.reminders)));
    END IF;
    r := jsonb_populate_record(NULL::memory.reminders, p_reminder);
    r.user_id := v_me;
    PERFORM memory.check_reminder(r);
    INSERT INTO memory.reminders AS i
        (user_id, id, title, note, memory_id, time_zone, starts_at, rrule, exdates, state, occurrence_at, missed, next_at,
         announced, fire_at)
    VALUES (v_me, r.id, r.title, r.note, r.memory_id, r.time_zone, r.starts_at, r.rrule, r.exdates, r.state,
            r.occurrence_at, r.missed, r.next_at, r.announced, r.fire_at)
    RETURNING i.* INTO r;
    PERFORM memory.tell(r, 'created');
    RETURN r;
END
$$;

-- The reminder that a write is about, behind the lock that all the user's writes take.
CREATE OR REPLACE FUNCTION memory.take_reminder(p_id uuid, p_versions bigint[], OUT taken memory.reminders)
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_me uuid := memory.me();
BEGIN
    PERFORM memory.lock_usage();
    SELECT * INTO taken FROM memory.reminders r WHERE r.user_id = v_me AND r.id = p_id;
    IF taken.id IS NULL THEN
        PERFORM memory.refuse(404, 'not-found', 'there is no such reminder');
    ELSIF NOT taken.version = ANY (p_versions) THEN
        PERFORM memory.refuse(412, 'version-mismatch',
            format('the reminder is at version %s now; change that one', taken.version),
            jsonb_build_object('current', memory.reminder_json(taken), 'etag', format('"v%s"', taken.version)));
    END IF;
END
$$;

-- Write a reminder back whose row the caller has locked; p_kind is what happened.
CREATE OR REPLACE FUNCTION memory.put_reminder(p_id uuid, p_changes jsonb, p_kind text) RETURNS memory.reminders
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_me uuid := memory.me();
    v_was memory.reminders;
    r memory.reminders;
BEGIN
    SELECT * INTO v_was FROM memory.reminders o WHERE o.user_id = v_me AND o.id = p_id;
    r := jsonb_populate_record(v_was, p_changes);
    IF r.memory_id IS DISTINCT FROM v_was.memory_id THEN
        PERFORM memory.check_reminder(r);
    END IF;
    UPDATE memory.reminders o
    SET title = r.title, note = r.note, memory_id = r.memory_id, time_zone = r.time_zone, starts_at = r.starts_at,
        rrule = r.rrule, exdates = r.exdates, state = r.state, occurrence_at = r.occurrence_at, missed = r.missed,
        next_at = r.next_at, snoozed_until = r.snoozed_until, announced = r.announced, fire_at = r.fire_at,
        version = o.version + 1, updated_at = now()
    WHERE o.user_id = v_me AND o.id = p_id
    RETURNING o.* INTO r;
    PERFORM memory.tell(r, p_kind);
    RETURN r;
END
$$;

CREATE OR REPLACE FUNCTION memory.has_answer(p_id uuid, p_occurrence timestamptz) RETURNS boolean
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RETURN EXISTS (SELECT FROM memory.reminder_answers a
                   WHERE a.user_id = memory.me() AND a.reminder_id = p_id AND a.occurrence_at = p_occurrence);
END
$$;

-- Answer the occurrence at hand; the series stands at p_changes afterwards.
CREATE OR REPLACE FUNCTION memory.answer_reminder(r memory.reminders, p_answer text, p_changes jsonb)
RETURNS memory.reminders LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    INSERT INTO memory.reminder_answers (user_id, reminder_id, occurrence_at, answer, missed, actor)
    VALUES (r.user_id, r.id, r.occurrence_at, p_answer, r.missed, current_setting('memory.actor')::jsonb)
    -- A series that was set anew may come to a slot again.
    ON CONFLICT (user_id, reminder_id, occurrence_at) DO NOTHING;
    RETURN memory.put_reminder(r.id, p_changes, p_answer);
END
$$;

CREATE OR REPLACE FUNCTION memory.delete_reminder(p_id uuid, p_versions bigint[]) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    r memory.reminders := memory.take_reminder(p_id, p_versions);
BEGIN
    DELETE FROM memory.reminders o WHERE o.user_id = memory.me() AND o.id = p_id;
    PERFORM memory.tell(r, 'deleted');
END
$$;

-- Begin the transaction of a calendar's request: the user's, to read.
CREATE OR REPLACE FUNCTION memory.find_feed(p_hash bytea) RETURNS uuid
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT f.user_id FROM memory.calendar_feeds f WHERE f.token_hash = p_hash AND f.revoked_at IS NULL
$$;

CREATE OR REPLACE FUNCTION memory.enter_feed(p_hash bytea, OUT user_id uuid, OUT scopes text[])
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    user_id := memory.find_feed(p_hash);
    scopes := '{}';
    IF user_id IS NULL THEN
        PERFORM memory.refuse(401, 'unknown-credentials', 'the token is unknown or revoked');
    END IF;
    PERFORM set_config('memory.user_id', user_id::text, true), set_config('role', 'memory_app', true);
END
$$;

-- For the scheduler, whose transaction holds the lock that makes it the only one.
CREATE OR REPLACE FUNCTION memory.reminders_lead() RETURNS boolean
LANGUAGE sql SET search_path = pg_catalog, pg_temp AS $$
    SELECT pg_try_advisory_xact_lock(hashtextextended('memory.reminders', 7))
$$;

-- The reminders with which something is to be done at that time, the longest waiting first, and how long until the next.
CREATE OR REPLACE FUNCTION memory.reminders_to_fire(p_now timestamptz, p_limit integer) RETURNS SETOF memory.reminders
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT r.* FROM memory.reminders r WHERE r.fire_at <= p_now ORDER BY r.fire_at LIMIT p_limit
$$;

CREATE OR REPLACE FUNCTION memory.reminders_wait(p_now timestamptz) RETURNS double precision
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT extract(epoch FROM min(r.fire_at) - p_now)::double precision FROM memory.reminders r WHERE r.fire_at IS NOT NULL
$$;

-- Put down what the scheduler found out: [{"user_id", "id", "version", "kind", …fields}]. A reminder that somebody changed
-- in the meantime is left for the next look. Users come in their order, as in every transaction that locks several.
CREATE OR REPLACE FUNCTION memory.fire_reminders(p_fired jsonb) RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_one jsonb;
    v_user uuid;
    v_fired bigint := 0;
BEGIN
    FOR v_one IN
        SELECT f FROM jsonb_array_elements(p_fired) f ORDER BY (f ->> 'user_id')::uuid, f ->> 'due_at', (f ->> 'id')::uuid
    LOOP
        IF v_user IS DISTINCT FROM (v_one ->> 'user_id')::uuid THEN
            v_user := (v_one ->> 'user_id')::uuid;
            PERFORM set_config('memory.user_id', v_user::text, true);
            PERFORM memory.lock_usage();
        END IF;
        IF EXISTS (SELECT FROM memory.reminders r WHERE r.user_id = v_user AND r.id = (v_one ->> 'id')::uuid
                   AND r.version = (v_one ->> 'version')::bigint AND r.state = 'active') THEN
            BEGIN
                PERFORM memory.put_reminder((v_one ->> 'id')::uuid, v_one - '{user_id,id,version,kind,due_at}'::text[],
                                            v_one ->> 'kind');
                v_fired := v_fired + 1;
            EXCEPTION WHEN data_exception OR integrity_constraint_violation THEN
                -- One that cannot be told of, such as one in a zone that is no more, waits; the others do not.
                RAISE WARNING 'reminder % of % cannot be told of: %', v_one ->> 'id', v_user, SQLERRM;
                UPDATE memory.reminders r SET fire_at = now() + interval '1 hour'
                WHERE r.user_id = v_user AND r.id = (v_one ->> 'id')::uuid;
            END;
        END IF;
    END LOOP;
    RETURN v_fired;
END
$$;

CREATE OR REPLACE FUNCTION memory.events_cleared() RETURNS bigint
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT c.seq FROM memory.reminder_events_cleared c
$$;

-- Events that are older than they are kept.
CREATE OR REPLACE FUNCTION memory.clear_reminder_events() RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_cleared bigint;
    v_seq bigint;
BEGIN
    WITH old AS (
        DELETE FROM memory.reminder_events e
        WHERE e.at <= now() - (SELECT r.keep FROM memory.retention r WHERE r.kind = 'reminder_events') RETURNING e.seq)
    SELECT count(*), max(old.seq) INTO v_cleared, v_seq FROM old;
    UPDATE memory.reminder_events_cleared c SET seq = greatest(c.seq, v_seq) WHERE v_seq IS NOT NULL;
    RETURN v_cleared;
END
$$;

GRANT EXECUTE ON FUNCTION memory.wall(timestamp) TO memory_app, memory_service;
GRANT EXECUTE ON FUNCTION
    memory.reminder_json(memory.reminders), memory.tell(memory.reminders, text), memory.check_reminder(memory.reminders),
    memory.add_reminder(jsonb), memory.take_reminder(uuid, bigint[]), memory.put_reminder(uuid, jsonb, text),
    memory.has_answer(uuid, timestamptz), memory.answer_reminder(memory.reminders, text, jsonb),
    memory.delete_reminder(uuid, bigint[]), memory.events_cleared()
TO memory_app;
GRANT EXECUTE ON FUNCTION
    memory.find_feed(bytea), memory.enter_feed(bytea), memory.reminders_lead(), memory.reminders_to_fire(timestamptz, integer),
    memory.reminders_wait(timestamptz), memory.fire_reminders(jsonb), memory.clear_reminder_events()
TO memory_service;
