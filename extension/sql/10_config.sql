-- Configuration: a registry of keys with their type and bounds, the values, and one denormalised row that the
-- hot paths read instead of eight lookups.

CREATE TABLE @extschema@._steadytext_config_keys (
    key text PRIMARY KEY,
    kind text NOT NULL CHECK (kind IN ('text', 'boolean', 'integer')),
    default_value jsonb NOT NULL,
    minimum bigint,
    maximum bigint,
    pattern text,
    secret boolean NOT NULL DEFAULT false,
    description text NOT NULL
);

INSERT INTO @extschema@._steadytext_config_keys
    (key, kind, default_value, minimum, maximum, pattern, secret, description)
VALUES
    ('daemon_host', 'text', '"localhost"', NULL, NULL, '^([A-Za-z0-9._:%-]+|/[^[:cntrl:]]+)$', false,
     'Host of the model daemon, or the absolute path of its Unix socket'),
    ('daemon_port', 'integer', '5555', 1, 65535, NULL, false, 'TCP port of the model daemon'),
    ('daemon_auto_start', 'boolean', 'true', NULL, NULL, NULL, false,
     'Ask the supervisor to start a daemon that does not answer'),
    ('daemon_server_key', 'text', '""', NULL, NULL, '^([[:graph:]]{40})?$', false,
     'CURVE public key of the daemon (Z85); empty: no encryption'),
    ('daemon_client_public_key', 'text', '""', NULL, NULL, '^([[:graph:]]{40})?$', false,
     'CURVE public key of this database (Z85)'),
    ('daemon_client_secret_key', 'text', '""', NULL, NULL, '^([[:graph:]]{40})?$', true,
     'CURVE secret key of this database (Z85); readable by superusers only'),
    ('default_max_tokens', 'integer', '512', 1, 1000000, NULL, false, 'max_tokens when a call names none'),
    ('max_tokens_limit', 'integer', '4096', 1, 1000000, NULL, false, 'Largest max_tokens a call may ask for'),
    ('default_seed', 'integer', '42', 0, 2147483647, NULL, false, 'seed when a call passes NULL'),
    ('max_prompt_chars', 'integer', '100000', 1, 100000000, NULL, false, 'Longest text a call may pass, in characters'),
    ('cache_enabled', 'boolean', 'true', NULL, NULL, NULL, false, 'Answer from the cache and fill it'),
    ('cache_eviction_enabled', 'boolean', 'true', NULL, NULL, NULL, false, 'Let the scheduled eviction run'),
    ('cache_policy', 'text', '"frecency"', NULL, NULL, '^(frecency|lru|lfu)$', false,
     'What eviction takes first: frecency, lru or lfu'),
    ('cache_max_entries', 'integer', '10000', 0, 2147483647, NULL, false, 'Entries the scheduled eviction keeps'),
    ('cache_max_size_mb', 'integer', '500', 0, 2147483647, NULL, false, 'Megabytes the scheduled eviction keeps'),
    ('cache_hit_sampling', 'integer', '1', 1, 1000, NULL, false,
     'Count one hit in so many, as that many; 1 counts each'),
    ('cache_scope', 'text', '"database"', NULL, NULL, '^(database|role)$', false,
     'Who shares a cached answer: the database, or each role for itself'),
    ('max_queue_size', 'integer', '10000', 1, 2147483647, NULL, false, 'Requests the queue holds before it is full'),
    ('max_pending_per_user', 'integer', '100', 1, 2147483647, NULL, false, 'Requests of one role waiting in the queue'),
    ('queue_max_wait_seconds', 'integer', '60', 1, 86400, NULL, false,
     'Seconds after which a waiting request of low priority is taken in its turn'),
    ('queue_max_retries', 'integer', '3', 0, 100, NULL, false, 'Attempts after the first before a request has failed'),
    ('queue_retry_seconds', 'integer', '1', 0, 3600, NULL, false,
     'Longest pause before the first retry; it doubles with each one, up to five minutes'),
    ('queue_retention_days', 'integer', '7', 0, 36500, NULL, false, 'Days a finished request is kept'),
    ('audit_retention_days', 'integer', '30', 0, 36500, NULL, false, 'Days an audit entry is kept'),
    ('owner_code_seconds', 'integer', '30', 1, 3600, NULL, false,
     'Seconds that code of a table''s owner may run in a worker before it is cancelled'),
    ('prompt_policy', 'text', '"off"', NULL, NULL, '^(off|warn|reject)$', false,
     'What happens to a prompt that looks like an attack: off, warn or reject'),
    ('request_timeout_ms', 'integer', '300000', 1, 2147483647, NULL, false, 'Longest wait for one answer, in milliseconds'),
    ('default_generation_model', 'text', '"smollm2-135m-instruct"', NULL, NULL, '^[^[:cntrl:]]{1,200}$', false,
     'Model that generates when a call names none'),
    ('default_embedding_model', 'text', '"all-minilm-l6-v2"', NULL, NULL, '^[^[:cntrl:]]{1,200}$', false,
     'Model that embeds when a call names none'),
    ('default_rerank_model', 'text', '"all-minilm-l6-v2"', NULL, NULL, '^[^[:cntrl:]]{1,200}$', false,
     'Model that reranks when a call names none');

