-- What an hour leaves behind: answers to old keys, ended sessions, memories that have expired or lain in the trash too long.
-- One process at a time does it, p_batch memories a call; the others are told 0.
CREATE OR REPLACE FUNCTION memory.cleanup(
    p_batch integer DEFAULT 1000, OUT idempotency_keys bigint, OUT web_sessions bigint, OUT trashed bigint, OUT purged bigint)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_user uuid;
    v_id uuid;
    v_done text;
BEGIN
    idempotency_keys := 0; web_sessions := 0; trashed := 0; purged := 0;
    IF NOT pg_try_advisory_xact_lock(hashtextextended('memory.cleanup', 7)) THEN
        RETURN;
    END IF;
    DELETE FROM memory.idempotency_keys k
    WHERE k.created_at <= now() - (SELECT r.keep FROM memory.retention r WHERE r.kind = 'idempotency_keys');
    GET DIAGNOSTICS idempotency_keys = ROW_COUNT;
    DELETE FROM memory.web_sessions s WHERE s.expires_at <= now();
    GET DIAGNOSTICS web_sessions = ROW_COUNT;
    DELETE FROM memory.sign_in_attempts a WHERE a.since <= now() - memory.sign_in_window();
    PERFORM set_config('memory.actor', '{"kind": "service", "name": "cleanup"}', true);
    -- In the order of users, as every other transaction that locks more than one would.
    FOR v_user, v_id IN
        SELECT m.user_id, m.id FROM memory.memories m
        WHERE (m.expires_at <= now() AND m.deleted_at IS NULL)
           OR m.deleted_at <= now() - (SELECT r.keep FROM memory.retention r WHERE r.kind = 'trash')
        ORDER BY m.user_id, m.id LIMIT p_batch
    LOOP
        PERFORM set_config('memory.user_id', v_user::text, true);
        v_done := memory.retire(v_id);
        trashed := trashed + (v_done IS NOT DISTINCT FROM 'trashed')::integer;
        purged := purged + (v_done IS NOT DISTINCT FROM 'purged')::integer;
    END LOOP;
END
$$;

-- Looks again behind the lock: the owner may have been quicker.
CREATE OR REPLACE FUNCTION memory.retire(p_id uuid) RETURNS text
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_it memory.memories;
BEGIN
    PERFORM memory.lock_usage();
    SELECT * INTO v_it FROM memory.memories m WHERE m.user_id = memory.me() AND m.id = p_id;
    IF v_it.deleted_at IS NULL AND v_it.expires_at <= now() THEN
        PERFORM memory.put_away(v_it);
        RETURN 'trashed';
    ELSIF v_it.deleted_at <= now() - (SELECT r.keep FROM memory.retention r WHERE r.kind = 'trash') THEN
        PERFORM memory.purge(p_id, NULL);
        RETURN 'purged';
    END IF;
    RETURN NULL;
END
$$;
