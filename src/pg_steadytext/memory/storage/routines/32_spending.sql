-- What tokens of a model cost, rounded up to a millionth of a dollar; null for a model without a price.
CREATE OR REPLACE FUNCTION memory.price(p_model text, p_at timestamptz, p_read bigint, p_written bigint) RETURNS bigint
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT ceil((p.input_micros::numeric * p_read + p.output_micros::numeric * p_written) / 1000000)::bigint
    FROM memory.ai_prices p WHERE p.model = p_model AND p.valid_from <= p_at ORDER BY p.valid_from DESC LIMIT 1
$$;

-- When the budget window around p_at begins: days and months are those of UTC.
CREATE OR REPLACE FUNCTION memory.window_start(p_period text, p_at timestamptz) RETURNS timestamptz
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT date_trunc(p_period, p_at AT TIME ZONE 'UTC') AT TIME ZONE 'UTC'
$$;

CREATE OR REPLACE FUNCTION memory.window_end(p_period text, p_at timestamptz) RETURNS timestamptz
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT (date_trunc(p_period, p_at AT TIME ZONE 'UTC') + ('1 ' || p_period)::interval) AT TIME ZONE 'UTC'
$$;

-- The window's row, made when there is none, and locked to the end of the transaction. Who locks more than one goes by
-- scope and period: global before user, day before month.
CREATE OR REPLACE FUNCTION memory.lock_window(
    p_scope text, p_period text, p_user uuid, p_at timestamptz, OUT held memory.ai_budget_windows)
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_user uuid := CASE p_scope WHEN 'user' THEN p_user END;
    v_start timestamptz := memory.window_start(p_period, p_at);
    v_nil uuid := '00000000-0000-0000-0000-000000000000';
BEGIN
    LOOP
        SELECT * INTO held FROM memory.ai_budget_windows w
        WHERE w.scope = p_scope AND w.period = p_period AND w.starts_at = v_start
          AND coalesce(w.user_id, '00000000-0000-0000-0000-000000000000') = coalesce(v_user, v_nil) FOR UPDATE;
        EXIT WHEN held.id IS NOT NULL;
        INSERT INTO memory.ai_budget_windows (scope, period, user_id, starts_at)
        VALUES (p_scope, p_period, v_user, v_start) ON CONFLICT DO NOTHING;
    END LOOP;
END
$$;

-- Reserve what a call may cost in every budget, and count it against the plan's day where it is an enrichment. A refusal
-- is an answer here and no exception, so that the alert it raises stays. p_lasts is when the call counts as lost.
CREATE OR REPLACE FUNCTION memory.reserve(
    p_id uuid, p_user uuid, p_model text, p_purpose text, p_read bigint, p_written bigint, p_lasts interval,
    OUT micros bigint, OUT refusal text, OUT says text, OUT retry_at timestamptz)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_budget memory.ai_budgets;
    v_window memory.ai_budget_windows;
    v_ids bigint[] := '{}';
    v_until timestamptz;
    v_detail text;
BEGIN
    micros := memory.price(p_model, now(), p_read, p_written);
    IF micros IS NULL THEN
        refusal := 'no-price';
        says := format('the model %s has no price in memory.ai_prices', p_model);
        RETURN;
    END IF;
    -- Before the windows, as an erasure has it, so that the two never wait for each other.
    PERFORM FROM memory.users u WHERE u.id = p_user FOR KEY SHARE;
    IF NOT FOUND THEN
        refusal := 'no-user';
        says := format('there is no user %s', p_user);
        RETURN;
    END IF;
    FOR v_budget IN SELECT * FROM memory.ai_budgets b ORDER BY b.scope, b.period LOOP
        v_window := memory.lock_window(v_budget.scope, v_budget.period, p_user, now());
        v_ids := v_ids || v_window.id;
        CONTINUE WHEN v_window.spent_micros + v_window.reserved_micros + micros <= v_budget.limit_micros;
        refusal := coalesce(refusal, 'budget');
        IF v_window.spent_micros + micros <= v_budget.limit_micros THEN
            -- Only held by calls in flight, which may settle for less.
            v_until := now() + interval '5 seconds';
        ELSE
            v_until := memory.window_end(v_budget.period, now());
            PERFORM memory.note_level(v_window, v_budget.limit_micros, 100);
        END IF;
        IF retry_at IS NULL OR v_until > retry_at THEN
            retry_at := v_until;
            says := format('the %s budget of the %s is %s', CASE v_budget.scope WHEN 'user' THEN 'user''s' ELSE 'global' END,
                           v_budget.period, CASE WHEN v_until < now() + interval '6 seconds' THEN 'reserved' ELSE 'spent' END);
        END IF;
    END LOOP;
    IF refusal IS NOT NULL THEN
        RETURN;
    END IF;
    IF memory.is_enrichment(p_purpose) THEN
        PERFORM set_config('memory.user_id', p_user::text, true);
        BEGIN
            PERFORM memory.count_rate('enrichments', 1);
        EXCEPTION WHEN SQLSTATE 'MC429' THEN
            GET STACKED DIAGNOSTICS says = MESSAGE_TEXT, v_detail = PG_EXCEPTION_DETAIL;
            refusal := 'plan';
            retry_at := now() + make_interval(secs => (v_detail::jsonb ->> 'reset')::integer);
            RETURN;
        END;
    END IF;
    UPDATE memory.ai_budget_windows w SET reserved_micros = w.reserved_micros + micros WHERE w.id = ANY (v_ids);
    INSERT INTO memory.ai_ledger (id, user_id, model, purpose, reserved_micros, reserved_at, expires_at)
    VALUES (p_id, p_user, p_model, p_purpose, micros, now(), now() + p_lasts);