CREATE TABLE @extschema@.steadytext_config (
    key text PRIMARY KEY REFERENCES @extschema@._steadytext_config_keys (key),
    value jsonb NOT NULL,
    description text,
    updated_at timestamptz NOT NULL DEFAULT pg_catalog.now(),
    updated_by text NOT NULL DEFAULT CURRENT_USER
);

INSERT INTO @extschema@.steadytext_config (key, value, description)
SELECT key, default_value, description FROM @extschema@._steadytext_config_keys;

-- Models that SQL knows by name. The daemon's catalogue is the source; the digest is that of the installed weights.
CREATE TABLE @extschema@.steadytext_models (
    name text PRIMARY KEY CHECK (name <> ''),
    aliases text[] NOT NULL DEFAULT '{}',
    kind text NOT NULL CHECK (kind IN ('generation', 'embedding', 'rerank')),
    digest text CHECK (digest = 'remote' OR digest ~ '^[0-9a-f]{64}$'),
    dimensions integer CHECK (dimensions > 0),
    context_length integer CHECK (context_length > 0),
    repo text,
    filename text,
    remote boolean NOT NULL DEFAULT false,
    registered boolean NOT NULL DEFAULT false
);

COMMENT ON COLUMN @extschema@.steadytext_models.registered IS
    'Added by a superuser with steadytext_model_register, not part of the shipped catalogue';

-- One row: what every call needs to know, kept by triggers on the tables above.
CREATE TABLE @extschema@._steadytext_settings (
    singleton boolean PRIMARY KEY DEFAULT true CHECK (singleton),
    -- first what a hit reads, since a row is taken apart from its start
    generation_params text,
    embedding_params text,
    generation_key text,
    default_max_tokens integer,
    default_seed integer,
    cache_enabled boolean,
    shared_cache boolean,
    max_tokens_limit integer,
    max_prompt_chars integer,
    request_timeout_ms integer,
    auto_start boolean,
    endpoint text,
    connection jsonb,
    cache_policy text,
    generation_model text,
    embedding_model text,
    rerank_model text,
    max_queue_size bigint,
    max_pending_per_user bigint,
    queue_max_wait interval,
    queue_max_retries integer,
    queue_retry_seconds integer,
    prompt_policy text,
    hit_sampling integer NOT NULL DEFAULT 1,
    owner_code_seconds integer NOT NULL DEFAULT 30
);

COMMENT ON COLUMN @extschema@._steadytext_settings.generation_key IS
    'The model part of a cache key''s canonical parameters; null where no answer may be given unseen';
