-- The seam: the only two functions that leave SQL. Both carry the client that this file includes; replies, failures
-- included, come back as data, and PL/pgSQL raises what is to be raised.

CREATE FUNCTION @extschema@._steadytext_call(endpoint text, request text, timeout_ms integer, options text)
RETURNS text
LANGUAGE plpython3u VOLATILE SET search_path = pg_catalog, pg_temp AS $python$
client = GD.get("pg_steadytext 1.1.0")
if client is None:
@client@
    client = GD["pg_steadytext 1.1.0"] = Client(plpy)
if request is None:
    return None
return client.call(endpoint, request, timeout_ms, options)
$python$;

CREATE FUNCTION @extschema@._steadytext_call_stream(endpoint text, request text, timeout_ms integer, options text)
RETURNS SETOF text
LANGUAGE plpython3u VOLATILE SET search_path = pg_catalog, pg_temp AS $python$
if "pg_steadytext 1.1.0" not in GD:
    plpy.execute("SELECT @extschema@._steadytext_call(NULL, NULL, NULL, NULL)")
return GD["pg_steadytext 1.1.0"].stream(endpoint, request, timeout_ms, options)
$python$;

COMMENT ON FUNCTION @extschema@._steadytext_call(text, text, integer, text) IS
    'Ask the daemon (or, at the endpoint "supervisor", the supervisor): JSON in, JSON out, errors as data';

-- Ask the daemon and return the result; raise what it answers as an error.
CREATE FUNCTION @extschema@._steadytext_request(method text, params jsonb, deadline_ms integer DEFAULT NULL)
RETURNS json
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_variable
DECLARE
    settings @extschema@._steadytext_settings;
    reply json;
BEGIN
    SELECT s.* INTO settings FROM @extschema@._steadytext_settings s;
    reply := @extschema@._steadytext_call(
        settings.endpoint,
        json_build_object('method', method, 'params', params)::text,
        coalesce(deadline_ms, settings.request_timeout_ms),
        (settings.connection || jsonb_build_object('auto_start', settings.auto_start))::text)::json;
    IF reply ->> 'error' IS NOT NULL THEN
        PERFORM @extschema@._steadytext_raise(coalesce(reply ->> 'code', '58000'), reply ->> 'error', reply ->> 'hint');
    END IF;
    RETURN reply -> 'result';
END
$$;