END
$$;

CREATE OR REPLACE FUNCTION memory.is_enrichment(p_purpose text) RETURNS boolean
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT coalesce((SELECT p.is_enrichment FROM memory.ai_purposes p WHERE p.name = p_purpose), true)
$$;

-- Turn a reservation into what the call cost, once: null when that was done. What was used is null where nobody knows;
-- then the whole reservation counts as spent, since the call may have been made.
CREATE OR REPLACE FUNCTION memory.settle(
    p_id uuid, p_read bigint, p_written bigint, p_outcome text, p_duration_ms bigint, OUT cost_micros bigint)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_row memory.ai_ledger;
    v_budget memory.ai_budgets;
    v_window memory.ai_budget_windows;
    v_is_released boolean;
    v_cost bigint;
BEGIN
    PERFORM FROM memory.users u WHERE u.id = (SELECT l.user_id FROM memory.ai_ledger l WHERE l.id = p_id) FOR KEY SHARE;
    SELECT * INTO v_row FROM memory.ai_ledger l WHERE l.id = p_id AND l.state = 'reserved' FOR UPDATE;
    IF v_row.id IS NULL THEN
        RETURN;
    END IF;
    v_cost := coalesce(memory.price(v_row.model, v_row.reserved_at, p_read, p_written), v_row.reserved_micros);
    v_is_released := v_cost = 0 AND p_outcome <> 'ok' AND p_read = 0 AND p_written = 0;
    UPDATE memory.ai_ledger l
    SET state = CASE WHEN v_is_released THEN 'released' ELSE 'settled' END, input_tokens = coalesce(p_read, 0),
        output_tokens = coalesce(p_written, 0), cost_micros = v_cost, settled_at = now(), outcome = p_outcome,
        duration_ms = p_duration_ms
    WHERE l.id = p_id;
    FOR v_budget IN SELECT * FROM memory.ai_budgets b ORDER BY b.scope, b.period LOOP
        CONTINUE WHEN v_budget.scope = 'user' AND v_row.user_id IS NULL;
        v_window := memory.lock_window(v_budget.scope, v_budget.period, v_row.user_id, v_row.reserved_at);
        UPDATE memory.ai_budget_windows w
        SET reserved_micros = greatest(0, w.reserved_micros - v_row.reserved_micros), spent_micros = w.spent_micros + v_cost
        WHERE w.id = v_window.id RETURNING * INTO v_window;
        PERFORM memory.note_level(v_window, v_budget.limit_micros, NULL);
    END LOOP;
    IF v_is_released AND memory.is_enrichment(v_row.purpose) THEN
        UPDATE memory.usage_rates r SET used = r.used - 1
        WHERE r.user_id = v_row.user_id AND r.kind = 'enrichments' AND r.used > 0 AND r.since <= v_row.reserved_at;
    END IF;
    cost_micros := v_cost;
END
$$;

-- End the reservations of calls that nobody will end any more: their process was killed, or lost the database. Each may
-- have been made, so each counts as spent in whole. Returns how many there were.
CREATE OR REPLACE FUNCTION memory.sweep(p_batch integer DEFAULT 100) RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_id uuid;
    v_swept bigint := 0;
BEGIN
    IF NOT pg_try_advisory_xact_lock(hashtextextended('memory.sweep', 7)) THEN
        RETURN 0;
    END IF;
    FOR v_id IN
        SELECT l.id FROM memory.ai_ledger l
        WHERE l.state = 'reserved' AND l.expires_at <= now() ORDER BY l.reserved_at LIMIT p_batch
    LOOP
        v_swept := v_swept + (memory.settle(v_id, NULL, NULL, 'lost', NULL) IS NOT NULL)::integer;
    END LOOP;
    RETURN v_swept;
END
$$;

-- The caller's own spending, as the usage endpoint shows it.
CREATE OR REPLACE FUNCTION memory.spending_json() RETURNS jsonb
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT jsonb_object_agg(b.period, jsonb_build_object(
        'limit_micros', b.limit_micros, 'spent_micros', coalesce(w.spent_micros, 0),
        'reserved_micros', coalesce(w.reserved_micros, 0),
        'starts_at', memory.iso(memory.window_start(b.period, now())), 'ends_at', memory.iso(memory.window_end(b.period, now()))))
    FROM memory.ai_budgets b
    LEFT JOIN memory.ai_budget_windows w ON w.scope = b.scope AND w.period = b.period AND w.user_id = memory.me()
     AND w.starts_at = memory.window_start(b.period, now())
    WHERE b.scope = 'user'
$$;

GRANT EXECUTE ON FUNCTION
    memory.reserve(uuid, uuid, text, text, bigint, bigint, interval), memory.settle(uuid, bigint, bigint, text, bigint),
    memory.sweep(integer)
TO memory_service;
GRANT EXECUTE ON FUNCTION memory.spending_json() TO memory_app;
GRANT EXECUTE ON FUNCTION memory.window_start(text, timestamptz), memory.window_end(text, timestamptz)
TO memory_app, memory_admin;
