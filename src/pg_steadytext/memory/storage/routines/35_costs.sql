-- Bring the costs up to date beside their readers. Every process tries each minute, pg_cron may too: one does it, and only
-- when the last time is p_older ago.
CREATE OR REPLACE FUNCTION memory.refresh_costs(p_older interval DEFAULT '50 seconds') RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF NOT pg_try_advisory_xact_lock(hashtextextended('memory.refresh_costs', 7)) THEN
        RETURN false;
    END IF;
    -- a statement of its own: its snapshot is taken under the lock, so it shows who was here a moment ago
    IF EXISTS (SELECT FROM memory.ai_cost_refreshed r WHERE r.at > clock_timestamp() - p_older) THEN
        RETURN false;
    END IF;
    REFRESH MATERIALIZED VIEW CONCURRENTLY memory.ai_cost_by_day;
    UPDATE memory.ai_cost_refreshed SET at = clock_timestamp();
    RETURN true;
END
$$;

-- Costs from a day to another, by day, model, purpose or user; users that are gone have no id.
CREATE OR REPLACE FUNCTION memory.costs_json(p_by text, p_from date, p_to date) RETURNS jsonb
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT jsonb_build_object(
        'by', p_by, 'from', p_from, 'to', p_to, 'refreshed_at', memory.iso((SELECT nullif(r.at, '-infinity') FROM memory.ai_cost_refreshed r)),
        'items', coalesce(jsonb_agg(to_jsonb(s) ORDER BY s.cost_micros DESC, s.key), '[]'))
    FROM (SELECT CASE p_by WHEN 'day' THEN c.day::text WHEN 'model' THEN c.model WHEN 'purpose' THEN c.purpose
                           ELSE u.id::text END AS key,
                 sum(c.calls)::bigint AS calls, sum(c.input_tokens)::bigint AS input_tokens,
                 sum(c.output_tokens)::bigint AS output_tokens, sum(c.cost_micros)::bigint AS cost_micros
          FROM memory.ai_cost_by_day c LEFT JOIN memory.users u ON u.id = c.user_id
          WHERE c.day BETWEEN p_from AND p_to GROUP BY 1) s
$$;

-- The month to its end, if the last seven days go on.
CREATE OR REPLACE FUNCTION memory.spent_lately(
    OUT month_micros bigint, OUT week_micros bigint, OUT limit_micros bigint, OUT at timestamptz,
    OUT starts_at timestamptz, OUT ends_at timestamptz, OUT first_at timestamptz)
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    at := now();
    starts_at := memory.window_start('month', at);
    ends_at := memory.window_end('month', at);
    SELECT coalesce(sum(w.spent_micros + w.reserved_micros), 0) INTO month_micros FROM memory.ai_budget_windows w
    WHERE w.scope = 'global' AND w.period = 'month' AND w.starts_at = spent_lately.starts_at;
    SELECT coalesce(sum(l.cost_micros), 0), min(l.reserved_at) INTO week_micros, first_at FROM memory.ai_ledger l
    WHERE l.reserved_at > at - interval '7 days' AND l.state = 'settled';
    SELECT b.limit_micros INTO limit_micros FROM memory.ai_budgets b WHERE b.scope = 'global' AND b.period = 'month';
END
$$;

CREATE OR REPLACE FUNCTION memory.budgets_json() RETURNS jsonb
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT coalesce(jsonb_agg(jsonb_build_object(
        'scope', b.scope, 'period', b.period, 'limit_micros', b.limit_micros,
        'spent_micros', CASE b.scope WHEN 'global' THEN coalesce(w.spent_micros, 0) END,
        'reserved_micros', CASE b.scope WHEN 'global' THEN coalesce(w.reserved_micros, 0) END,
        'starts_at', memory.iso(memory.window_start(b.period, now())),
        'ends_at', memory.iso(memory.window_end(b.period, now()))) ORDER BY b.scope, b.period), '[]')
    FROM memory.ai_budgets b
    LEFT JOIN memory.ai_budget_windows w ON w.scope = 'global' AND b.scope = 'global' AND w.period = b.period
     AND w.starts_at = memory.window_start(b.period, now())
$$;

CREATE OR REPLACE FUNCTION memory.set_budget(p_scope text, p_period text, p_limit bigint) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    UPDATE memory.ai_budgets b SET limit_micros = p_limit WHERE b.scope = p_scope AND b.period = p_period;
    IF NOT FOUND THEN
        PERFORM memory.refuse(404, 'not-found', format('there is no budget %s/%s', p_scope, p_period));
    END IF;
END
$$;

-- How far enrichment is behind, over all users; no memory is shown.
CREATE OR REPLACE FUNCTION memory.enrichment_queue_json() RETURNS jsonb
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT jsonb_build_object(
        'pending', count(*) FILTER (WHERE m.enrichment_status = 'pending'),
        'paused', count(*) FILTER (WHERE m.enrichment_status = 'paused'),
        'oldest_at', memory.iso(min(m.updated_at)),
        'oldest_seconds', coalesce(greatest(0, floor(extract(epoch FROM now() - min(m.updated_at)))), 0)::bigint)
    FROM memory.memories m WHERE m.enrichment_status IN ('pending', 'paused') AND m.deleted_at IS NULL
$$;

GRANT EXECUTE ON FUNCTION memory.refresh_costs(interval) TO memory_service;
GRANT EXECUTE ON FUNCTION
    memory.costs_json(text, date, date), memory.spent_lately(), memory.budgets_json(),
    memory.set_budget(text, text, bigint), memory.enrichment_queue_json()
TO memory_admin;
