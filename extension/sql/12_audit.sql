-- Who did what that others may ask about later. What a refused call wrote is rolled back with it, so this tells of
-- what happened, and the server's log of what was refused.

CREATE TABLE @extschema@.steadytext_audit_log (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    "timestamp" timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
    user_id text NOT NULL,
    action text NOT NULL,
    request_id uuid,
    details jsonb,
    ip_address inet DEFAULT pg_catalog.inet_client_addr(),
    success boolean NOT NULL DEFAULT true,
    error_message text,
    event_id uuid NOT NULL DEFAULT pg_catalog.gen_random_uuid(),
    event_type text GENERATED ALWAYS AS (action) STORED,
    created_at timestamptz GENERATED ALWAYS AS ("timestamp") STORED
);

COMMENT ON COLUMN @extschema@.steadytext_audit_log.event_type IS 'action under the name that SteadyText''s own log has for it';
COMMENT ON COLUMN @extschema@.steadytext_audit_log.created_at IS '"timestamp" under the name that SteadyText''s own log has for it';

CREATE INDEX steadytext_audit_log_timestamp_idx ON @extschema@.steadytext_audit_log ("timestamp");
CREATE INDEX steadytext_audit_log_user_idx ON @extschema@.steadytext_audit_log (user_id, "timestamp");

CREATE FUNCTION @extschema@._steadytext_audit(action text, details jsonb DEFAULT NULL, request_id uuid DEFAULT NULL)
RETURNS void
LANGUAGE sql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
    INSERT INTO @extschema@.steadytext_audit_log (user_id, action, request_id, details)
    VALUES (@extschema@._steadytext_caller(), $1, $3, $2)
$$;
