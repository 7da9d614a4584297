-- Who a token belongs to: the one way past row-level security before a user is known. Both kinds of token are 256 random
-- bits, so that their plain SHA-256 tells nothing.
CREATE OR REPLACE FUNCTION memory.identify(
    p_kind text, p_hash bytea,
    OUT user_id uuid, OUT scopes text[], OUT actor jsonb, OUT csrf_hash bytea)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_used timestamptz;
    v_key uuid;
    v_role text;
BEGIN
    IF p_kind = 'session' THEN
        SELECT s.user_id, u.role, s.csrf_hash, jsonb_build_object('kind', 'session', 'name', u.name),
               ARRAY['memories:read', 'memories:write', 'admin']
        INTO user_id, v_role, csrf_hash, actor, scopes
        FROM memory.web_sessions s JOIN memory.users u ON u.id = s.user_id
        WHERE s.token_hash = p_hash AND s.expires_at > now();
    ELSE
        SELECT k.user_id, u.role, k.scopes, jsonb_build_object('kind', 'key', 'id', k.id, 'name', k.name), k.id,
               k.last_used_at
        INTO user_id, v_role, scopes, actor, v_key, v_used
        FROM memory.api_keys k JOIN memory.users u ON u.id = k.user_id
        WHERE k.token_hash = p_hash AND k.revoked_at IS NULL AND (k.expires_at IS NULL OR k.expires_at > now());
        -- By the hour, and never waiting for another request with the same key.
        IF v_key IS NOT NULL AND (v_used IS NULL OR v_used < now() - interval '1 hour') THEN
            UPDATE memory.api_keys k SET last_used_at = now()
            WHERE (k.user_id, k.id) = (SELECT s.user_id, s.id FROM memory.api_keys s WHERE s.token_hash = p_hash
                                       FOR NO KEY UPDATE SKIP LOCKED);
        END IF;
    END IF;
    IF v_role IS DISTINCT FROM 'admin' THEN
        scopes := array_remove(scopes, 'admin');
    END IF;
END
$$;

-- Begin a request's transaction: from here on it is the user's, under row-level security. p_csrf is the SHA-256 of the
-- token sent beside the cookie where one is needed, and null where not.
CREATE OR REPLACE FUNCTION memory.enter(
    p_kind text, p_hash bytea, p_scope text, p_csrf bytea DEFAULT NULL, OUT user_id uuid, OUT scopes text[])
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_known record;
BEGIN
    SELECT * INTO v_known FROM memory.identify(p_kind, p_hash);
    user_id := v_known.user_id;
    scopes := v_known.scopes;
    IF user_id IS NULL THEN
        PERFORM memory.refuse(401, 'unknown-credentials', 'the key or session is unknown, revoked or has ended');
    ELSIF NOT p_scope = ANY (scopes) THEN
        PERFORM memory.refuse(403, 'missing-scope', 'this needs the scope ' || p_scope,
                              jsonb_build_object('scope', p_scope, 'scopes', scopes));
    ELSIF p_kind = 'session' AND p_csrf <> v_known.csrf_hash THEN
        PERFORM memory.refuse(403, 'csrf', 'the header X-CSRF-Token is missing or is not this session''s');
    END IF;
    PERFORM set_config('memory.user_id', user_id::text, true),
            set_config('memory.actor', v_known.actor::text, true),
            set_config('role', CASE p_scope WHEN 'admin' THEN 'memory_admin' ELSE 'memory_app' END, true);
END
$$;

CREATE OR REPLACE FUNCTION memory.register(p_id uuid, p_email text, p_name text, p_password_hash text)
RETURNS void LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    INSERT INTO memory.users (id, email, name, password_hash) VALUES (p_id, lower(p_email), p_name, p_password_hash)
    ON CONFLICT (email) DO NOTHING;
    IF NOT FOUND THEN
        PERFORM memory.refuse(409, 'email-taken', 'there is an account with this e-mail address');
    END IF;
    INSERT INTO memory.usage (user_id) VALUES (p_id);
END
$$;

CREATE OR REPLACE FUNCTION memory.address_hash(p_email text) RETURNS bytea
LANGUAGE sql IMMUTABLE
RETURN sha256(convert_to(lower(p_email), 'UTF8'));

CREATE OR REPLACE FUNCTION memory.sign_in_window() RETURNS interval
LANGUAGE sql IMMUTABLE
RETURN interval '15 minutes';

-- What a password is to be checked against. It counts as an attempt before anybody knows its outcome, so that many at once
-- are no more than many in a row; memory.open_session takes back the count.
CREATE OR REPLACE FUNCTION memory.credentials(p_email text, OUT user_id uuid, OUT password_hash text)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    c_most CONSTANT integer := 20;
    v_began timestamptz := now() - memory.sign_in_window();
    v_attempts integer;
    v_left integer;
BEGIN
    INSERT INTO memory.sign_in_attempts AS a VALUES (memory.address_hash(p_email), 1, now())
    ON CONFLICT (email_hash) DO UPDATE SET
        attempts = CASE WHEN a.since <= v_began THEN 1 ELSE a.attempts + 1 END,
        since = CASE WHEN a.since <= v_began THEN now() ELSE a.since END
    RETURNING a.attempts, greatest(1, ceil(extract(epoch FROM a.since - v_began))) INTO v_attempts, v_left;
    IF v_attempts > c_most THEN
        PERFORM memory.refuse(429, 'too-many-attempts', 'too many wrong passwords for this e-mail address; keys and sessions go on',
                              jsonb_build_object('limit', c_most, 'remaining', 0, 'reset', v_left));
    END IF;
    SELECT u.id, u.password_hash INTO user_id, password_hash FROM memory.users u WHERE u.email = lower(p_email);
END
$$;

CREATE OR REPLACE FUNCTION memory.open_session(
    p_id uuid, p_user_id uuid, p_token_hash bytea, p_csrf_hash bytea, p_lasts interval)
RETURNS timestamptz LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    DELETE FROM memory.sign_in_attempts a
    WHERE a.email_hash = (SELECT memory.address_hash(u.email) FROM memory.users u WHERE u.id = p_user_id);
    INSERT INTO memory.web_sessions (id, user_id, token_hash, csrf_hash, expires_at)
    VALUES (p_id, p_user_id, p_token_hash, p_csrf_hash, now() + p_lasts) RETURNING expires_at
$$;

CREATE OR REPLACE FUNCTION memory.close_session(p_token_hash bytea)
RETURNS void LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    DELETE FROM memory.web_sessions WHERE token_hash = p_token_hash
$$;
