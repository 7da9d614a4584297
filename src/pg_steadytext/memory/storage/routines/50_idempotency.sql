-- The stored answer to this request, or null and the key is this transaction's. Two at once are told apart by a lock that
-- ends with the transaction: the second is refused and not kept waiting.
CREATE OR REPLACE FUNCTION memory.idempotency_begin(
    p_method text, p_path text, p_key text, p_fingerprint bytea, OUT answer memory.idempotency_keys)
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_me uuid := memory.me();
BEGIN
    IF NOT pg_try_advisory_xact_lock(hashtextextended(concat_ws(chr(31), v_me, p_method, p_path, p_key), 7)) THEN
        PERFORM memory.refuse(409, 'idempotency-in-flight', 'a request with this Idempotency-Key is being carried out');
    END IF;
    SELECT * INTO answer FROM memory.idempotency_keys k
    WHERE k.user_id = v_me AND k.key = p_key AND k.path = p_path AND k.method = p_method
      AND k.created_at > now() - (SELECT r.keep FROM memory.retention r WHERE r.kind = 'idempotency_keys');
    IF answer.fingerprint <> p_fingerprint THEN
        PERFORM memory.refuse(422, 'idempotency-mismatch', 'this Idempotency-Key was used with another request');
    END IF;
END
$$;

CREATE OR REPLACE FUNCTION memory.idempotency_end(
    p_method text, p_path text, p_key text, p_fingerprint bytea, p_status integer, p_headers jsonb, p_body text)
RETURNS void LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    INSERT INTO memory.idempotency_keys (user_id, method, path, key, fingerprint, status, headers, body)
    VALUES (memory.me(), p_method, p_path, p_key, p_fingerprint, p_status, p_headers, p_body)
    ON CONFLICT (user_id, key, path, method) DO UPDATE  -- only one that is too old to count
    SET fingerprint = excluded.fingerprint, status = excluded.status, headers = excluded.headers,
        body = excluded.body, created_at = now();
END
$$;

-- A whole save: who, idempotency, plan, duplicate, memory, history, answer.
CREATE OR REPLACE FUNCTION memory.save(
    p_kind text, p_hash bytea, p_csrf bytea, p_path text, p_key text, p_fingerprint bytea, p_note jsonb, p_force boolean,
    OUT status integer, OUT headers jsonb, OUT body text, OUT is_replay boolean)
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_stored memory.idempotency_keys;
    v_added record;
BEGIN
    PERFORM memory.enter(p_kind, p_hash, 'memories:write', p_csrf);
    IF p_key IS NOT NULL THEN
        v_stored := memory.idempotency_begin('POST', p_path, p_key, p_fingerprint);
        IF v_stored.key IS NOT NULL THEN
            status := v_stored.status;
            headers := v_stored.headers;
            body := v_stored.body;
            is_replay := true;
            RETURN;
        END IF;
    END IF;
    SELECT * INTO v_added FROM memory.add(p_note, p_force);
    status := CASE WHEN v_added.is_new THEN 201 ELSE 200 END;
    is_replay := false;
    headers := jsonb_build_object(
        'ETag', '"v' || (v_added.kept).version || '"',
        CASE WHEN v_added.is_new THEN 'Location' ELSE 'Content-Location' END, '/v1/memories/' || (v_added.kept).id,
        'RateLimit-Limit', v_added.saves_limit::text, 'RateLimit-Remaining', v_added.saves_left::text,
        'RateLimit-Reset', v_added.saves_reset::text);
    body := memory.memory_json(v_added.kept);
    IF p_key IS NOT NULL THEN
        PERFORM memory.idempotency_end('POST', p_path, p_key, p_fingerprint, status, headers, body);
    END IF;
END
$$;

-- Saves of several callers in one statement, and so in one transaction and one round trip; each is carried out whole or
-- refused by itself. What a refusal raises is returned: failure is its SQLSTATE, message and detail. With p_patience, a save
-- that waits longer for a lock is given up for now, with the failure 55P03, and keeps nobody waiting.
CREATE OR REPLACE FUNCTION memory.save_group(p_saves jsonb, p_patience text)
RETURNS TABLE (status integer, headers jsonb, body text, is_replay boolean, failure text, message text, detail text)
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_role constant text := current_setting('role');
    v_one jsonb;
BEGIN
    IF p_patience IS NOT NULL THEN
        PERFORM set_config('lock_timeout', p_patience, true);
    END IF;
    FOR v_one IN SELECT e.one FROM jsonb_array_elements(p_saves) WITH ORDINALITY e (one, nr) ORDER BY e.nr LOOP
        BEGIN
            SELECT s.* INTO status, headers, body, is_replay
            FROM memory.save(
                v_one ->> 'kind', (v_one ->> 'hash')::bytea, (v_one ->> 'csrf')::bytea, v_one ->> 'path', v_one ->> 'key',
                (v_one ->> 'fingerprint')::bytea, v_one -> 'note', (v_one -> 'force')::boolean) s;
            failure := NULL;
        EXCEPTION WHEN OTHERS THEN
            IF SQLSTATE NOT LIKE 'MC%' AND (p_patience IS NULL OR SQLSTATE NOT IN ('55P03', '40P01')) THEN
                RAISE;
            END IF;
            SELECT NULL, NULL, NULL, NULL INTO status, headers, body, is_replay;
            GET STACKED DIAGNOSTICS failure = RETURNED_SQLSTATE, message = MESSAGE_TEXT, detail = PG_EXCEPTION_DETAIL;
        END;
        RETURN NEXT;
        -- The next one is another's: whose it is can be looked up again.
        PERFORM set_config('role', v_role, true);
    END LOOP;
END
$$;