COMMENT ON COLUMN @extschema@._steadytext_settings.prompt_policy IS 'Null while it is off';
COMMENT ON COLUMN @extschema@._steadytext_settings.generation_params IS
    'The cache key''s canonical parameters of a call that names none; null where no answer may be given unseen';

INSERT INTO @extschema@._steadytext_settings DEFAULT VALUES;

-- One row that is updated in place: room for its versions, and a vacuum after few of them.
ALTER TABLE @extschema@._steadytext_settings SET (fillfactor = 10, autovacuum_vacuum_threshold = 10);

CREATE FUNCTION @extschema@._steadytext_model_key(model text) RETURNS text
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT format(', "model": %s, "digest": %s', to_json(m.name), to_json(m.digest))
    FROM @extschema@.steadytext_models m WHERE m.name = model AND m.digest IS NOT NULL
$$;

-- The canonical parameters of steadytext_generate('...') and steadytext_embed('...'), as their full paths build them.
CREATE FUNCTION @extschema@._steadytext_default_params(op text, model text, max_tokens integer) RETURNS text
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT (jsonb_build_object('op', op, 'model', m.name, 'digest', m.digest) || CASE op
        WHEN 'generate' THEN jsonb_build_object(
            'max_tokens', max_tokens, 'seed', 42, 'temperature', 0, 'eos_string', '[EOS]', 'thinking_mode', false)
        ELSE '{}' END)::text
    FROM @extschema@.steadytext_models m WHERE m.name = model AND m.digest IS NOT NULL
$$;

CREATE FUNCTION @extschema@._steadytext_settings_refresh() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    config jsonb;
    host text;
    generation text;
    embedding text;
    shared boolean;
    unseen boolean;
BEGIN
    PERFORM FROM @extschema@._steadytext_settings FOR UPDATE;  -- first, to see what others who held it have set
    SELECT jsonb_object_agg(k.key, coalesce(c.value, k.default_value)) INTO config
    FROM @extschema@._steadytext_config_keys k LEFT JOIN @extschema@.steadytext_config c ON c.key = k.key;
    host := config ->> 'daemon_host';
    shared := (config ->> 'cache_enabled')::boolean AND config ->> 'cache_scope' = 'database';
    -- without these keys no call can be answered before its prompt is checked
    unseen := shared AND config ->> 'prompt_policy' = 'off';
    SELECT m.name INTO generation FROM @extschema@.steadytext_models m
    WHERE m.kind = 'generation' AND (m.name = config ->> 'default_generation_model'
                                     OR config ->> 'default_generation_model' = ANY (m.aliases));
    SELECT m.name INTO embedding FROM @extschema@.steadytext_models m
    WHERE m.kind = 'embedding' AND (m.name = config ->> 'default_embedding_model'
                                    OR config ->> 'default_embedding_model' = ANY (m.aliases));
    UPDATE @extschema@._steadytext_settings SET
        endpoint = CASE WHEN host LIKE '/%' THEN 'ipc://' || host
                        WHEN host LIKE '%:%' THEN format('tcp://[%s]:%s', host, config ->> 'daemon_port')
                        ELSE format('tcp://%s:%s', host, config ->> 'daemon_port') END,
        connection = jsonb_build_object(
            'server_key', config -> 'daemon_server_key',
            'public_key', config -> 'daemon_client_public_key',
            'secret_key', config -> 'daemon_client_secret_key'),
        auto_start = (config ->> 'daemon_auto_start')::boolean,
        request_timeout_ms = (config ->> 'request_timeout_ms')::integer,
        default_max_tokens = (config ->> 'default_max_tokens')::integer,
        max_tokens_limit = (config ->> 'max_tokens_limit')::integer,
        default_seed = (config ->> 'default_seed')::integer,
        max_prompt_chars = (config ->> 'max_prompt_chars')::integer,
        cache_enabled = (config ->> 'cache_enabled')::boolean,
        shared_cache = config ->> 'cache_scope' = 'database',
        cache_policy = config ->> 'cache_policy',
        generation_model = generation,
        embedding_model = embedding,
        rerank_model = config ->> 'default_rerank_model',
        max_queue_size = (config ->> 'max_queue_size')::bigint,
        max_pending_per_user = (config ->> 'max_pending_per_user')::bigint,
        queue_max_wait = make_interval(secs => (config ->> 'queue_max_wait_seconds')::integer),
        queue_max_retries = (config ->> 'queue_max_retries')::integer,
        queue_retry_seconds = (config ->> 'queue_retry_seconds')::integer,
        prompt_policy = nullif(config ->> 'prompt_policy', 'off'),
        hit_sampling = (config ->> 'cache_hit_sampling')::integer,
        owner_code_seconds = (config ->> 'owner_code_seconds')::integer,
        generation_key = CASE WHEN unseen THEN @extschema@._steadytext_model_key(generation) END,
        generation_params = CASE WHEN unseen THEN @extschema@._steadytext_default_params(
            'generate', generation, (config ->> 'default_max_tokens')::integer) END,
        embedding_params = CASE WHEN shared THEN @extschema@._steadytext_default_params('embed', embedding, NULL) END;
    RETURN NULL;
