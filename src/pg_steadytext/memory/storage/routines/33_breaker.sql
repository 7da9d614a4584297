-- Count the end of a call, and tell what the window holds since the breaker last changed; a call from before that counts
-- for nothing. Seconds are PostgreSQL's, which all processes share.
CREATE OR REPLACE FUNCTION memory.breaker_count(
    p_name text, p_revision bigint, p_failed boolean, p_slow boolean, p_cost bigint, p_window integer,
    OUT calls bigint, OUT failures bigint, OUT slow bigint, OUT cost_micros bigint)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_second timestamptz := date_trunc('second', clock_timestamp());
BEGIN
    INSERT INTO memory.ai_breakers (name) VALUES (p_name) ON CONFLICT DO NOTHING;
    IF NOT EXISTS (SELECT FROM memory.ai_breakers b WHERE b.name = p_name AND b.revision = p_revision) THEN
        SELECT 0, 0, 0, 0 INTO calls, failures, slow, cost_micros;
        RETURN;
    END IF;
    INSERT INTO memory.ai_breaker_calls AS c (name, second, calls, failures, slow, cost_micros)
    VALUES (p_name, v_second, 1, p_failed::integer, p_slow::integer, p_cost)
    ON CONFLICT (name, second) DO UPDATE
    SET calls = c.calls + 1, failures = c.failures + excluded.failures, slow = c.slow + excluded.slow,
        cost_micros = c.cost_micros + excluded.cost_micros;
    SELECT sum(c.calls), sum(c.failures), sum(c.slow), sum(c.cost_micros) INTO calls, failures, slow, cost_micros
    FROM memory.ai_breaker_calls c
    WHERE c.name = p_name AND c.second > v_second - make_interval(secs => p_window);
END
$$;

-- Seconds that no window reaches any more.
CREATE OR REPLACE FUNCTION memory.forget_calls() RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_gone bigint;
BEGIN
    DELETE FROM memory.ai_breaker_calls c WHERE c.second < now() - interval '2 hours';
    GET DIAGNOSTICS v_gone = ROW_COUNT;
    RETURN v_gone;
END
$$;

-- Every breaker there is, and every model with a price, whose breaker was never asked and is closed.
CREATE OR REPLACE FUNCTION memory.breakers_json() RETURNS jsonb
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT coalesce(jsonb_agg(jsonb_build_object(
        'name', n.name, 'state', coalesce(b.state, 'closed'), 'reason', b.reason,
        'changed_at', memory.iso(b.changed_at), 'retry_at', memory.iso(b.retry_at)) ORDER BY n.name), '[]')
    FROM (SELECT o.name FROM memory.ai_breakers o UNION SELECT p.model FROM memory.ai_prices p) n
    LEFT JOIN memory.ai_breakers b ON b.name = n.name
$$;

GRANT EXECUTE ON FUNCTION memory.breaker_count(text, bigint, boolean, boolean, bigint, integer), memory.forget_calls()
TO memory_service;
GRANT EXECUTE ON FUNCTION memory.breakers_json() TO memory_admin;
