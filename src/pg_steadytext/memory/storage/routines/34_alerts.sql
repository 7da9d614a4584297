-- Raise an alert unless one of the same key was raised: by whichever process, it is one row and so one message a channel.
CREATE OR REPLACE FUNCTION memory.raise_alert(p_key text, p_kind text, p_detail jsonb, p_user uuid DEFAULT NULL)
RETURNS boolean LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    -- Looking first spares the identity a number each time.
    IF EXISTS (SELECT FROM memory.ai_alerts a WHERE a.dedupe_key = p_key) THEN
        RETURN false;
    END IF;
    INSERT INTO memory.ai_alerts (dedupe_key, kind, detail, user_id) VALUES (p_key, p_kind, p_detail, p_user)
    ON CONFLICT (dedupe_key) DO NOTHING;
    RETURN FOUND;
END
$$;

-- Raise the alerts of every level that a window has reached; p_at_least tells a level it has reached without its sum
-- showing it, since the next call would pass the limit.
CREATE OR REPLACE FUNCTION memory.note_level(p_window memory.ai_budget_windows, p_limit bigint, p_at_least integer)
RETURNS void LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_level integer;
BEGIN
    FOR v_level IN
        SELECT l.percent FROM memory.ai_alert_levels l
        WHERE p_window.spent_micros::numeric * 100 >= p_limit::numeric * l.percent AND p_window.spent_micros > 0
           OR l.percent = p_at_least
        ORDER BY l.percent
    LOOP
        PERFORM memory.raise_alert(
            concat_ws(':', 'budget', p_window.scope, p_window.period, memory.iso(p_window.starts_at), p_limit, v_level,
                      p_window.user_id),
            'budget',
            jsonb_build_object('scope', p_window.scope, 'period', p_window.period, 'percent', v_level,
                               'starts_at', memory.iso(p_window.starts_at), 'spent_micros', p_window.spent_micros,
                               'limit_micros', p_limit, 'user_id', p_window.user_id),
            p_window.user_id);
    END LOOP;
END
$$;

-- Take one alert that is due on one of the channels; nobody else takes it within p_lease. All null when there is none.
CREATE OR REPLACE FUNCTION memory.claim_alert(
    p_channels text[], p_lease interval,
    OUT id bigint, OUT channel text, OUT kind text, OUT detail jsonb, OUT raised_at timestamptz, OUT attempts integer)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    INSERT INTO memory.ai_alert_deliveries (alert_id, channel)
    SELECT a.id, c FROM memory.ai_alerts a, unnest(p_channels) c
    WHERE a.sent_at IS NULL
      AND NOT EXISTS (SELECT FROM memory.ai_alert_deliveries d WHERE d.alert_id = a.id AND d.channel = c)
    ORDER BY a.id, c  -- so that two senders never wait for each other
    ON CONFLICT DO NOTHING;
    UPDATE memory.ai_alert_deliveries d SET next_at = now() + p_lease, attempts = d.attempts + 1
    FROM memory.ai_alerts a
    WHERE a.id = d.alert_id AND (d.alert_id, d.channel) = (
        SELECT o.alert_id, o.channel FROM memory.ai_alert_deliveries o
        WHERE o.sent_at IS NULL AND o.next_at <= now() AND o.channel = ANY (p_channels)
        ORDER BY o.alert_id, o.channel LIMIT 1 FOR UPDATE SKIP LOCKED)
    RETURNING d.alert_id, d.channel, a.kind, a.detail, a.raised_at, d.attempts
    INTO id, channel, kind, detail, raised_at, attempts;
END
$$;

-- What came of a delivery; an error says that it is to be tried again after p_pause. The alert is sent when every channel
-- that it was to go by has it.
CREATE OR REPLACE FUNCTION memory.end_delivery(p_id bigint, p_channel text, p_error text, p_pause interval)
RETURNS boolean LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    -- Of two channels that end at the same moment, the second sees what the first has written.
    PERFORM FROM memory.ai_alerts a WHERE a.id = p_id FOR UPDATE;
    UPDATE memory.ai_alert_deliveries d
    SET sent_at = CASE WHEN p_error IS NULL THEN now() END, last_error = p_error, next_at = now() + p_pause
    WHERE d.alert_id = p_id AND d.channel = p_channel AND d.sent_at IS NULL;
    UPDATE memory.ai_alerts a SET sent_at = now()
    WHERE a.id = p_id AND a.sent_at IS NULL
      AND NOT EXISTS (SELECT FROM memory.ai_alert_deliveries d WHERE d.alert_id = p_id AND d.sent_at IS NULL);
    RETURN FOUND;
END
$$;

GRANT EXECUTE ON FUNCTION
    memory.raise_alert(text, text, jsonb, uuid), memory.claim_alert(text[], interval),
    memory.end_delivery(bigint, text, text, interval)
TO memory_service;