END
$$;

CREATE TRIGGER steadytext_config_refresh AFTER INSERT OR UPDATE OR DELETE ON @extschema@.steadytext_config
    FOR EACH STATEMENT EXECUTE FUNCTION @extschema@._steadytext_settings_refresh();
CREATE TRIGGER steadytext_models_refresh AFTER INSERT OR UPDATE OR DELETE ON @extschema@.steadytext_models
    FOR EACH STATEMENT EXECUTE FUNCTION @extschema@._steadytext_settings_refresh();

-- Turn what a caller wrote into the key's own JSON type, or say what was expected.
CREATE FUNCTION @extschema@._steadytext_config_parse(wanted text, raw text) RETURNS jsonb
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    known @extschema@._steadytext_config_keys;
    number numeric;
BEGIN
    SELECT * INTO known FROM @extschema@._steadytext_config_keys k WHERE k.key = wanted;
    IF known.key IS NULL THEN
        PERFORM @extschema@._steadytext_raise('22023', format('unknown configuration key "%s"', wanted),
            'The keys are the rows of steadytext_config.');
    ELSIF known.kind = 'boolean' THEN
        IF lower(raw) IN ('true', 'on', 'yes', '1') THEN
            RETURN 'true'::jsonb;
        ELSIF lower(raw) IN ('false', 'off', 'no', '0') THEN
            RETURN 'false'::jsonb;
        END IF;
        PERFORM @extschema@._steadytext_raise('22023', format('%s must be true or false, not "%s"', wanted, left(raw, 100)));
    ELSIF known.kind = 'integer' THEN
        IF raw !~ '^[[:space:]]*[+-]?[0-9]{1,18}[[:space:]]*$' THEN
            PERFORM @extschema@._steadytext_raise('22023', format('%s must be a whole number, not "%s"', wanted, left(raw, 100)));
        END IF;
        number := raw::numeric;
        IF number < known.minimum OR number > known.maximum THEN
            PERFORM @extschema@._steadytext_raise('22023',
                format('%s must be between %s and %s, not %s', wanted, known.minimum, known.maximum, number));
        END IF;
        RETURN to_jsonb(number);
    ELSIF raw !~ known.pattern THEN
        PERFORM @extschema@._steadytext_raise('22023',
            format('%s must match %s%s', wanted, known.pattern,
                   CASE WHEN known.secret THEN '' ELSE format(', which "%s" does not', left(raw, 100)) END));
    END IF;
    RETURN to_jsonb(raw);
END
$$;

