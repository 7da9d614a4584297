-- The daemon as an administrator sees it.

CREATE TABLE @extschema@.steadytext_daemon_health (
    daemon_id text PRIMARY KEY DEFAULT 'default',
    endpoint text NOT NULL,
    last_heartbeat timestamptz DEFAULT pg_catalog.now(),
    uptime_seconds integer NOT NULL DEFAULT 0,
    status text NOT NULL DEFAULT 'unknown' CHECK (status IN ('healthy', 'unhealthy', 'starting', 'stopping', 'unknown')),
    version text,
    models_loaded text[],
    memory_usage_mb integer,
    active_connections integer NOT NULL DEFAULT 0,
    total_requests bigint NOT NULL DEFAULT 0,
    error_count integer NOT NULL DEFAULT 0,
    avg_response_time_ms integer,
    model_loaded text[] GENERATED ALWAYS AS (models_loaded) STORED
);

COMMENT ON COLUMN @extschema@.steadytext_daemon_health.model_loaded IS 'models_loaded under the name that some dashboards ask for';

-- Bring the catalogue to the daemon's: its models, and the digests of the weights it has.
CREATE FUNCTION @extschema@.steadytext_models_sync() RETURNS integer
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    known json := @extschema@._steadytext_request('models', '{}');
    changed integer;
BEGIN
    INSERT INTO @extschema@.steadytext_models AS m
        (name, aliases, kind, digest, dimensions, context_length, repo, filename)
    SELECT d.name, coalesce(d.aliases, '{}'), d.kind, d.digest, d.dimensions, d.context_length, d.repo, d.filename
    FROM json_to_recordset(known) AS d (name text, aliases text[], kind text, digest text, dimensions integer,
                                        context_length integer, repo text, filename text)
    ON CONFLICT (name) DO UPDATE SET
        aliases = excluded.aliases, kind = excluded.kind, digest = coalesce(excluded.digest, m.digest),
        dimensions = coalesce(excluded.dimensions, m.dimensions), context_length = excluded.context_length,
        repo = excluded.repo, filename = excluded.filename
    WHERE NOT m.registered
      AND (m.aliases, m.kind, m.digest, m.dimensions, m.context_length, m.repo, m.filename) IS DISTINCT FROM
          (excluded.aliases, excluded.kind, coalesce(excluded.digest, m.digest),
           coalesce(excluded.dimensions, m.dimensions), excluded.context_length, excluded.repo, excluded.filename);
    GET DIAGNOSTICS changed = ROW_COUNT;
    RETURN changed;
END
$$;

-- One line of JSON to the supervisor and back; its refusal is raised.
CREATE FUNCTION @extschema@._steadytext_supervisor(command text) RETURNS json
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    reply json := @extschema@._steadytext_call('supervisor',
        json_build_object('command', command, 'service', 'daemon')::text, 30000, '{}')::json;
BEGIN
    IF reply ->> 'error' IS NOT NULL THEN
        PERFORM @extschema@._steadytext_raise(coalesce(reply ->> 'code', '58000'), reply ->> 'error', reply ->> 'hint');
    END IF;
    RETURN reply -> 'result';
END
$$;

-- Ask the daemon how it is without starting it; null when it does not answer.
CREATE FUNCTION @extschema@._steadytext_daemon_ask(wait_ms integer) RETURNS json
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    settings @extschema@._steadytext_settings;
    reply json;
BEGIN
    SELECT s.* INTO settings FROM @extschema@._steadytext_settings s;
    reply := @extschema@._steadytext_call(settings.endpoint, '{"method": "status", "params": {}}', wait_ms,
        (settings.connection || '{"auto_start": false}')::text)::json;
    IF reply ->> 'error' IS NULL THEN
        RETURN reply -> 'result';
    ELSIF reply ->> 'code' = '57014' AND reply ->> 'hint' IS NULL THEN
        PERFORM @extschema@._steadytext_raise('57014', reply ->> 'error');
    END IF;
    RETURN NULL;
END
$$;

CREATE FUNCTION @extschema@._steadytext_daemon_note(state text, answer json) RETURNS void
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_variable
BEGIN
    IF @extschema@._steadytext_writable() THEN
        INSERT INTO @extschema@.steadytext_daemon_health AS h
            (daemon_id, endpoint, status, uptime_seconds, version, models_loaded, last_heartbeat, memory_usage_mb,
             active_connections)
        SELECT 'default', s.endpoint, state, coalesce((answer ->> 'uptime_s')::numeric::integer, 0), answer ->> 'version',
               ARRAY(SELECT json_array_elements_text(answer -> 'models_loaded')),
               CASE WHEN answer IS NOT NULL THEN now() END, (answer ->> 'memory_mb')::integer,
               coalesce((answer ->> 'connections')::integer, 0)
        FROM @extschema@._steadytext_settings s
        ON CONFLICT (daemon_id) DO UPDATE SET
            endpoint = excluded.endpoint, status = excluded.status, uptime_seconds = excluded.uptime_seconds,
            version = coalesce(excluded.version, h.version), models_loaded = excluded.models_loaded,
            last_heartbeat = coalesce(excluded.last_heartbeat, h.last_heartbeat),
            memory_usage_mb = excluded.memory_usage_mb, active_connections = excluded.active_connections;
    END IF;
END
$$;

CREATE FUNCTION @extschema@.steadytext_daemon_status(
    OUT daemon_id text, OUT status text, OUT endpoint text, OUT last_heartbeat timestamptz, OUT uptime_seconds integer,
    OUT version text
) RETURNS SETOF record
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
    answer json := @extschema@._steadytext_daemon_ask(2000);
BEGIN
    PERFORM @extschema@._steadytext_daemon_note(CASE WHEN answer IS NULL THEN 'unhealthy' ELSE 'healthy' END, answer);
    RETURN QUERY
    SELECT 'default'::text, CASE WHEN answer IS NULL THEN 'unhealthy' ELSE 'healthy' END, s.endpoint,
           CASE WHEN answer IS NULL THEN h.last_heartbeat ELSE now() END,
           coalesce((answer ->> 'uptime_s')::numeric::integer, 0), coalesce(answer ->> 'version', h.version)
    FROM @extschema@._steadytext_settings s
    LEFT JOIN @extschema@.steadytext_daemon_health h ON h.daemon_id = 'default';
END
$$;

-- True once the daemon answers; starting one that runs does nothing.
CREATE FUNCTION @extschema@.steadytext_daemon_start() RETURNS boolean
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    answer json := @extschema@._steadytext_daemon_ask(2000);
    until constant timestamptz := clock_timestamp() + interval '15 seconds';
BEGIN
    IF answer IS NULL THEN
        PERFORM @extschema@._steadytext_supervisor('start');
        WHILE answer IS NULL AND clock_timestamp() < until LOOP
            PERFORM pg_sleep(0.1);
            answer := @extschema@._steadytext_daemon_ask(2000);
        END LOOP;
    END IF;
    PERFORM @extschema@._steadytext_daemon_note(CASE WHEN answer IS NULL THEN 'starting' ELSE 'healthy' END, answer);
    RETURN answer IS NOT NULL;
END
$$;

CREATE FUNCTION @extschema@.steadytext_daemon_stop() RETURNS boolean
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM @extschema@._steadytext_supervisor('stop');
    PERFORM @extschema@._steadytext_daemon_note('unhealthy', NULL);
    RETURN true;
END
$$;
