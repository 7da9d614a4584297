-- The user's own row of memory.usage, locked to the end of the transaction.
CREATE OR REPLACE FUNCTION memory.lock_usage(OUT used memory.usage)
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    SELECT * INTO used FROM memory.usage u WHERE u.user_id = memory.me() FOR UPDATE;
END
$$;

CREATE OR REPLACE FUNCTION memory.refuse_amount(p_what text, p_limit bigint, p_used bigint, p_tier memory.tiers)
RETURNS void LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_lifted_by jsonb;
BEGIN
    SELECT coalesce(jsonb_agg(jsonb_build_object('plan', t.name, 'limit', to_jsonb(t) -> p_what) ORDER BY t.rank), '[]')
    INTO v_lifted_by FROM memory.tiers t WHERE (to_jsonb(t) ->> p_what)::bigint > p_limit;
    PERFORM memory.refuse(402, 'plan-limit',
        format('the plan %s holds %s %s; what is in the trash counts until it is deleted for good', p_tier.name, p_limit, p_what),
        jsonb_build_object('plan', p_tier.name, 'what', p_what, 'limit', p_limit, 'used', p_used, 'lifted_by', v_lifted_by));
END
$$;

-- Seconds until a day that began then is over, at least 1.
CREATE OR REPLACE FUNCTION memory.seconds_left(p_since timestamptz) RETURNS integer
LANGUAGE sql STABLE
RETURN greatest(1, ceil(86400 - extract(epoch FROM now() - p_since)))::integer;

CREATE OR REPLACE FUNCTION memory.refuse_rate(p_what text, p_limit bigint, p_since timestamptz, p_tier memory.tiers)
RETURNS void LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM memory.refuse(429, 'daily-limit',
        format('the plan %s allows %s %s a day', p_tier.name, p_limit, p_what),
        jsonb_build_object('plan', p_tier.name, 'what', p_what, 'limit', p_limit, 'remaining', 0,
                           'reset', memory.seconds_left(p_since)));
END
$$;

-- Count a write in its own transaction, or refuse it; the counters never pass their limits. A negative amount gives back.
CREATE OR REPLACE FUNCTION memory.count_write(p_memories bigint, p_bytes bigint, p_saves bigint)
RETURNS void LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM memory.count_locked(memory.lock_usage(), p_memories, p_bytes, p_saves);
END
$$;

-- The same for a row that is locked already.
CREATE OR REPLACE FUNCTION memory.count_locked(
    p_used memory.usage, p_memories bigint, p_bytes bigint, p_saves bigint,
    OUT saves_limit bigint, OUT saves_left bigint, OUT saves_reset integer)
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_used memory.usage := p_used;
    v_tier memory.tiers;
BEGIN
    SELECT * INTO v_tier FROM memory.tiers t WHERE t.name = v_used.tier;
    IF now() >= v_used.saves_since + interval '1 day' THEN
        v_used.saves := 0;
        v_used.saves_since := now();
    END IF;
    IF p_saves > 0 AND v_used.saves + p_saves > v_tier.saves_a_day THEN
        PERFORM memory.refuse_rate('saves', v_tier.saves_a_day, v_used.saves_since, v_tier);
    ELSIF p_memories > 0 AND v_used.memories + p_memories > v_tier.memories THEN
        PERFORM memory.refuse_amount('memories', v_tier.memories, v_used.memories, v_tier);
    ELSIF p_bytes > 0 AND v_used.bytes + p_bytes > v_tier.bytes THEN
        PERFORM memory.refuse_amount('bytes', v_tier.bytes, v_used.bytes, v_tier);
    END IF;
    UPDATE memory.usage u
    SET memories = v_used.memories + p_memories, bytes = v_used.bytes + p_bytes, saves = v_used.saves + p_saves,
        saves_since = v_used.saves_since
    WHERE u.user_id = v_used.user_id;
    saves_limit := v_tier.saves_a_day;
    saves_left := greatest(0, v_tier.saves_a_day - v_used.saves - p_saves);
    saves_reset := memory.seconds_left(v_used.saves_since);
END
$$;

-- Count searches or enrichments of the day, or refuse them.
CREATE OR REPLACE FUNCTION memory.count_rate(p_kind text, p_amount bigint DEFAULT 1, OUT remaining bigint)
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_tier memory.tiers;
    v_limit bigint;
    v_since timestamptz;
BEGIN
    SELECT t.* INTO v_tier FROM memory.usage u JOIN memory.tiers t ON t.name = u.tier WHERE u.user_id = memory.me();
    v_limit := CASE p_kind WHEN 'searches' THEN v_tier.searches_a_day WHEN 'enrichments' THEN v_tier.enrichments_a_day END;
    IF p_amount <= v_limit THEN
        INSERT INTO memory.usage_rates AS r (user_id, kind, used, since) VALUES (memory.me(), p_kind, p_amount, now())
        ON CONFLICT (user_id, kind) DO UPDATE
        SET used = CASE WHEN now() >= r.since + interval '1 day' THEN p_amount ELSE r.used + p_amount END,
            since = CASE WHEN now() >= r.since + interval '1 day' THEN now() ELSE r.since END
        WHERE now() >= r.since + interval '1 day' OR r.used + p_amount <= v_limit
        RETURNING v_limit - r.used INTO remaining;
    END IF;
    IF remaining IS NULL THEN
        SELECT r.since INTO v_since FROM memory.usage_rates r WHERE r.user_id = memory.me() AND r.kind = p_kind;
        PERFORM memory.refuse_rate(p_kind, v_limit, coalesce(v_since, now()), v_tier);
    END IF;
END
$$;

-- What the plan allows and what of it is used, as the usage endpoint shows it.
CREATE OR REPLACE FUNCTION memory.usage_json() RETURNS jsonb
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT jsonb_build_object(
        'plan', t.name,
        'memories', jsonb_build_object('used', u.memories, 'limit', t.memories),
        'bytes', jsonb_build_object('used', u.bytes, 'limit', t.bytes),
        'saves', memory.rate_json(u.saves, u.saves_since, t.saves_a_day),
        'searches', memory.rate_json(s.used, s.since, t.searches_a_day),
        'enrichments', memory.rate_json(e.used, e.since, t.enrichments_a_day))
    FROM memory.usage u
    JOIN memory.tiers t ON t.name = u.tier
    LEFT JOIN memory.usage_rates s ON s.user_id = u.user_id AND s.kind = 'searches'
    LEFT JOIN memory.usage_rates e ON e.user_id = u.user_id AND e.kind = 'enrichments'
    WHERE u.user_id = memory.me()
$$;

CREATE OR REPLACE FUNCTION memory.rate_json(p_used bigint, p_since timestamptz, p_limit bigint) RETURNS jsonb
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT CASE WHEN p_since > now() - interval '1 day'
        THEN jsonb_build_object('used', p_used, 'limit', p_limit, 'reset', memory.seconds_left(p_since))
        ELSE jsonb_build_object('used', 0, 'limit', p_limit, 'reset', 86400) END
$$;