-- Holds every writer to the types, also a superuser's own UPDATE. A row that exists already is updated by an INSERT,
-- since a restored dump meets the defaults that CREATE EXTENSION has just written.
CREATE FUNCTION @extschema@._steadytext_config_check() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    NEW.value := @extschema@._steadytext_config_parse(NEW.key, NEW.value #>> '{}');
    IF TG_OP = 'INSERT' THEN
        UPDATE @extschema@.steadytext_config c
        SET value = NEW.value, updated_at = NEW.updated_at, updated_by = NEW.updated_by
        WHERE c.key = NEW.key;
        IF FOUND THEN
            RETURN NULL;
        END IF;
    END IF;
    RETURN NEW;
END
$$;

CREATE TRIGGER steadytext_config_check BEFORE INSERT OR UPDATE ON @extschema@.steadytext_config
    FOR EACH ROW EXECUTE FUNCTION @extschema@._steadytext_config_check();

SELECT pg_catalog.pg_extension_config_dump('@extschema@.steadytext_config', '');

CREATE FUNCTION @extschema@.steadytext_config_get(key text) RETURNS text
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_variable
DECLARE
    known @extschema@._steadytext_config_keys;
BEGIN
    IF key IS NULL THEN
        PERFORM @extschema@._steadytext_raise('22004', 'key cannot be null');
    END IF;
    SELECT k.* INTO known FROM @extschema@._steadytext_config_keys k WHERE k.key = key;
    IF known.key IS NULL THEN
        PERFORM @extschema@._steadytext_raise('22023', format('unknown configuration key "%s"', left(key, 100)),
            'The keys are the rows of steadytext_config.');
    ELSIF known.secret AND NOT (SELECT r.rolsuper FROM pg_roles r WHERE r.rolname = @extschema@._steadytext_caller()) THEN
        PERFORM @extschema@._steadytext_raise('42501', format('permission denied to read configuration key "%s"', key));
    END IF;
    RETURN (SELECT coalesce(c.value, known.default_value) #>> '{}'
            FROM (SELECT) one LEFT JOIN @extschema@.steadytext_config c ON c.key = key);
END
$$;

CREATE FUNCTION @extschema@.steadytext_config_set(key text, value text) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_variable
DECLARE
    parsed jsonb;
    before jsonb;
    wanted_kind text := substring(key FROM '^default_(generation|embedding|rerank)_model$');
BEGIN
    IF key IS NULL THEN
        PERFORM @extschema@._steadytext_raise('22004', 'key cannot be null');
    ELSIF value IS NULL THEN
        PERFORM @extschema@._steadytext_raise('22004', 'value cannot be null');
    END IF;
    parsed := @extschema@._steadytext_config_parse(key, value);
    IF wanted_kind IS NOT NULL AND NOT EXISTS (
        SELECT FROM @extschema@.steadytext_models m
        WHERE wanted_kind IN (m.kind, 'rerank') AND (m.name = value OR value = ANY (m.aliases))) THEN
        PERFORM @extschema@._steadytext_raise('P0002', format('%s: there is no %s model "%s"', key, wanted_kind, value),
            'The models are the rows of steadytext_models.');
    END IF;
    SELECT c.value INTO before FROM @extschema@.steadytext_config c WHERE c.key = key;
    UPDATE @extschema@.steadytext_config c
    SET value = parsed, updated_at = now(), updated_by = @extschema@._steadytext_caller()
    WHERE c.key = key;
    IF NOT FOUND THEN
        INSERT INTO @extschema@.steadytext_config (key, value, description, updated_by)
        SELECT k.key, parsed, k.description, @extschema@._steadytext_caller()
        FROM @extschema@._steadytext_config_keys k WHERE k.key = key;
    END IF;
    PERFORM @extschema@._steadytext_audit('config_set', CASE WHEN k.secret THEN jsonb_build_object('key', key)
        ELSE jsonb_build_object('key', key, 'from', before, 'to', parsed) END)
    FROM @extschema@._steadytext_config_keys k WHERE k.key = key;
END
$$;
