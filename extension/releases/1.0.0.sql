\echo Use "CREATE EXTENSION pg_steadytext CASCADE" to load this file. \quit
-- Roles belong to the cluster, not to the database: create what is missing and leave what another database made.
DO $$
DECLARE
    wanted text;
BEGIN
    FOREACH wanted IN ARRAY ARRAY['steadytext_reader', 'steadytext_user', 'steadytext_admin', 'steadytext_remote',
                                'steadytext_worker'] LOOP
        IF NOT EXISTS (SELECT FROM pg_catalog.pg_roles WHERE rolname = wanted) THEN
            EXECUTE pg_catalog.format('CREATE ROLE %I NOLOGIN', wanted);
        END IF;
    END LOOP;
    IF NOT pg_catalog.pg_has_role('steadytext_user', 'steadytext_reader', 'MEMBER') THEN
        GRANT steadytext_reader TO steadytext_user;
    END IF;
    IF NOT pg_catalog.pg_has_role('steadytext_admin', 'steadytext_user', 'MEMBER') THEN
        GRANT steadytext_user TO steadytext_admin;
    END IF;
END
$$;

-- Small functions are PL/pgSQL: one in SQL that has a SET of its own is never inlined, and is parsed and planned anew in
-- each transaction.

-- The role on whose behalf a SECURITY DEFINER function runs: what SET ROLE chose, else who logged in.
CREATE FUNCTION @extschema@._steadytext_caller() RETURNS name
LANGUAGE plpgsql STABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RETURN CASE current_setting('role') WHEN 'none' THEN session_user ELSE current_setting('role')::name END;
END
$$;

CREATE FUNCTION @extschema@._steadytext_caller_is(wanted name) RETURNS boolean
LANGUAGE plpgsql STABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RETURN pg_has_role(@extschema@._steadytext_caller(), wanted, 'USAGE');
END
$$;

-- Every refusal passes here, so that message, SQLSTATE and hint always arrive together.
CREATE FUNCTION @extschema@._steadytext_raise(code text, message text, hint text DEFAULT NULL) RETURNS void
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF hint IS NULL THEN
        RAISE EXCEPTION USING ERRCODE = code, MESSAGE = message;
    END IF;
    RAISE EXCEPTION USING ERRCODE = code, MESSAGE = message, HINT = hint;
END
$$;

CREATE FUNCTION @extschema@.steadytext_version() RETURNS text
LANGUAGE sql STABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
    SELECT extversion FROM pg_extension WHERE extname = 'pg_steadytext'
$$;
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
    queue_retry_seconds integer
);

COMMENT ON COLUMN @extschema@._steadytext_settings.generation_key IS
    'The model part of a cache key''s canonical parameters; null where no answer may be shared';
COMMENT ON COLUMN @extschema@._steadytext_settings.generation_params IS
    'The cache key''s canonical parameters of a call that names none; null where no answer may be shared';

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
BEGIN
    SELECT jsonb_object_agg(k.key, coalesce(c.value, k.default_value)) INTO config
    FROM @extschema@._steadytext_config_keys k LEFT JOIN @extschema@.steadytext_config c ON c.key = k.key;
    host := config ->> 'daemon_host';
    shared := (config ->> 'cache_enabled')::boolean AND config ->> 'cache_scope' = 'database';
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
        generation_key = CASE WHEN shared THEN @extschema@._steadytext_model_key(generation) END,
        generation_params = CASE WHEN shared THEN @extschema@._steadytext_default_params(
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
        IF raw !~ '^\s*[+-]?[0-9]{1,18}\s*$' THEN
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
    wanted_kind text := substring(key FROM '^default_(generation|embedding)_model$');
BEGIN
    IF key IS NULL THEN
        PERFORM @extschema@._steadytext_raise('22004', 'key cannot be null');
    ELSIF value IS NULL THEN
        PERFORM @extschema@._steadytext_raise('22004', 'value cannot be null');
    END IF;
    parsed := @extschema@._steadytext_config_parse(key, value);
    IF wanted_kind IS NOT NULL AND NOT EXISTS (
        SELECT FROM @extschema@.steadytext_models m
        WHERE m.kind = wanted_kind AND (m.name = value OR value = ANY (m.aliases))) THEN
        PERFORM @extschema@._steadytext_raise('P0002', format('%s: there is no %s model "%s"', key, wanted_kind, value),
            'The models are the rows of steadytext_models.');
    END IF;
    UPDATE @extschema@.steadytext_config c
    SET value = parsed, updated_at = now(), updated_by = @extschema@._steadytext_caller()
    WHERE c.key = key;
    IF NOT FOUND THEN
        INSERT INTO @extschema@.steadytext_config (key, value, description, updated_by)
        SELECT k.key, parsed, k.description, @extschema@._steadytext_caller()
        FROM @extschema@._steadytext_config_keys k WHERE k.key = key;
    END IF;
END
$$;
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
    error_message text
);

CREATE INDEX steadytext_audit_log_timestamp_idx ON @extschema@.steadytext_audit_log ("timestamp");
CREATE INDEX steadytext_audit_log_user_idx ON @extschema@.steadytext_audit_log (user_id, "timestamp");

CREATE FUNCTION @extschema@._steadytext_audit(action text, details jsonb DEFAULT NULL, request_id uuid DEFAULT NULL)
RETURNS void
LANGUAGE sql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
    INSERT INTO @extschema@.steadytext_audit_log (user_id, action, request_id, details)
    VALUES (@extschema@._steadytext_caller(), $1, $3, $2)
$$;
-- The catalogue as SQL needs it. steadytext_models_sync() brings it up to the daemon's.
INSERT INTO @extschema@.steadytext_models
    (name, aliases, kind, digest, dimensions, context_length, repo, filename)
VALUES
    ('smollm2-135m-instruct', '{}', 'generation',
     'b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53', NULL, 8192,
     NULL, 'SmolLM2-135M-Instruct.Q4_1.gguf'),
    ('all-minilm-l6-v2', '{}', 'embedding', NULL, 384, 256, NULL, 'model.onnx'),
    ('qwen3-0.6b', '{small}', 'generation', NULL, NULL, 32768, NULL, NULL),
    ('qwen3-1.7b', '{medium}', 'generation', NULL, NULL, 32768, NULL, NULL),
    ('qwen3-4b', '{large}', 'generation', NULL, NULL, 32768, NULL, NULL),
    ('qwen2.5-0.5b', '{}', 'generation', NULL, NULL, 32768, NULL, NULL),
    ('qwen2.5-7b', '{}', 'generation', NULL, NULL, 32768, NULL, NULL);

SELECT pg_catalog.pg_extension_config_dump('@extschema@.steadytext_models', 'WHERE registered');

-- Make a model file or repository nameable from SQL. Superusers only: whoever names a file decides what the daemon loads.
CREATE FUNCTION @extschema@.steadytext_model_register(
    name text, kind text, repo text DEFAULT NULL, filename text DEFAULT NULL, aliases text[] DEFAULT '{}',
    dimensions integer DEFAULT NULL, context_length integer DEFAULT NULL, digest text DEFAULT NULL,
    remote boolean DEFAULT false
) RETURNS void
LANGUAGE plpgsql SECURITY INVOKER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_variable
BEGIN
    IF num_nulls(name, kind, aliases, remote) > 0 THEN
        PERFORM @extschema@._steadytext_raise('22004', 'name, kind, aliases and remote cannot be null');
    ELSIF kind NOT IN ('generation', 'embedding', 'rerank') THEN
        PERFORM @extschema@._steadytext_raise('22023', 'kind must be generation, embedding or rerank');
    ELSIF digest !~ '^[0-9a-f]{64}$' THEN
        PERFORM @extschema@._steadytext_raise('22023', 'digest must be the hex SHA-256 of the weights');
    END IF;
    INSERT INTO @extschema@.steadytext_models AS m
        (name, aliases, kind, digest, dimensions, context_length, repo, filename, remote, registered)
    VALUES (name, aliases, kind, CASE WHEN remote THEN 'remote' ELSE digest END, dimensions, context_length,
            repo, filename, remote, true)
    ON CONFLICT ON CONSTRAINT steadytext_models_pkey DO UPDATE SET
        aliases = excluded.aliases, kind = excluded.kind, digest = excluded.digest, dimensions = excluded.dimensions,
        context_length = excluded.context_length, repo = excluded.repo, filename = excluded.filename,
        remote = excluded.remote, registered = true;
END
$$;

-- Which catalogue row a call means: repository and file, else the name, else the size, else the default.
CREATE FUNCTION @extschema@._steadytext_model_resolve(
    wanted_kind text, model text, model_repo text, model_filename text, size text, unsafe_mode boolean
) RETURNS @extschema@.steadytext_models
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_variable
DECLARE
    found @extschema@.steadytext_models;
    wanted text := coalesce(model, size);
BEGIN
    IF unsafe_mode AND model IS NULL THEN
        PERFORM @extschema@._steadytext_raise('22023', 'unsafe_mode=TRUE requires a model parameter');
    ELSIF size IS NOT NULL AND size NOT IN ('small', 'medium', 'large') THEN
        PERFORM @extschema@._steadytext_raise('22023', format('size must be small, medium or large, not "%s"', left(size, 100)));
    ELSIF (model_repo IS NULL) <> (model_filename IS NULL) THEN
        PERFORM @extschema@._steadytext_raise('22023', 'model_repo and model_filename must be given together');
    END IF;
    IF model_repo IS NOT NULL THEN
        SELECT m.* INTO found FROM @extschema@.steadytext_models m
        WHERE m.repo = model_repo AND m.filename = model_filename AND NOT m.remote;
        wanted := model_repo || '/' || model_filename;
    ELSIF wanted IS NULL THEN
        SELECT m.* INTO found FROM @extschema@.steadytext_models m, @extschema@._steadytext_settings s
        WHERE m.name = CASE wanted_kind WHEN 'generation' THEN s.generation_model ELSE s.embedding_model END;
        wanted := 'default';
    ELSE
        SELECT m.* INTO found FROM @extschema@.steadytext_models m
        WHERE m.name = wanted OR (wanted = ANY (m.aliases) AND m.kind = wanted_kind)
        ORDER BY (m.name = wanted) DESC, m.name LIMIT 1;
    END IF;
    IF found.remote OR (found.name IS NULL AND position(':' IN model) > 0) THEN
        IF NOT unsafe_mode THEN
            PERFORM @extschema@._steadytext_raise('22023', format('model "%s" is remote and requires unsafe_mode=TRUE', left(model, 100)),
                'A remote model is not deterministic and sees the text.');
        ELSIF NOT @extschema@._steadytext_caller_is('steadytext_remote') THEN
            PERFORM @extschema@._steadytext_raise('42501', 'permission denied to use a remote model',
                'Ask an administrator for membership in steadytext_remote.');
        END IF;
        IF found.name IS NULL THEN
            found := ROW(model, '{}', wanted_kind, 'remote', NULL, NULL, NULL, NULL, true, false);
        END IF;
    ELSIF found.name IS NULL THEN
        PERFORM @extschema@._steadytext_raise('P0002', format('there is no %s model "%s"', wanted_kind, left(wanted, 200)),
            'The models are the rows of steadytext_models; a superuser adds one with steadytext_model_register.');
    END IF;
    IF found.kind <> wanted_kind THEN
        PERFORM @extschema@._steadytext_raise('22023',
            format('model "%s" is a model for %s, not for %s', found.name, found.kind, wanted_kind));
    END IF;
    RETURN found;
END
$$;
-- The cache: answers under a key that names everything that decided them, a log that hits are appended to, and its
-- folding into the entries. An UPDATE per hit would make a hot key a lock queue; an append does not.

CREATE TABLE @extschema@.steadytext_cache (
    id bigint GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY,
    cache_key text NOT NULL UNIQUE,
    prompt text NOT NULL,
    response text,
    embedding vector,
    access_count integer NOT NULL DEFAULT 1,
    last_accessed timestamptz NOT NULL DEFAULT pg_catalog.now(),
    created_at timestamptz NOT NULL DEFAULT pg_catalog.now(),
    steadytext_cache_hit boolean NOT NULL DEFAULT false,
    operation text NOT NULL DEFAULT 'generate' CHECK (operation IN ('generate', 'embed')),
    model_name text NOT NULL DEFAULT 'smollm2-135m-instruct',
    model_digest text,
    model_size text CHECK (model_size IN ('small', 'medium', 'large')),
    seed integer DEFAULT 42,
    thinking_mode boolean NOT NULL DEFAULT false,
    eos_string text,
    scope name,
    generation_params jsonb,
    response_size integer,
    generation_time_ms integer,
    size_bytes bigint NOT NULL GENERATED ALWAYS AS (
        pg_catalog.octet_length(prompt)
        + coalesce(pg_catalog.octet_length(response), 0)
        + coalesce(8 + 4 * vector_dims(embedding), 0)) STORED
);

COMMENT ON COLUMN @extschema@.steadytext_cache.steadytext_cache_hit IS 'The answer was imported from SteadyText''s own cache';
COMMENT ON COLUMN @extschema@.steadytext_cache.scope IS 'The role that alone may see the answer; null: the whole database';
COMMENT ON COLUMN @extschema@.steadytext_cache.size_bytes IS 'What eviction counts: prompt, response and embedding';

-- Everything eviction asks, so that it never reads the answers themselves.
CREATE INDEX steadytext_cache_eviction_idx ON @extschema@.steadytext_cache (last_accessed, id)
    INCLUDE (access_count, created_at, size_bytes);

-- One row a hit; entry_id 0 stands for a miss. Unlogged: a crash forgets counts, never answers.
CREATE UNLOGGED TABLE @extschema@._steadytext_cache_hits (
    entry_id bigint NOT NULL,
    hit_at timestamptz NOT NULL DEFAULT pg_catalog.now()
) WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 20000,
        autovacuum_vacuum_insert_threshold = -1, autovacuum_analyze_scale_factor = 10);

CREATE TABLE @extschema@._steadytext_cache_totals (
    singleton boolean PRIMARY KEY DEFAULT true CHECK (singleton),
    hits bigint NOT NULL DEFAULT 0,
    misses bigint NOT NULL DEFAULT 0
);
INSERT INTO @extschema@._steadytext_cache_totals DEFAULT VALUES;

-- hex(SHA-256(octet length of the prompt in UTF-8, ':', the prompt, the parameters as canonical jsonb text)).
-- The length says where the prompt ends, so that no two pairs share an encoding. The encoding of a database never
-- changes, which makes the conversion to UTF-8 as immutable as the key is declared.
CREATE FUNCTION @extschema@.steadytext_cache_key(prompt text, params jsonb) RETURNS text
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF prompt IS NULL OR params IS NULL THEN
        PERFORM @extschema@._steadytext_raise('22004', 'prompt and params cannot be null');
    END IF;
    RETURN encode(sha256(convert_to(
        octet_length(convert_to(prompt, 'UTF8'))::text || ':' || prompt || params::text, 'UTF8')), 'hex');
END
$$;

CREATE FUNCTION @extschema@._steadytext_writable() RETURNS boolean
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RETURN current_setting('transaction_read_only') = 'off';
END
$$;

-- Append one row to the log. VOLATILE, so that a STABLE function may have a hit counted; called with a pinned search_path
-- in force, and by assignment, which costs less than PERFORM.
CREATE FUNCTION @extschema@._steadytext_cache_log(entry_id bigint) RETURNS boolean
LANGUAGE plpgsql VOLATILE AS $$
BEGIN
    INSERT INTO @extschema@._steadytext_cache_hits (entry_id) VALUES (entry_id);
    RETURN true;
END
$$;

-- Find an entry and count the hit.
CREATE FUNCTION @extschema@._steadytext_cache_probe(
    prompt text, params jsonb, OUT is_hit boolean, OUT response text, OUT embedding vector
) LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_variable
DECLARE
    entry bigint;
BEGIN
    SELECT c.id, c.response, c.embedding INTO entry, response, embedding FROM @extschema@.steadytext_cache c
    WHERE c.cache_key = @extschema@.steadytext_cache_key(prompt, params);
    is_hit := entry IS NOT NULL;
    IF is_hit AND @extschema@._steadytext_writable() THEN
        INSERT INTO @extschema@._steadytext_cache_hits (entry_id) VALUES (entry);
    END IF;
END
$$;

-- Keep an answer, unless the transaction may not write or somebody else is keeping the same one right now: the
-- caller has its answer already, and must neither wait for a stranger's commit nor fail on it.
CREATE FUNCTION @extschema@._steadytext_cache_store(
    prompts text[], params jsonb, responses text[], embeddings text[], model text, model_digest text, took_ms integer
) RETURNS void
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp SET lock_timeout = '50ms' AS $$
#variable_conflict use_variable
BEGIN
    IF NOT @extschema@._steadytext_writable() THEN
        RETURN;
    END IF;
    INSERT INTO @extschema@._steadytext_cache_hits (entry_id) SELECT 0 FROM unnest(prompts);
    BEGIN
        IF params ->> 'digest' IS DISTINCT FROM model_digest THEN
            PERFORM @extschema@._steadytext_model_learn(model, model_digest);
            params := params || jsonb_build_object('digest', model_digest);
        END IF;
        INSERT INTO @extschema@.steadytext_cache
            (cache_key, prompt, response, embedding, operation, model_name, model_digest, model_size, seed, thinking_mode,
             eos_string, scope, generation_params, response_size, generation_time_ms)
        SELECT @extschema@.steadytext_cache_key(fresh.prompt, params), fresh.prompt, fresh.response, fresh.embedding,
            params ->> 'op', model, model_digest,
            (SELECT a FROM @extschema@.steadytext_models m, unnest(m.aliases) a
             WHERE m.name = model AND a IN ('small', 'medium', 'large') LIMIT 1),
            (params ->> 'seed')::integer, coalesce((params ->> 'thinking_mode')::boolean, false), params ->> 'eos_string',
            params ->> 'scope', params, octet_length(fresh.response), took_ms
        FROM @extschema@._steadytext_cache_rows(prompts, responses, embeddings) fresh
        ON CONFLICT DO NOTHING;
    EXCEPTION
        WHEN lock_not_available OR serialization_failure OR deadlock_detected THEN
            NULL;
    END;
END
$$;

-- Texts beside their answers, embeddings read from their text form by the column's own type.
CREATE FUNCTION @extschema@._steadytext_cache_rows(
    prompts text[], responses text[], embeddings text[]
) RETURNS TABLE (prompt text, response text, embedding vector)
LANGUAGE sql STABLE
BEGIN ATOMIC
    SELECT t.p, t.r, t.e::vector FROM ROWS FROM (pg_catalog.unnest(prompts), pg_catalog.unnest(responses), pg_catalog.unnest(embeddings)) AS t (p, r, e);
END;

-- The daemon answered with other weights than the table knew: remember them, the next key is right.
CREATE FUNCTION @extschema@._steadytext_model_learn(model text, model_digest text) RETURNS void
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_variable
BEGIN
    UPDATE @extschema@.steadytext_models m SET digest = model_digest
    WHERE m.name = model AND m.digest IS DISTINCT FROM model_digest;
END
$$;

-- What the log holds beyond what was folded. Nothing on a hot standby: an unlogged table cannot be read there.
CREATE FUNCTION @extschema@._steadytext_cache_unfolded()
RETURNS TABLE (entry_id bigint, hits bigint, last_hit timestamptz)
LANGUAGE plpgsql STABLE PARALLEL SAFE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp ROWS 100 AS $$
#variable_conflict use_column
BEGIN
    IF NOT pg_is_in_recovery() THEN
        RETURN QUERY SELECT l.entry_id, count(*), max(l.hit_at)
                     FROM @extschema@._steadytext_cache_hits l GROUP BY l.entry_id;
    END IF;
END
$$;

-- Move the log into the entries; returns how many hits and misses were folded. One transaction does both halves, so
-- every snapshot sees each hit exactly once.
CREATE FUNCTION @extschema@._steadytext_cache_fold() RETURNS bigint
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    folded bigint := 0;
    missed bigint := 0;
BEGIN
    PERFORM @extschema@._steadytext_cache_lock();
    WITH taken AS (
        DELETE FROM @extschema@._steadytext_cache_hits RETURNING entry_id, hit_at
    ), counted AS (
        SELECT entry_id, count(*) AS hits, max(hit_at) AS last_hit FROM taken GROUP BY entry_id
    ), folded_entries AS (
        UPDATE @extschema@.steadytext_cache c
        SET access_count = least(c.access_count::bigint + counted.hits, 2147483647)::integer,
            last_accessed = greatest(c.last_accessed, counted.last_hit)
        FROM counted WHERE c.id = counted.entry_id
    )
    SELECT coalesce(sum(hits), 0), coalesce(sum(hits) FILTER (WHERE entry_id = 0), 0) INTO folded, missed FROM counted;
    IF folded > 0 THEN
        UPDATE @extschema@._steadytext_cache_totals SET hits = hits + folded - missed, misses = misses + missed;
    END IF;
    RETURN folded;
END
$$;

-- Folding, evicting and clearing exclude each other; none of them excludes a hit.
CREATE FUNCTION @extschema@._steadytext_cache_lock() RETURNS void
LANGUAGE sql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
    SELECT pg_advisory_xact_lock(hashtextextended('pg_steadytext cache', 0))
$$;

-- The score of SteadyText: accesses divided by one plus the hours since the last of them. STABLE because date_part is,
-- so that the planner inlines it.
CREATE FUNCTION @extschema@._steadytext_frecency(access_count bigint, last_accessed timestamptz, at timestamptz)
RETURNS double precision
LANGUAGE sql STABLE PARALLEL SAFE
BEGIN ATOMIC
    SELECT access_count / (1.0::double precision + greatest(0.0::double precision,
        pg_catalog.date_part('epoch', at) - pg_catalog.date_part('epoch', last_accessed)) / 3600.0::double precision);
END;

CREATE VIEW @extschema@.steadytext_cache_with_frecency AS
SELECT c.id, c.cache_key, c.prompt, c.response, c.embedding,
       c.access_count + coalesce(l.hits, 0) AS access_count,
       greatest(c.last_accessed, l.last_hit) AS last_accessed,
       c.created_at, c.steadytext_cache_hit, c.operation, c.model_name, c.model_digest, c.model_size, c.seed,
       c.thinking_mode, c.eos_string, c.scope, c.generation_params, c.response_size, c.generation_time_ms, c.size_bytes,
       @extschema@._steadytext_frecency(c.access_count + coalesce(l.hits, 0), greatest(c.last_accessed, l.last_hit),
                                        pg_catalog.now()) AS frecency_score
FROM @extschema@.steadytext_cache c
LEFT JOIN @extschema@._steadytext_cache_unfolded() l ON l.entry_id = c.id;

CREATE FUNCTION @extschema@.steadytext_cache_stats(
    OUT total_entries bigint, OUT total_size_mb double precision, OUT cache_hit_rate double precision,
    OUT avg_access_count double precision, OUT oldest_entry timestamptz, OUT newest_entry timestamptz
) RETURNS SETOF record
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    WITH log AS (
        SELECT * FROM @extschema@._steadytext_cache_unfolded()
    ), entries AS (
        SELECT count(*) AS n, sum(size_bytes) AS bytes, sum(access_count) AS accesses,
               min(created_at) AS oldest, max(created_at) AS newest
        FROM @extschema@.steadytext_cache
    ), totals AS (
        SELECT t.hits + coalesce(sum(l.hits) FILTER (WHERE l.entry_id <> 0), 0) AS hits,
               t.misses + coalesce(sum(l.hits) FILTER (WHERE l.entry_id = 0), 0) AS misses
        FROM @extschema@._steadytext_cache_totals t LEFT JOIN log l ON true GROUP BY t.hits, t.misses
    ), kept AS (
        SELECT coalesce(sum(l.hits), 0) AS hits FROM log l JOIN @extschema@.steadytext_cache c ON c.id = l.entry_id
    )
    SELECT e.n, coalesce(e.bytes / 1048576.0, 0)::double precision,
           coalesce(t.hits / nullif(t.hits + t.misses, 0), 0)::double precision,
           coalesce((e.accesses + k.hits) / nullif(e.n, 0), 0)::double precision, e.oldest, e.newest
    FROM entries e, totals t, kept k
$$;

-- Empty the cache and start the statistics anew; returns how many entries there were.
CREATE FUNCTION @extschema@.steadytext_cache_clear() RETURNS bigint
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    removed bigint;
BEGIN
    PERFORM @extschema@._steadytext_cache_lock();
    DELETE FROM @extschema@.steadytext_cache;
    GET DIAGNOSTICS removed = ROW_COUNT;
    DELETE FROM @extschema@._steadytext_cache_hits;
    UPDATE @extschema@._steadytext_cache_totals SET hits = 0, misses = 0;
    RETURN removed;
END
$$;
-- Eviction. One function says who goes first; the preview and every eviction ask it.

-- Every entry that may go, with what orders it: rank, then last_accessed, then id. Hits that are not folded yet count.
-- It is inlined and parallel, so that a million entries are one index-only scan.
-- An entry accessed at least `min_access_count` times or younger than `min_age_hours` is protected: it is not listed.
CREATE FUNCTION @extschema@._steadytext_eviction_candidates(
    policy text, min_access_count integer, min_age_hours integer
) RETURNS TABLE (id bigint, access_count bigint, last_accessed timestamptz, created_at timestamptz, size_bytes bigint,
                 rank double precision)
LANGUAGE sql STABLE PARALLEL SAFE
BEGIN ATOMIC
    SELECT e.id, e.accesses, e.accessed, e.created_at, e.size_bytes, e.rank
    FROM (
        SELECT c.id, c.access_count + coalesce(l.hits, 0) AS accesses,
               greatest(c.last_accessed, l.last_hit) AS accessed, c.created_at, c.size_bytes,
               CASE policy
                   WHEN 'lru' THEN 0
                   WHEN 'lfu' THEN c.access_count + coalesce(l.hits, 0)
                   WHEN 'age' THEN pg_catalog.date_part('epoch', c.created_at)
                   ELSE @extschema@._steadytext_frecency(c.access_count + coalesce(l.hits, 0),
                        greatest(c.last_accessed, l.last_hit), pg_catalog.now())
               END AS rank
        FROM @extschema@.steadytext_cache c
        LEFT JOIN @extschema@._steadytext_cache_unfolded() l ON l.entry_id = c.id
    ) e
    WHERE (min_access_count IS NULL OR e.accesses < min_access_count)
      AND (min_age_hours IS NULL
           OR e.created_at < pg_catalog.now() - pg_catalog.make_interval(hours => min_age_hours));
END;

-- The fewest entries, first to go first, whose removal brings the cache down to both targets.
CREATE FUNCTION @extschema@._steadytext_eviction_victims(
    policy text, target_entries bigint, target_bytes numeric, min_access_count integer, min_age_hours integer,
    OUT victims bigint[], OUT entries bigint, OUT bytes numeric
) LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_variable
DECLARE
    surplus bigint;
    surplus_bytes numeric;
BEGIN
    SELECT count(*), coalesce(sum(c.size_bytes), 0) INTO entries, bytes FROM @extschema@.steadytext_cache c;
    surplus := greatest(entries - target_entries, 0);
    surplus_bytes := greatest(bytes - target_bytes, 0);
    IF coalesce(surplus_bytes, 0) = 0 THEN
        SELECT coalesce(array_agg(o.id), '{}') INTO victims FROM (
            SELECT e.id FROM @extschema@._steadytext_eviction_candidates(policy, min_access_count, min_age_hours) e
            ORDER BY e.rank, e.last_accessed, e.id LIMIT coalesce(surplus, 0)) o;
    ELSE
        SELECT coalesce(array_agg(o.id ORDER BY o.place), '{}') INTO victims FROM (
            SELECT e.id, row_number() OVER w AS place, sum(e.size_bytes) OVER w - e.size_bytes AS freed_before
            FROM @extschema@._steadytext_eviction_candidates(policy, min_access_count, min_age_hours) e
            WINDOW w AS (ORDER BY e.rank, e.last_accessed, e.id ROWS UNBOUNDED PRECEDING)) o
        WHERE o.place <= surplus OR o.freed_before < surplus_bytes;
    END IF;
END
$$;

-- Evict down to the targets; NULL is no target. Rows go in batches, in one transaction.
CREATE FUNCTION @extschema@._steadytext_evict(
    policy text, target_entries bigint, target_size_mb double precision, batch_size integer,
    min_access_count integer, min_age_hours integer,
    OUT evicted_count integer, OUT freed_size_mb double precision,
    OUT remaining_entries bigint, OUT remaining_size_mb double precision
) LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_variable
DECLARE
    plan record;
    freed numeric := 0;
    freed_now numeric;
    removed integer;
BEGIN
    PERFORM @extschema@._steadytext_cache_lock();
    SELECT v.* INTO plan FROM @extschema@._steadytext_eviction_victims(
        policy, target_entries, (target_size_mb * 1048576)::numeric, min_access_count, min_age_hours) v;
    evicted_count := 0;
    FOR head IN 1 .. cardinality(plan.victims) BY batch_size LOOP
        WITH gone AS (
            DELETE FROM @extschema@.steadytext_cache c
            WHERE c.id = ANY (plan.victims[head : least(head::bigint + batch_size - 1, cardinality(plan.victims))])
            RETURNING c.size_bytes
        )
        SELECT count(*), coalesce(sum(g.size_bytes), 0) INTO removed, freed_now FROM gone g;
        evicted_count := evicted_count + removed;
        freed := freed + freed_now;
    END LOOP;
    freed_size_mb := freed / 1048576;
    remaining_entries := plan.entries - evicted_count;
    remaining_size_mb := (plan.bytes - freed) / 1048576;
END
$$;

CREATE FUNCTION @extschema@._steadytext_evict_checked(
    policy text, target_entries integer, target_size_mb double precision, batch_size integer,
    min_access_count integer, min_age_hours integer,
    OUT evicted_count integer, OUT freed_size_mb double precision,
    OUT remaining_entries bigint, OUT remaining_size_mb double precision
) RETURNS SETOF record
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_variable
BEGIN
    IF batch_size IS NULL OR min_age_hours IS NULL OR (policy <> 'age' AND min_access_count IS NULL) THEN
        PERFORM @extschema@._steadytext_raise('22004', 'batch_size, min_access_count and min_age_hours cannot be null');
    ELSIF batch_size < 1 THEN
        PERFORM @extschema@._steadytext_raise('22023', 'batch_size must be at least 1');
    ELSIF min_age_hours NOT BETWEEN 0 AND 1000000 THEN
        PERFORM @extschema@._steadytext_raise('22023', 'min_age_hours must be between 0 and 1000000');
    ELSIF target_entries < 0 THEN
        PERFORM @extschema@._steadytext_raise('22023', 'target_entries must be non-negative');
    ELSIF NOT @extschema@._steadytext_is_size(target_size_mb) THEN
        PERFORM @extschema@._steadytext_raise('22023', 'target_size_mb must be a number from 0 to 1000000000');
    END IF;
    IF target_entries IS NULL THEN
        target_entries := @extschema@.steadytext_config_get('cache_max_entries')::integer;
    END IF;
    IF target_size_mb IS NULL THEN
        target_size_mb := @extschema@.steadytext_config_get('cache_max_size_mb')::double precision;
    END IF;
    RETURN QUERY SELECT e.* FROM @extschema@._steadytext_evict(
        policy, target_entries, target_size_mb, batch_size, min_access_count, min_age_hours) e;
END
$$;

CREATE FUNCTION @extschema@._steadytext_is_size(megabytes double precision) RETURNS boolean
LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT coalesce(megabytes BETWEEN 0 AND 1000000000, true)
$$;

CREATE FUNCTION @extschema@.steadytext_cache_evict(max_entries integer DEFAULT NULL, max_size_mb double precision DEFAULT NULL)
RETURNS integer
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_variable
BEGIN
    IF max_entries < 0 THEN
        PERFORM @extschema@._steadytext_raise('22023', 'max_entries must be non-negative');
    ELSIF NOT @extschema@._steadytext_is_size(max_size_mb) THEN
        PERFORM @extschema@._steadytext_raise('22023', 'max_size_mb must be a number from 0 to 1000000000');
    END IF;
    IF max_entries IS NULL AND max_size_mb IS NULL THEN
        max_entries := @extschema@.steadytext_config_get('cache_max_entries')::integer;
        max_size_mb := @extschema@.steadytext_config_get('cache_max_size_mb')::double precision;
    END IF;
    RETURN (SELECT e.evicted_count FROM @extschema@._steadytext_evict(
        @extschema@.steadytext_config_get('cache_policy'), max_entries, max_size_mb, 1000, NULL, NULL) e);
END
$$;

CREATE FUNCTION @extschema@.steadytext_cache_evict_by_age(
    target_entries integer DEFAULT NULL, target_size_mb double precision DEFAULT NULL, batch_size integer DEFAULT 100,
    min_age_hours integer DEFAULT 1,
    OUT evicted_count integer, OUT freed_size_mb double precision,
    OUT remaining_entries bigint, OUT remaining_size_mb double precision
) RETURNS SETOF record
LANGUAGE sql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT e.* FROM @extschema@._steadytext_evict_checked('age', target_entries, target_size_mb, batch_size, NULL, min_age_hours) e
$$;

CREATE FUNCTION @extschema@.steadytext_cache_evict_by_frecency(
    target_entries integer DEFAULT NULL, target_size_mb double precision DEFAULT NULL, batch_size integer DEFAULT 100,
    min_access_count integer DEFAULT 2, min_age_hours integer DEFAULT 1,
    OUT evicted_count integer, OUT freed_size_mb double precision,
    OUT remaining_entries bigint, OUT remaining_size_mb double precision
) RETURNS SETOF record
LANGUAGE sql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT e.* FROM @extschema@._steadytext_evict_checked(
        'frecency', target_entries, target_size_mb, batch_size, min_access_count, min_age_hours) e
$$;

-- What an eviction by the configured policy would take next, first to go first. The further arguments preview the
-- protected kinds of eviction.
CREATE FUNCTION @extschema@.steadytext_cache_preview_eviction(
    preview_count integer DEFAULT 10, min_access_count integer DEFAULT NULL, min_age_hours integer DEFAULT NULL,
    policy text DEFAULT NULL,
    OUT cache_key text, OUT prompt text, OUT access_count integer, OUT last_accessed timestamptz,
    OUT created_at timestamptz, OUT age_days double precision, OUT size_bytes bigint, OUT frecency_score double precision
) RETURNS SETOF record
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
    chosen text := coalesce(policy, @extschema@.steadytext_config_get('cache_policy'));
BEGIN
    IF preview_count IS NULL THEN
        PERFORM @extschema@._steadytext_raise('22004', 'preview_count cannot be null');
    ELSIF preview_count < 0 THEN
        PERFORM @extschema@._steadytext_raise('22023', 'preview_count must be non-negative');
    ELSIF chosen NOT IN ('frecency', 'lru', 'lfu', 'age') THEN
        PERFORM @extschema@._steadytext_raise('22023', 'policy must be frecency, lru, lfu or age');
    END IF;
    RETURN QUERY
    SELECT c.cache_key, CASE WHEN length(c.prompt) > 50 THEN left(c.prompt, 50) || '...' ELSE c.prompt END,
           least(e.access_count, 2147483647)::integer, e.last_accessed, e.created_at,
           extract(epoch FROM now() - e.created_at)::double precision / 86400, e.size_bytes,
           @extschema@._steadytext_frecency(e.access_count, e.last_accessed, now())
    FROM (SELECT o.* FROM @extschema@._steadytext_eviction_candidates(
              chosen, steadytext_cache_preview_eviction.min_access_count,
              steadytext_cache_preview_eviction.min_age_hours) o
          ORDER BY o.rank, o.last_accessed, o.id LIMIT preview_count) e
    JOIN @extschema@.steadytext_cache c ON c.id = e.id
    ORDER BY e.rank, e.last_accessed, e.id;
END
$$;

CREATE FUNCTION @extschema@.steadytext_cache_analyze_usage(
    OUT age_bucket text, OUT entry_count bigint, OUT avg_access_count double precision,
    OUT total_size_mb double precision, OUT percentage_of_cache double precision
) RETURNS SETOF record
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    WITH entries AS (
        SELECT c.size_bytes, c.access_count + coalesce(l.hits, 0) AS accesses,
               CASE WHEN c.created_at > now() - interval '1 hour' THEN 1
                    WHEN c.created_at > now() - interval '1 day' THEN 2
                    WHEN c.created_at > now() - interval '7 days' THEN 3
                    WHEN c.created_at > now() - interval '30 days' THEN 4
                    ELSE 5 END AS bucket
        FROM @extschema@.steadytext_cache c LEFT JOIN @extschema@._steadytext_cache_unfolded() l ON l.entry_id = c.id
    )
    SELECT (ARRAY['< 1 hour', '1 hour - 1 day', '1 day - 7 days', '7 days - 30 days', '> 30 days'])[bucket],
           count(*), avg(accesses)::double precision, (sum(size_bytes) / 1048576.0)::double precision,
           (100.0 * count(*) / sum(count(*)) OVER ())::double precision
    FROM entries GROUP BY bucket ORDER BY bucket
$$;

CREATE FUNCTION @extschema@.steadytext_cache_scheduled_eviction() RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF @extschema@.steadytext_config_get('cache_eviction_enabled')::boolean THEN
        PERFORM @extschema@.steadytext_cache_evict();
    END IF;
END
$$;
-- The seam: the only two functions that leave SQL. Both carry the client that this file includes; replies, failures
-- included, come back as data, and PL/pgSQL raises what is to be raised.

CREATE FUNCTION @extschema@._steadytext_call(endpoint text, request text, timeout_ms integer, options text)
RETURNS text
LANGUAGE plpython3u VOLATILE SET search_path = pg_catalog, pg_temp AS $python$
client = GD.get("pg_steadytext 1.0.0")
if client is None:
    # The whole client of the daemon as a backend runs it: the standard library and zmq, nothing else.
    # The Makefile puts this file inside the function _steadytext_call, which runs it once per backend.
    import errno
    import json
    import os
    import select
    import socket
    import time
    import uuid

    SLICE_MS = 50  # how long a wait lasts before PostgreSQL may interrupt it
    UNREACHABLE_S = 15.0  # how long a daemon that is being started may take to answer
    RESENDS = 3  # a request that ended the daemon this often is given up
    ACK_EVERY = 8
    DEFAULT_SUPERVISOR = "/run/pg_steadytext/supervisor.sock"


    class RequestError(Exception):
        """What the caller will read: a message, its SQLSTATE and a hint."""

        def __init__(self, message, code, hint=None):
            super().__init__(message)
            self.reply = {"error": message, "code": code, "hint": hint, "result": None}


    class UnreachableError(Exception):
        """Nobody answers at the endpoint, or the connection was lost."""


    class Link:
        """One connected DEALER socket with the monitor that tells when it is lost."""

        def __init__(self, address, keys):
            import zmq

            self.zmq = zmq
            self.socket = zmq.Context.instance().socket(zmq.DEALER)
            self.socket.setsockopt(zmq.LINGER, 0)
            self.socket.setsockopt(zmq.RECONNECT_IVL, -1)
            self.socket.setsockopt(zmq.HEARTBEAT_IVL, 1000)
            self.socket.setsockopt(zmq.HEARTBEAT_TIMEOUT, 5000)
            self.socket.setsockopt(zmq.IPV6, int(address.startswith("tcp://[")))
            if keys.get("server_key"):
                self.socket.curve_serverkey = keys["server_key"].encode("ascii")
                self.socket.curve_publickey = keys["public_key"].encode("ascii")
                self.socket.curve_secretkey = keys["secret_key"].encode("ascii")
            self.monitor = self.socket.get_monitor_socket(
                zmq.EVENT_DISCONNECTED
                | zmq.EVENT_CLOSED
                | zmq.EVENT_CONNECT_RETRIED
                | zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL
                | zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL
                | zmq.EVENT_HANDSHAKE_FAILED_AUTH
            )
            self.poller = zmq.Poller()
            self.poller.register(self.socket, zmq.POLLIN)
            self.poller.register(self.monitor, zmq.POLLIN)
            self.socket.connect(address)

        def close(self):
            self.socket.disable_monitor()
            self.monitor.close(0)
            self.socket.close(0)

        def lost(self):
            """Whether an event says that the connection is no longer there."""
            return bool(self.monitor.poll(0))

        def send(self, message):
            try:
                self.socket.send_multipart([b"", json.dumps(message).encode()], self.zmq.NOBLOCK)
            except self.zmq.Again:
                raise UnreachableError("the connection takes no more requests") from None

        def receive(self, wait_ms):
            """The next message, or None when `wait_ms` have passed. Raises UnreachableError when the connection is lost."""
            ready = dict(self.poller.poll(wait_ms))
            # an answer and the end of the connection may arrive together: the answer counts
            if self.socket in ready or (self.monitor in ready and self.socket.poll(0)):
                return self.socket.recv_multipart(self.zmq.NOBLOCK)[-1]
            if self.monitor in ready:
                raise UnreachableError("the connection was lost")
            return None


    class Client:
        """Carries requests to the daemon; `plpy` is the calling function's."""

        def __init__(self, plpy):
            self.plpy = plpy
            self.link = None
            self.key = None
            self.pid = os.getpid()

        # Public: what the two functions of the seam call.

        def call(self, endpoint, request, timeout_ms, options):
            """Ask one question; returns the reply as JSON text, a failure like any other reply."""
            try:
                message = json.loads(request)
                if endpoint == "supervisor":
                    return json.dumps(self.supervise(message))
                return self.ask(endpoint, message, time.monotonic() + timeout_ms / 1000, json.loads(options))
            except RequestError as failure:
                return json.dumps(failure.reply)
            except self.plpy.SPIError as error:
                return json.dumps(interrupted(error))

        def stream(self, endpoint, request, timeout_ms, options):
            """Yield "p" + piece for each piece, then "d" + the reply that ends the text, or "e" + a failure."""
            link = None
            try:
                message = json.loads(request)
                options = json.loads(options)
                taken, text, attempts = 0, [], 0
                while True:
                    link = self.connected(endpoint, options, time.monotonic() + timeout_ms / 1000)
                    skip = sum(map(len, text))
                    try:
                        for result in self.replies(link, message, timeout_ms):
                            if "done" in result:
                                link.close()
                                link = None
                                yield "d" + json.dumps({**result, "text": "".join(text)})
                                return
                            piece = result["piece"][skip:]
                            skip -= min(skip, len(result["piece"]))
                            if piece:
                                text.append(piece)
                                yield "p" + piece
                            taken += 1
                            if taken % ACK_EVERY == 0:
                                link.send({"method": "ack", "id": self.request_id, "params": {"pieces": ACK_EVERY}})
                    except UnreachableError:
                        link.close()
                        link = None
                        attempts += 1
                        if attempts > RESENDS:
                            raise unreachable(endpoint, "it went away repeatedly") from None
            except RequestError as failure:
                yield "e" + json.dumps(failure.reply)
            except self.plpy.SPIError as error:
                yield "e" + json.dumps(interrupted(error))
            finally:
                if link is not None:
                    link.close()

        # Requests.

        def ask(self, endpoint, message, until, options):
            for _ in range(RESENDS + 1):
                link = self.shared_link(endpoint, options, until)
                request_id = uuid.uuid4().hex
                try:
                    self.post(link, request_id, message, until)
                    return self.answer(link, request_id, until)
                except UnreachableError:
                    self.drop()
                except Exception:
                    self.cancel(link, request_id)
                    raise
            raise unreachable(endpoint, "it went away repeatedly")

        def post(self, link, request_id, message, until):
            left = max(0, int((until - time.monotonic()) * 1000))
            link.send({**message, "id": request_id, "client": "pg_steadytext", "deadline_ms": left})

        def cancel(self, link, request_id):
            try:
                link.send({"method": "cancel", "params": {"id": request_id}, "id": "", "client": "pg_steadytext"})
            except UnreachableError:
                self.drop()

        def answer(self, link, request_id, until):
            """The reply to one request; replies to requests that were given up pass by."""
            while True:
                body = self.next_message(link, until)
                if json.loads(body).get("id") == request_id:
                    return body.decode()

        def replies(self, link, message, timeout_ms):
            self.request_id = request_id = uuid.uuid4().hex
            link.send({**message, "id": request_id, "client": "pg_steadytext"})
            while True:
                reply = json.loads(self.next_message(link, time.monotonic() + timeout_ms / 1000))
                if reply.get("id") != request_id:
                    continue
                if reply["error"] is not None:
                    raise RequestError(reply["error"], reply.get("code") or "58000", reply.get("hint"))
                self.request_id = request_id
                yield reply["result"]

        def next_message(self, link, until):
            while True:
                left = until - time.monotonic()
                if left <= 0:
                    raise RequestError("the daemon did not answer in time", "57014", "request_timeout_ms sets the limit.")
                body = link.receive(min(SLICE_MS, left * 1000))
                if body is not None:
                    return body
                self.breathe()

        def breathe(self):
            """Let PostgreSQL act on a cancel, a statement_timeout or a shutdown."""
            self.plpy.execute("SELECT 1")

        # The connection.

        def shared_link(self, endpoint, options, until):
            """This backend's connection, made anew after a fork, a change of settings or a loss."""
            key = (endpoint, options["server_key"], options["public_key"], options["secret_key"])
            if self.pid != os.getpid():
                self.link, self.pid = None, os.getpid()
            if self.link is not None and (self.key != key or self.link.lost()):
                self.drop()
            if self.link is None:
                self.link = self.connected(endpoint, options, until)
                self.key = key
            return self.link

        def drop(self):
            if self.link is not None:
                self.link.close()
                self.link = None

        def connected(self, endpoint, options, until):
            """A connection. With auto_start, the supervisor is asked to start a daemon that is not there."""
            give_up = min(until, time.monotonic() + UNREACHABLE_S)
            asked = False
            while True:
                try:
                    return Link(self.probe(endpoint), options)
                except UnreachableError as reason:
                    if not options["auto_start"]:
                        raise unreachable(endpoint, reason) from None
                    if not asked:
                        self.start(endpoint, reason)
                        asked = True
                    elif time.monotonic() >= give_up:
                        raise unreachable(endpoint, reason) from None
                    time.sleep(SLICE_MS / 1000)
                    self.breathe()

        def start(self, endpoint, reason):
            try:
                reply = self.supervise({"command": "start", "service": "daemon"})
            except RequestError as failure:
                raise unreachable(endpoint, f"{reason}, and {failure}") from None
            if reply["error"] is not None:
                raise unreachable(endpoint, f"{reason}, and the supervisor says: {reply['error']}")

        def probe(self, endpoint):
            """The address that takes connections, found with a plain socket: zmq would retry in silence."""
            if endpoint.startswith("ipc://"):
                self.knock(socket.AF_UNIX, endpoint[len("ipc://") :])
                return endpoint
            host, _, port = endpoint[len("tcp://") :].rpartition(":")
            try:
                found = socket.getaddrinfo(host.strip("[]"), int(port), type=socket.SOCK_STREAM)
            except OSError as error:
                raise UnreachableError(error.strerror or str(error)) from None
            reason = UnreachableError("no address")
            for family, _kind, _protocol, _name, address in sorted(found, key=lambda entry: entry[0] != socket.AF_INET):
                try:
                    self.knock(family, address)
                except UnreachableError as refused:
                    reason = refused
                else:
                    return f"tcp://[{address[0]}]:{port}" if ":" in address[0] else f"tcp://{address[0]}:{port}"
            raise reason

        def knock(self, family, address, wait_s=2.0):
            with socket.socket(family, socket.SOCK_STREAM) as knocker:
                knocker.setblocking(False)
                code = knocker.connect_ex(address)
                until = time.monotonic() + wait_s
                while code in (errno.EINPROGRESS, errno.EAGAIN):
                    if select.select([], [knocker], [], SLICE_MS / 1000)[1]:
                        code = knocker.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
                        break
                    if time.monotonic() > until:
                        code = errno.ETIMEDOUT
                    self.breathe()
                if code:
                    raise UnreachableError(os.strerror(code))

        # The supervisor.

        def supervise(self, command):
            """Send the supervisor one command; a backend never runs a program itself."""
            rows = self.plpy.execute(
                "SELECT setting FROM pg_catalog.pg_file_settings WHERE name OPERATOR(pg_catalog.=) "
                "'steadytext.supervisor_socket' AND error IS NULL ORDER BY seqno DESC LIMIT 1"
            )
            path = rows[0]["setting"] if len(rows) and rows[0]["setting"] else DEFAULT_SUPERVISOR
            try:
                with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as line:
                    line.settimeout(SLICE_MS / 1000)
                    line.connect(path)
                    line.sendall(json.dumps(command).encode() + b"\n")
                    reply = json.loads(self.read_line(line))
            except (OSError, ValueError) as error:
                raise RequestError(
                    f"the supervisor at {path} does not answer: {error}",
                    "08001",
                    'Start it with "pg-steadytext up", or name its socket in steadytext.supervisor_socket.',
                ) from None
            return {"result": reply, "error": None if reply.get("ok") else str(reply.get("error")), "code": "58000"}

        def read_line(self, line, wait_s=30.0):
            received, until = b"", time.monotonic() + wait_s
            while not received.endswith(b"\n"):
                try:
                    part = line.recv(65536)
                except TimeoutError:
                    self.breathe()
                    if time.monotonic() > until:
                        raise
                    continue
                if not part:
                    break
                received += part
            return received


    def interrupted(error):
        """A cancel, a timeout or another error of PostgreSQL's own, without PL/Python's prefix."""
        return {"error": str(error.args[0] if error.args else error), "code": error.sqlstate or "57014", "hint": None}


    def unreachable(endpoint, reason):
        return RequestError(
            f"could not reach the daemon at {endpoint}: {reason}",
            "08001",
            "pg-steadytext up starts it; daemon_host and daemon_port tell where it is looked for.",
        )
    client = GD["pg_steadytext 1.0.0"] = Client(plpy)
if request is None:
    return None
return client.call(endpoint, request, timeout_ms, options)
$python$;

CREATE FUNCTION @extschema@._steadytext_call_stream(endpoint text, request text, timeout_ms integer, options text)
RETURNS SETOF text
LANGUAGE plpython3u VOLATILE SET search_path = pg_catalog, pg_temp AS $python$
if "pg_steadytext 1.0.0" not in GD:
    plpy.execute("SELECT @extschema@._steadytext_call(NULL, NULL, NULL, NULL)")
return GD["pg_steadytext 1.0.0"].stream(endpoint, request, timeout_ms, options)
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
-- Text generation: a fast path that does everything a hit needs in one query, and a full path that checks, asks the
-- daemon and keeps the answer.

-- Check the arguments and settle what is asked of whom: `params` is the cache key's, `request` the daemon's.
CREATE FUNCTION @extschema@._steadytext_generate_prepare(
    prompt text, max_tokens integer, use_cache boolean, seed integer, eos_string text, model text, model_repo text,
    model_filename text, size text, unsafe_mode boolean, thinking_mode boolean, temperature double precision,
    OUT params jsonb, OUT request jsonb, OUT cached boolean
) LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_variable
DECLARE
    settings @extschema@._steadytext_settings;
    chosen @extschema@.steadytext_models;
BEGIN
    SELECT s.* INTO settings FROM @extschema@._steadytext_settings s;
    PERFORM @extschema@._steadytext_check_text('Prompt', prompt, settings.max_prompt_chars);
    IF num_nulls(use_cache, eos_string, unsafe_mode, thinking_mode, temperature) > 0 THEN
        PERFORM @extschema@._steadytext_raise('22004', concat(CASE
            WHEN use_cache IS NULL THEN 'use_cache' WHEN eos_string IS NULL THEN 'eos_string'
            WHEN unsafe_mode IS NULL THEN 'unsafe_mode' WHEN thinking_mode IS NULL THEN 'thinking_mode'
            ELSE 'temperature' END, ' cannot be null'));
    END IF;
    max_tokens := coalesce(max_tokens, settings.default_max_tokens);
    seed := coalesce(seed, settings.default_seed);
    IF max_tokens < 1 THEN
        PERFORM @extschema@._steadytext_raise('22023', 'max_tokens must be at least 1');
    ELSIF max_tokens > settings.max_tokens_limit THEN
        PERFORM @extschema@._steadytext_raise('22023', format('max_tokens exceeds system limit of %s', settings.max_tokens_limit),
            'An administrator raises it with steadytext_config_set(''max_tokens_limit'', ...).');
    ELSIF seed < 0 THEN
        PERFORM @extschema@._steadytext_raise('22023', 'seed must be non-negative');
    ELSIF eos_string = '' THEN
        PERFORM @extschema@._steadytext_raise('22023', 'eos_string cannot be empty',
            'The default, [EOS], stands for the model''s own end.');
    ELSIF length(eos_string) > 1000 THEN
        PERFORM @extschema@._steadytext_raise('22023', 'eos_string cannot be longer than 1000 characters');
    ELSIF NOT temperature BETWEEN 0 AND 2 THEN
        PERFORM @extschema@._steadytext_raise('22023', 'temperature must be between 0 and 2');
    END IF;
    temperature := temperature + 0;
    chosen := @extschema@._steadytext_model_resolve('generation', model, model_repo, model_filename, size, unsafe_mode);
    cached := use_cache AND settings.cache_enabled;
    params := jsonb_build_object(
        'op', 'generate', 'model', chosen.name, 'digest', chosen.digest, 'max_tokens', max_tokens, 'seed', seed,
        'temperature', temperature, 'eos_string', eos_string, 'thinking_mode', thinking_mode);
    IF NOT settings.shared_cache THEN
        params := params || jsonb_build_object('scope', @extschema@._steadytext_caller());
    END IF;
    request := jsonb_build_object(
        'prompt', prompt, 'max_new_tokens', max_tokens, 'seed', seed, 'temperature', temperature,
        'eos_string', eos_string, 'model', chosen.name, 'unsafe_mode', chosen.remote, 'thinking_mode', thinking_mode);
END
$$;

-- Refuse a text that is missing, blank or too long.
CREATE FUNCTION @extschema@._steadytext_check_text(name text, value text, max_chars integer) RETURNS void
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_variable
BEGIN
    IF value IS NULL THEN
        PERFORM @extschema@._steadytext_raise('22004', name || ' cannot be null');
    ELSIF octet_length(value) > max_chars AND length(value) > max_chars THEN
        PERFORM @extschema@._steadytext_raise('22001',
            format('%s of %s characters is longer than max_prompt_chars allows, %s', name, length(value), max_chars));
    ELSIF value !~ '\S' THEN
        PERFORM @extschema@._steadytext_raise('22023', name || ' cannot be empty');
    END IF;
END
$$;

-- What the cache holds under these parameters, else what the daemon answers, kept where it may be.
CREATE FUNCTION @extschema@._steadytext_generate_answer(prompt text, params jsonb, request jsonb, cached boolean)
RETURNS text
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_variable
DECLARE
    hit record;
    reply json;
    started timestamptz;
BEGIN
    IF cached THEN
        SELECT p.* INTO hit FROM @extschema@._steadytext_cache_probe(prompt, params) p;
        IF hit.is_hit THEN
            RETURN hit.response;
        END IF;
    END IF;
    started := clock_timestamp();
    reply := @extschema@._steadytext_request('generate', request);
    IF cached AND reply ->> 'text' <> '' THEN
        PERFORM @extschema@._steadytext_cache_store(
            ARRAY[prompt], params, ARRAY[reply ->> 'text'], NULL, reply ->> 'model', reply ->> 'digest',
            @extschema@._steadytext_ms_since(started));
    END IF;
    RETURN reply ->> 'text';
END
$$;

-- The full path: also the place of every refusal.
CREATE FUNCTION @extschema@._steadytext_generate(
    prompt text, max_tokens integer, use_cache boolean, seed integer, eos_string text, model text, model_repo text,
    model_filename text, size text, unsafe_mode boolean, thinking_mode boolean, temperature double precision
) RETURNS text
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_variable
DECLARE
    plan record;
BEGIN
    SELECT p.* INTO plan FROM @extschema@._steadytext_generate_prepare(
        prompt, max_tokens, use_cache, seed, eos_string, model, model_repo, model_filename, size, unsafe_mode,
        thinking_mode, temperature) p;
    RETURN @extschema@._steadytext_generate_answer(prompt, plan.params, plan.request, plan.cached);
END
$$;

CREATE FUNCTION @extschema@._steadytext_ms_since(started timestamptz) RETURNS integer
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RETURN 1000 * extract(epoch FROM clock_timestamp() - started);
END
$$;

-- A hit with the model, scope and temperature left at their defaults is answered by one query, which builds the same
-- key as _steadytext_generate_prepare does, as text instead of jsonb; with every option at its default, the key's
-- parameters lie ready (an expression is compiled anew for each call, so a short one pays). Everything else goes the
-- full way.
CREATE FUNCTION @extschema@.steadytext_generate(
    prompt text, max_tokens integer DEFAULT NULL, use_cache boolean DEFAULT true, seed integer DEFAULT 42,
    eos_string text DEFAULT '[EOS]', model text DEFAULT NULL, model_repo text DEFAULT NULL,
    model_filename text DEFAULT NULL, size text DEFAULT NULL, unsafe_mode boolean DEFAULT false,
    thinking_mode boolean DEFAULT false, temperature double precision DEFAULT 0
) RETURNS text
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_variable
DECLARE
    entry bigint;
    answer text;
    writable boolean;
BEGIN
    IF use_cache AND max_tokens IS NULL AND seed = 42 AND eos_string = '[EOS]' AND NOT unsafe_mode AND NOT thinking_mode
        AND temperature = 0 AND num_nulls(model, model_repo, model_filename, size) = 4 THEN
        SELECT c.id, c.response, current_setting('transaction_read_only') = 'off' INTO entry, answer, writable
        FROM @extschema@._steadytext_settings s
        JOIN @extschema@.steadytext_cache c ON c.cache_key = encode(sha256(convert_to(
            octet_length(convert_to(prompt, 'UTF8'))::text || ':' || prompt || s.generation_params, 'UTF8')), 'hex');
    ELSIF use_cache AND NOT unsafe_mode AND temperature = 0 AND num_nulls(model, model_repo, model_filename, size) = 4 THEN
        SELECT c.id, c.response, current_setting('transaction_read_only') = 'off' INTO entry, answer, writable
        FROM @extschema@._steadytext_settings s
        JOIN @extschema@.steadytext_cache c ON c.cache_key = encode(sha256(convert_to(
            octet_length(convert_to(prompt, 'UTF8'))::text || ':' || prompt || format(
            '{"op": "generate", "seed": %s', coalesce(seed, s.default_seed)) || s.generation_key || format(
            ', "eos_string": %s, "max_tokens": %s, "temperature": 0, "thinking_mode": %s}', to_json(eos_string),
            coalesce(max_tokens, s.default_max_tokens), thinking_mode::text), 'UTF8')), 'hex');
    END IF;
    IF entry IS NOT NULL THEN
        IF writable THEN
            INSERT INTO @extschema@._steadytext_cache_hits (entry_id) VALUES (entry);
        END IF;
        RETURN answer;
    END IF;
    RETURN @extschema@._steadytext_generate(
        prompt, max_tokens, use_cache, seed, eos_string, model, model_repo, model_filename, size, unsafe_mode,
        thinking_mode, temperature);
END
$$;

CREATE FUNCTION @extschema@.steadytext_generate_cached(prompt text, max_tokens integer DEFAULT NULL, seed integer DEFAULT 42)
RETURNS text
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RETURN @extschema@.steadytext_generate(prompt, max_tokens, true, seed);
END
$$;

-- Streaming. Pieces must leave one by one, so the path is SQL and PL/Python only: both return sets value by value,
-- where PL/pgSQL would collect them first.

CREATE FUNCTION @extschema@._steadytext_stream_begin(
    prompt text, max_tokens integer, use_cache boolean, seed integer, eos_string text, model text, model_repo text,
    model_filename text, size text, unsafe_mode boolean, thinking_mode boolean, temperature double precision,
    OUT answer text, OUT endpoint text, OUT request text, OUT timeout_ms integer, OUT options text, OUT keep jsonb
) LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_variable
DECLARE
    plan record;
    hit record;
    settings @extschema@._steadytext_settings;
BEGIN
    SELECT p.* INTO plan FROM @extschema@._steadytext_generate_prepare(
        prompt, max_tokens, use_cache, seed, eos_string, model, model_repo, model_filename, size, unsafe_mode,
        thinking_mode, temperature) p;
    IF plan.cached THEN
        SELECT p.* INTO hit FROM @extschema@._steadytext_cache_probe(prompt, plan.params) p;
        IF hit.is_hit THEN
            answer := hit.response;
            RETURN;
        END IF;
        keep := plan.params;
    END IF;
    SELECT s.* INTO settings FROM @extschema@._steadytext_settings s;
    endpoint := settings.endpoint;
    request := json_build_object('method', 'generate_stream', 'params', plan.request)::text;
    timeout_ms := settings.request_timeout_ms;
    options := (settings.connection || jsonb_build_object('auto_start', settings.auto_start))::text;
END
$$;

-- One item of the seam's stream: a piece is returned, an error raised, the end kept in the cache.
CREATE FUNCTION @extschema@._steadytext_stream_item(item text, prompt text, keep jsonb, started timestamptz) RETURNS text
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_variable
DECLARE
    reply json;
BEGIN
    IF left(item, 1) = 'p' THEN
        RETURN substr(item, 2);
    END IF;
    reply := substr(item, 2)::json;
    IF left(item, 1) = 'e' THEN
        PERFORM @extschema@._steadytext_raise(coalesce(reply ->> 'code', '58000'), reply ->> 'error', reply ->> 'hint');
    ELSIF keep IS NOT NULL AND reply ->> 'text' <> '' THEN
        PERFORM @extschema@._steadytext_cache_store(
            ARRAY[prompt], keep, ARRAY[reply ->> 'text'], NULL, reply ->> 'model', reply ->> 'digest',
            @extschema@._steadytext_ms_since(started));
    END IF;
    RETURN NULL;
END
$$;

CREATE FUNCTION @extschema@._steadytext_generate_stream(
    prompt text, max_tokens integer, use_cache boolean, seed integer, eos_string text, model text, model_repo text,
    model_filename text, size text, unsafe_mode boolean, thinking_mode boolean, temperature double precision
) RETURNS SETOF text
LANGUAGE sql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    WITH begun AS MATERIALIZED (
        SELECT b.*, clock_timestamp() AS started FROM @extschema@._steadytext_stream_begin(
            prompt, max_tokens, use_cache, seed, eos_string, model, model_repo, model_filename, size, unsafe_mode,
            thinking_mode, temperature) b
    ), streamed AS (
        SELECT @extschema@._steadytext_stream_item(
            @extschema@._steadytext_call_stream(b.endpoint, b.request, b.timeout_ms, b.options), $1, b.keep, b.started)
            AS piece
        FROM begun b WHERE b.answer IS NULL
    )
    SELECT b.answer FROM begun b WHERE b.answer IS NOT NULL
    UNION ALL
    SELECT s.piece FROM streamed s WHERE s.piece IS NOT NULL
$$;

-- STABLE and without a SET of its own, so that the planner inlines it: then FROM steadytext_generate_stream(...) too
-- hands out its pieces one by one. What it calls is VOLATILE and checks everything.
CREATE FUNCTION @extschema@.steadytext_generate_stream(
    prompt text, max_tokens integer DEFAULT NULL, use_cache boolean DEFAULT true, seed integer DEFAULT 42,
    eos_string text DEFAULT '[EOS]', model text DEFAULT NULL, model_repo text DEFAULT NULL,
    model_filename text DEFAULT NULL, size text DEFAULT NULL, unsafe_mode boolean DEFAULT false,
    thinking_mode boolean DEFAULT false, temperature double precision DEFAULT 0
) RETURNS SETOF text
LANGUAGE sql STABLE
BEGIN ATOMIC
    SELECT @extschema@._steadytext_generate_stream(
        prompt, max_tokens, use_cache, seed, eos_string, model, model_repo, model_filename, size, unsafe_mode,
        thinking_mode, temperature);
END;
-- Embeddings. STABLE, so that ORDER BY embedding <=> steadytext_embed('...') LIMIT k is an index scan; what has a side
-- effect is a VOLATILE function that these call.

CREATE FUNCTION @extschema@._steadytext_embed_prepare(
    text_input text, use_cache boolean, seed integer, model text, unsafe_mode boolean,
    OUT params jsonb, OUT request jsonb, OUT cached boolean
) LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_variable
DECLARE
    settings @extschema@._steadytext_settings;
    chosen @extschema@.steadytext_models;
BEGIN
    SELECT s.* INTO settings FROM @extschema@._steadytext_settings s;
    PERFORM @extschema@._steadytext_check_text('text_input', text_input, settings.max_prompt_chars);
    IF num_nulls(use_cache, unsafe_mode) > 0 THEN
        PERFORM @extschema@._steadytext_raise('22004',
            CASE WHEN use_cache IS NULL THEN 'use_cache' ELSE 'unsafe_mode' END || ' cannot be null');
    ELSIF seed < 0 THEN
        PERFORM @extschema@._steadytext_raise('22023', 'seed must be non-negative');
    END IF;
    chosen := @extschema@._steadytext_model_resolve('embedding', model, NULL, NULL, NULL, unsafe_mode);
    cached := use_cache AND settings.cache_enabled;
    params := jsonb_build_object('op', 'embed', 'model', chosen.name, 'digest', chosen.digest);
    IF NOT settings.shared_cache THEN
        params := params || jsonb_build_object('scope', @extschema@._steadytext_caller());
    END IF;
    request := jsonb_build_object('model', chosen.name, 'unsafe_mode', chosen.remote);
END
$$;

-- Embed texts (no nulls, each once) with one call to the daemon, and keep the vectors.
CREATE FUNCTION @extschema@._steadytext_embed_fresh(texts text[], params jsonb, request jsonb, keep boolean)
RETURNS text[]
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_variable
DECLARE
    reply json;
    vectors text[];
    started timestamptz := clock_timestamp();
BEGIN
    reply := @extschema@._steadytext_request('embed_batch', request || jsonb_build_object('texts', texts));
    vectors := ARRAY(SELECT e FROM json_array_elements_text(reply -> 'embeddings') WITH ORDINALITY a (e, n) ORDER BY n);
    IF cardinality(vectors) IS DISTINCT FROM cardinality(texts) THEN
        PERFORM @extschema@._steadytext_raise('58000',
            format('the daemon answered %s texts with %s embeddings', cardinality(texts), cardinality(vectors)));
    END IF;
    IF keep THEN
        PERFORM @extschema@._steadytext_cache_store(
            texts, params, NULL, vectors, reply ->> 'model', reply ->> 'digest', @extschema@._steadytext_ms_since(started));
    END IF;
    RETURN vectors;
END
$$;

-- The names of vector's own objects are settled when the extension is created, wherever vector lives.
CREATE FUNCTION @extschema@._steadytext_vector(numbers text) RETURNS vector
LANGUAGE sql IMMUTABLE STRICT
BEGIN ATOMIC
    SELECT numbers::vector;
END;

CREATE FUNCTION @extschema@._steadytext_embed(
    text_input text, use_cache boolean, seed integer, model text, unsafe_mode boolean
) RETURNS vector
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_variable
DECLARE
    plan record;
    is_hit boolean;
    answer @extschema@.steadytext_cache.embedding%TYPE;
BEGIN
    SELECT p.* INTO plan FROM @extschema@._steadytext_embed_prepare(text_input, use_cache, seed, model, unsafe_mode) p;
    IF plan.cached THEN
        SELECT p.is_hit, p.embedding INTO is_hit, answer
        FROM @extschema@._steadytext_cache_probe(text_input, plan.params) p;
        IF is_hit THEN
            RETURN answer;
        END IF;
    END IF;
    RETURN @extschema@._steadytext_vector(
        (@extschema@._steadytext_embed_fresh(ARRAY[text_input], plan.params, plan.request, plan.cached))[1]);
END
$$;

CREATE FUNCTION @extschema@.steadytext_embed(
    text_input text, use_cache boolean DEFAULT true, seed integer DEFAULT 42, model text DEFAULT NULL,
    unsafe_mode boolean DEFAULT false
) RETURNS vector
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_variable
DECLARE
    entry bigint;
    answer @extschema@.steadytext_cache.embedding%TYPE;
    writable boolean;
BEGIN
    IF use_cache AND NOT unsafe_mode AND model IS NULL AND coalesce(seed, 0) >= 0 THEN
        SELECT c.id, c.embedding, current_setting('transaction_read_only') = 'off' INTO entry, answer, writable
        FROM @extschema@._steadytext_settings s
        JOIN @extschema@.steadytext_cache c ON c.cache_key = encode(sha256(convert_to(
            octet_length(convert_to(text_input, 'UTF8'))::text || ':' || text_input || s.embedding_params, 'UTF8')), 'hex');
    END IF;
    IF entry IS NOT NULL THEN
        IF writable THEN
            writable := @extschema@._steadytext_cache_log(entry);
        END IF;
        RETURN answer;
    END IF;
    RETURN @extschema@._steadytext_embed(text_input, use_cache, seed, model, unsafe_mode);
END
$$;

CREATE FUNCTION @extschema@.steadytext_embed_cached(
    text_input text, seed integer DEFAULT 42, model text DEFAULT NULL, unsafe_mode boolean DEFAULT false
) RETURNS vector
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RETURN @extschema@.steadytext_embed(text_input, true, seed, model, unsafe_mode);
END
$$;

-- Many texts, in input order. Known ones come from the cache; the others go to the daemon 256 at a time.
CREATE FUNCTION @extschema@.steadytext_embed_batch(texts text[])
RETURNS TABLE (text text, embedding vector)
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_variable
DECLARE
    settings @extschema@._steadytext_settings;
    plan record;
    missing text[];
    vectors text[] := '{}'::text[];
    chunk constant integer := 256;
BEGIN
    IF texts IS NULL THEN
        PERFORM @extschema@._steadytext_raise('22004', 'texts cannot be null');
    END IF;
    SELECT s.* INTO settings FROM @extschema@._steadytext_settings s;
    PERFORM @extschema@._steadytext_check_text(format('texts[%s]', t.place), t.content, settings.max_prompt_chars)
    FROM unnest(texts) WITH ORDINALITY t (content, place) WHERE t.content IS NOT NULL;
    SELECT p.* INTO plan FROM @extschema@._steadytext_embed_prepare('text', true, NULL, NULL, false) p;
    missing := @extschema@._steadytext_embed_missing(texts, plan.params, plan.cached);
    FOR head IN 1 .. cardinality(missing) BY chunk LOOP
        vectors := vectors || @extschema@._steadytext_embed_fresh(
            missing[head : head + chunk - 1], plan.params, plan.request, plan.cached);
    END LOOP;
    RETURN QUERY SELECT a.content, a.vector FROM @extschema@._steadytext_embed_answers(
        texts, missing, vectors, plan.params) a ORDER BY a.place;
END
$$;

-- The texts of an array that the cache does not hold, each once, in order of appearance; hits are counted.
CREATE FUNCTION @extschema@._steadytext_embed_missing(texts text[], params jsonb, cached boolean) RETURNS text[]
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_variable
DECLARE
    missing text[];
    hits bigint[];
BEGIN
    SELECT coalesce(array_agg(t.content ORDER BY t.place) FILTER (WHERE c.id IS NULL), '{}'),
           coalesce(array_agg(c.id) FILTER (WHERE c.id IS NOT NULL), '{}')
    INTO missing, hits
    FROM (SELECT u.content, min(u.place) AS place FROM unnest(texts) WITH ORDINALITY u (content, place)
          WHERE u.content IS NOT NULL GROUP BY u.content) t
    LEFT JOIN @extschema@.steadytext_cache c
        ON cached AND c.cache_key = @extschema@.steadytext_cache_key(t.content, params);
    IF @extschema@._steadytext_writable() THEN
        INSERT INTO @extschema@._steadytext_cache_hits (entry_id) SELECT h FROM unnest(hits) h;
    END IF;
    RETURN missing;
END
$$;

CREATE FUNCTION @extschema@._steadytext_embed_answers(texts text[], missing text[], vectors text[], params jsonb)
RETURNS TABLE (place bigint, content text, vector vector)
LANGUAGE sql STABLE
BEGIN ATOMIC
    SELECT t.place, t.content, coalesce(f.v::vector, c.embedding)
    FROM pg_catalog.unnest(texts) WITH ORDINALITY AS t (content, place)
    LEFT JOIN ROWS FROM (pg_catalog.unnest(missing), pg_catalog.unnest(vectors)) AS f (m, v) ON f.m = t.content
    LEFT JOIN @extschema@.steadytext_cache c
        ON f.m IS NULL AND t.content IS NOT NULL
        AND c.cache_key = CASE WHEN t.content IS NOT NULL THEN @extschema@.steadytext_cache_key(t.content, params) END;
END;
-- The queue: one table that is the truth. A request waits (pending), is worked on under a worker's lease
-- (processing), and ends once: completed, failed or cancelled. Every change of state is one statement that names the
-- state it leaves, so that of two who would end a request one finds nothing to do.

CREATE TABLE @extschema@.steadytext_queue (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    request_id uuid NOT NULL DEFAULT pg_catalog.gen_random_uuid(),
    request_type text NOT NULL,
    lane text NOT NULL,
    status text NOT NULL DEFAULT 'pending'
        CHECK (status IN ('pending', 'processing', 'completed', 'failed', 'cancelled')),
    priority integer NOT NULL DEFAULT 5 CHECK (priority BETWEEN 1 AND 10),
    owner text NOT NULL,
    user_id text,
    session_id text,
    prompt text,
    prompts text[],
    params jsonb NOT NULL DEFAULT '{}',
    result text,
    results text[],
    embedding vector,
    embeddings vector[],
    error text,
    created_at timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
    due_at timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
    started_at timestamptz,
    completed_at timestamptz,
    processing_time_ms integer,
    attempt integer NOT NULL DEFAULT 0,
    retry_count integer NOT NULL DEFAULT 0,
    max_retries integer NOT NULL,
    worker_id bigint,
    daemon_endpoint text,
    batch_id uuid,
    dedupe_key text
) WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 20000,
        autovacuum_vacuum_cost_delay = 0, autovacuum_analyze_scale_factor = 0.2);

COMMENT ON COLUMN @extschema@.steadytext_queue.owner IS 'The role that asked, and that alone sees the request';
COMMENT ON COLUMN @extschema@.steadytext_queue.user_id IS 'Whom the owner asked for: a label of the application''s own';
COMMENT ON COLUMN @extschema@.steadytext_queue.lane IS 'Which of a worker''s runners takes it: generate, embed, rerank';
COMMENT ON COLUMN @extschema@.steadytext_queue.due_at IS 'Not before this moment; within a priority also the order';
COMMENT ON COLUMN @extschema@.steadytext_queue.attempt IS 'Counts claims; with worker_id it fences off whoever lost the lease';
COMMENT ON COLUMN @extschema@.steadytext_queue.worker_id IS
    'Who holds it; null unless it is processing. Compared by IS NOT DISTINCT FROM where the row is found by its id';

-- What a claim reads: the front of each lane and priority.
CREATE INDEX steadytext_queue_pending_idx ON @extschema@.steadytext_queue (lane, priority, due_at)
    WHERE status = 'pending';
-- Both what a worker holds and what an owner has: one index, since every claim and every end pays for each.
CREATE INDEX steadytext_queue_active_idx ON @extschema@.steadytext_queue (worker_id, owner)
    WHERE status IN ('pending', 'processing');
CREATE UNIQUE INDEX steadytext_queue_request_idx ON @extschema@.steadytext_queue (request_id);
CREATE INDEX steadytext_queue_batch_idx ON @extschema@.steadytext_queue (batch_id) WHERE batch_id IS NOT NULL;
CREATE INDEX steadytext_queue_failed_idx ON @extschema@.steadytext_queue (completed_at) WHERE status = 'failed';
CREATE UNIQUE INDEX steadytext_queue_dedupe_idx ON @extschema@.steadytext_queue (owner, dedupe_key)
    WHERE dedupe_key IS NOT NULL AND status IN ('pending', 'processing');

-- Every failed attempt of every request: a dead letter's history.
CREATE TABLE @extschema@.steadytext_queue_errors (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    request_id uuid NOT NULL,
    attempt integer NOT NULL,
    failed_at timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
    code text NOT NULL,
    message text NOT NULL,
    worker_id bigint
);
CREATE INDEX steadytext_queue_errors_request_idx ON @extschema@.steadytext_queue_errors (request_id);

-- Workers at work. A lease is the worker's, not the request's: one row to renew, however much it holds.
CREATE TABLE @extschema@.steadytext_workers (
    worker_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name text NOT NULL,
    started_at timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
    last_seen timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
    lease_expires_at timestamptz NOT NULL,
    sleeping text[]
) WITH (fillfactor = 50, autovacuum_vacuum_threshold = 50, autovacuum_vacuum_scale_factor = 0);

COMMENT ON COLUMN @extschema@.steadytext_workers.sleeping IS
    'Lanes for which it waits to be notified; null: all. A commit that notifies waits for all others that do';

CREATE FUNCTION @extschema@._steadytext_worker_register(name text, lease interval) RETURNS bigint
LANGUAGE sql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    INSERT INTO @extschema@.steadytext_workers (name, lease_expires_at)
    VALUES ($1, clock_timestamp() + $2) RETURNING worker_id
$$;

-- Renew the lease; false when it was taken away, and with it all that the worker held.
CREATE FUNCTION @extschema@._steadytext_worker_renew(worker bigint, lease interval) RETURNS boolean
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    UPDATE @extschema@.steadytext_workers w
    SET last_seen = clock_timestamp(), lease_expires_at = clock_timestamp() + lease
    WHERE w.worker_id = worker;
    RETURN FOUND;
END
$$;

-- Tell which lanes the worker is about to wait for. It looks once more afterwards, since a commit under way may have
-- been told before that nobody waits.
CREATE FUNCTION @extschema@._steadytext_worker_sleep(worker bigint, lanes text[]) RETURNS void
LANGUAGE sql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    UPDATE @extschema@.steadytext_workers SET sleeping = $2
    WHERE worker_id = $1 AND sleeping IS DISTINCT FROM $2
$$;

-- Take up to `wanted` requests of a lane: highest priority first, within it the longest due; but up to `aged` of them
-- from the lowest priorities that have waited longer than queue_max_wait_seconds, so that no flood starves them.
-- `floors` (one moment for each priority, 1 to 10) lets a worker pass over what it has taken before: where a held
-- snapshot keeps dead rows in the index, reading from its very front would cost more with each claim.
CREATE FUNCTION @extschema@._steadytext_queue_claim(
    worker bigint, wanted_lane text, wanted integer, aged integer, floors timestamptz[]
) RETURNS TABLE (
    id bigint, request_id uuid, request_type text, attempt integer, priority integer, due_at timestamptz,
    prompt text, prompts text[], params jsonb
)
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
    picked tid[] := '{}'::tid[];
BEGIN
    -- the lock keeps the worker's row until the claim is visible to whoever would take its lease away
    PERFORM FROM @extschema@.steadytext_workers w WHERE w.worker_id = worker FOR KEY SHARE;
    IF NOT FOUND THEN
        PERFORM @extschema@._steadytext_raise('P0002', format('there is no worker %s', worker),
            'Its lease expired and was taken away; it registers anew.');
    END IF;
    IF aged > 0 THEN
        picked := ARRAY(
            SELECT old.place FROM @extschema@._steadytext_settings s, generate_series(1, 10) p, LATERAL (
                SELECT q.ctid AS place FROM @extschema@.steadytext_queue q
                WHERE q.status = 'pending' AND q.lane = wanted_lane AND q.priority = p
                  AND q.due_at >= floors[p] AND q.due_at < now() - s.queue_max_wait
                ORDER BY q.due_at LIMIT aged FOR UPDATE SKIP LOCKED) old
            LIMIT aged);
    END IF;
    picked := picked || ARRAY(
        SELECT first.place FROM generate_series(10, 1, -1) p, LATERAL (
            SELECT q.ctid AS place FROM @extschema@.steadytext_queue q
            WHERE q.status = 'pending' AND q.lane = wanted_lane AND q.priority = p
              AND q.due_at >= floors[p] AND q.due_at <= clock_timestamp() AND q.ctid <> ALL (picked)
            ORDER BY q.due_at LIMIT wanted - cardinality(picked) FOR UPDATE SKIP LOCKED) first
        LIMIT wanted - cardinality(picked));
    RETURN QUERY
    UPDATE @extschema@.steadytext_queue q
    SET status = 'processing', worker_id = worker, attempt = q.attempt + 1, started_at = clock_timestamp()
    WHERE q.ctid = ANY (picked)  -- locked above, so still there
    RETURNING q.id, q.request_id, q.request_type, q.attempt, q.priority, q.due_at, q.prompt, q.prompts, q.params;
END
$$;

-- Write results, once each: ids of those that were still this worker's. Arrays run in parallel.
CREATE FUNCTION @extschema@._steadytext_queue_finish(
    worker bigint, ids bigint[], attempts integer[], answers text[], vectors text[], models text[], digests text[],
    took_ms integer[], endpoint text
) RETURNS SETOF bigint
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    finished bigint[];
BEGIN
    finished := ARRAY(SELECT @extschema@._steadytext_queue_write(worker, ids, attempts, answers, vectors, took_ms, endpoint));
    IF cardinality(finished) > 0 THEN
        PERFORM @extschema@._steadytext_queue_cache(finished, ids, answers, vectors, models, digests, took_ms);
        PERFORM pg_notify('steadytext_done', '');
    END IF;
    RETURN QUERY SELECT unnest(finished);
END
$$;

CREATE FUNCTION @extschema@._steadytext_queue_write(
    worker bigint, ids bigint[], attempts integer[], answers text[], vectors text[], took_ms integer[], endpoint text
) RETURNS SETOF bigint
LANGUAGE sql VOLATILE
BEGIN ATOMIC
    UPDATE @extschema@.steadytext_queue q
    SET status = 'completed', result = d.answer, embedding = d.vector::vector, error = NULL, worker_id = NULL,
        completed_at = pg_catalog.clock_timestamp(), processing_time_ms = d.took, daemon_endpoint = endpoint
    FROM ROWS FROM (pg_catalog.unnest(ids), pg_catalog.unnest(attempts), pg_catalog.unnest(answers),
                    pg_catalog.unnest(vectors), pg_catalog.unnest(took_ms)) AS d (id, attempt, answer, vector, took)
    WHERE q.id = d.id AND q.worker_id IS NOT DISTINCT FROM worker AND q.attempt = d.attempt
    RETURNING q.id;
END;

-- Keep the finished requests' answers, one statement for all that share their parameters.
CREATE FUNCTION @extschema@._steadytext_queue_cache(
    finished bigint[], ids bigint[], answers text[], vectors text[], models text[], digests text[], took_ms integer[]
) RETURNS void
LANGUAGE sql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
    SELECT @extschema@._steadytext_cache_store(
        array_agg(q.prompt), q.params -> 'cache', nullif(array_agg(d.answer), array_fill(NULL::text, ARRAY[count(*)::integer])),
        nullif(array_agg(d.vector), array_fill(NULL::text, ARRAY[count(*)::integer])), d.model, d.digest,
        (avg(d.took))::integer)
    FROM ROWS FROM (unnest(ids), unnest(answers), unnest(vectors), unnest(models), unnest(digests), unnest(took_ms))
        AS d (id, answer, vector, model, digest, took)
    JOIN @extschema@.steadytext_queue q ON q.id = d.id
    WHERE d.id = ANY (finished) AND d.digest IS NOT NULL AND q.params ? 'cache'
      AND coalesce(d.answer, d.vector) <> ''
    GROUP BY q.params -> 'cache', d.model, d.digest
$$;

-- The answers that the cache holds for claimed requests, so that no model is asked for them.
CREATE FUNCTION @extschema@._steadytext_queue_cached(ids bigint[])
RETURNS TABLE (id bigint, answer text, vector text)
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
BEGIN
    RETURN QUERY
    WITH found AS (
        SELECT q.id, c.id AS entry, c.response, c.embedding::text AS embedding
        FROM @extschema@.steadytext_queue q
        JOIN @extschema@.steadytext_cache c ON c.cache_key = @extschema@.steadytext_cache_key(q.prompt, q.params -> 'cache')
        WHERE q.id = ANY (ids) AND q.params ? 'cache'
    ), counted AS (
        INSERT INTO @extschema@._steadytext_cache_hits (entry_id) SELECT f.entry FROM found f
    )
    SELECT f.id, f.response, f.embedding FROM found f;
END
$$;

-- Note failed attempts: those that may be tried again wait, with full jitter on an exponential backoff; the others
-- are dead letters. A request is tried again where `retryable` says so and its retries are not used up.
CREATE FUNCTION @extschema@._steadytext_queue_fail(
    worker bigint, ids bigint[], attempts integer[], codes text[], messages text[], retryable boolean[]
) RETURNS SETOF bigint
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
    failed bigint[];
BEGIN
    WITH given AS (
        SELECT * FROM ROWS FROM (unnest(ids), unnest(attempts), unnest(codes), unnest(messages), unnest(retryable))
            AS d (id, attempt, code, message, again)
    ), changed AS (
        UPDATE @extschema@.steadytext_queue q
        SET status = CASE WHEN d.again AND q.retry_count < q.max_retries THEN 'pending' ELSE 'failed' END,
            completed_at = CASE WHEN d.again AND q.retry_count < q.max_retries THEN NULL ELSE clock_timestamp() END,
            due_at = CASE WHEN d.again AND q.retry_count < q.max_retries
                          THEN @extschema@._steadytext_queue_backoff(q.retry_count) ELSE q.due_at END,
            retry_count = q.retry_count + (d.again AND q.retry_count < q.max_retries)::integer,
            error = d.message, worker_id = NULL
        FROM given d
        WHERE q.id = d.id AND q.worker_id IS NOT DISTINCT FROM worker AND q.attempt = d.attempt
        RETURNING q.id, q.request_id, q.attempt, q.status, d.code, d.message
    ), noted AS (
        INSERT INTO @extschema@.steadytext_queue_errors (request_id, attempt, code, message, worker_id)
        SELECT c.request_id, c.attempt, c.code, c.message, worker FROM changed c
    )
    SELECT coalesce(array_agg(c.id), '{}') INTO failed FROM changed c;
    IF cardinality(failed) > 0 THEN
        PERFORM pg_notify('steadytext_done', ''), pg_notify('steadytext_queue', '');
    END IF;
    RETURN QUERY SELECT unnest(failed);
END
$$;

-- When to try again after so many retries: a random moment within a pause that doubles, at most five minutes.
CREATE FUNCTION @extschema@._steadytext_queue_backoff(retries integer) RETURNS timestamptz
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RETURN (SELECT clock_timestamp() + make_interval(
                secs => random() * least(300, s.queue_retry_seconds * 2.0 ^ least(retries, 20)))
            FROM @extschema@._steadytext_settings s);
END
$$;

-- Give requests back unharmed: the worker stops, or what they need is not there. Costs them no attempt.
CREATE FUNCTION @extschema@._steadytext_queue_release(
    worker bigint, ids bigint[], attempts integer[], pause interval DEFAULT '0'
) RETURNS bigint
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
    released bigint;
BEGIN
    UPDATE @extschema@.steadytext_queue q
    SET status = 'pending', worker_id = NULL, started_at = NULL,
        due_at = CASE WHEN pause > interval '0' THEN clock_timestamp() + pause ELSE q.due_at END
    FROM ROWS FROM (unnest(ids), unnest(attempts)) AS d (id, attempt)
    WHERE q.id = d.id AND q.worker_id IS NOT DISTINCT FROM worker AND q.attempt = d.attempt;
    GET DIAGNOSTICS released = ROW_COUNT;
    IF released > 0 THEN
        PERFORM pg_notify('steadytext_queue', '');
    END IF;
    RETURN released;
END
$$;

-- Give back all that a worker holds except what it names: what a claim took whose answer was lost with the connection.
CREATE FUNCTION @extschema@._steadytext_queue_keep(worker bigint, ids bigint[]) RETURNS bigint
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
    released bigint;
BEGIN
    UPDATE @extschema@.steadytext_queue q SET status = 'pending', worker_id = NULL, started_at = NULL
    WHERE q.status = 'processing' AND q.worker_id = worker AND q.id <> ALL (ids);
    GET DIAGNOSTICS released = ROW_COUNT;
    IF released > 0 THEN
        PERFORM pg_notify('steadytext_queue', '');
    END IF;
    RETURN released;
END
$$;

-- Take from workers whose lease has expired what they held: back into the queue, or a dead letter where the retries
-- are used up, since a request that ends its worker each time must not do so for ever. Returns how many.
CREATE FUNCTION @extschema@._steadytext_queue_recover() RETURNS bigint
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
    gone bigint;
    held bigint[];
    counts integer[];
    recovered bigint := 0;
BEGIN
    FOR gone IN
        DELETE FROM @extschema@.steadytext_workers w
        WHERE w.worker_id IN (SELECT e.worker_id FROM @extschema@.steadytext_workers e
                              WHERE e.lease_expires_at < clock_timestamp() FOR UPDATE SKIP LOCKED)
        RETURNING w.worker_id
    LOOP
        SELECT coalesce(array_agg(q.id), '{}'), coalesce(array_agg(q.attempt), '{}') INTO held, counts
        FROM @extschema@.steadytext_queue q WHERE q.status = 'processing' AND q.worker_id = gone;
        recovered := recovered + (
            SELECT count(*) FROM @extschema@._steadytext_queue_fail(
                gone, held, counts, array_fill('57P01'::text, ARRAY[cardinality(held)]),
                array_fill('the worker was lost while it worked on the request'::text, ARRAY[cardinality(held)]),
                array_fill(true, ARRAY[cardinality(held)])));
    END LOOP;
    RETURN recovered;
END
$$;

-- A worker that stops cleanly: nothing is held any more.
CREATE FUNCTION @extschema@._steadytext_worker_leave(worker bigint) RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
BEGIN
    PERFORM @extschema@._steadytext_queue_keep(worker, '{}');
    DELETE FROM @extschema@.steadytext_workers w WHERE w.worker_id = worker;
END
$$;

-- Seconds until something will be due that nobody will be told of: a delayed request of these lanes, or the end of a
-- lost worker's lease. Null when there is nothing to wait for.
CREATE FUNCTION @extschema@._steadytext_queue_next_due(lanes text[]) RETURNS double precision
LANGUAGE sql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT extract(epoch FROM least(
        (SELECT min(f.due_at) FROM unnest(lanes) l, generate_series(1, 10) p, LATERAL (
            SELECT q.due_at FROM @extschema@.steadytext_queue q
            WHERE q.status = 'pending' AND q.lane = l AND q.priority = p ORDER BY q.due_at LIMIT 1) f),
        (SELECT min(w.lease_expires_at) FROM @extschema@.steadytext_workers w)) - clock_timestamp())
$$;

-- Which of the requests that a worker holds were cancelled, or taken away, meanwhile.
CREATE FUNCTION @extschema@._steadytext_queue_lost(worker bigint, ids bigint[]) RETURNS SETOF bigint
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT i FROM unnest(ids) i
    WHERE NOT EXISTS (SELECT FROM @extschema@.steadytext_queue q
                      WHERE q.id = i AND q.worker_id IS NOT DISTINCT FROM worker)
$$;
-- Who may queue how much. Two caps hold exactly, for each owner and for the whole queue, without making anybody wait
-- for somebody else's open transaction: a call refuses what it can see to be too much, and the transaction's commit
-- settles what concurrent sessions could not see of each other. Counting is rare: a remembered count plus the ids
-- handed out since is an upper bound of what is active now, and only where that bound passes the cap is it counted.

CREATE TABLE @extschema@._steadytext_queue_depth (
    scope text PRIMARY KEY,
    active bigint NOT NULL,
    id_mark bigint NOT NULL
) WITH (fillfactor = 20, autovacuum_vacuum_threshold = 50, autovacuum_vacuum_scale_factor = 0);

COMMENT ON COLUMN @extschema@._steadytext_queue_depth.scope IS 'An owner; empty: all of them';
COMMENT ON COLUMN @extschema@._steadytext_queue_depth.active IS
    'At least the unfinished requests with ids up to id_mark whose transactions had committed';

-- Open transactions that have queued something; each row is gone when its transaction is.
CREATE UNLOGGED TABLE @extschema@._steadytext_queue_admissions (
    xid xid8 NOT NULL,
    owner text NOT NULL,
    lane text NOT NULL,
    first_id bigint NOT NULL,
    PRIMARY KEY (xid, owner, lane)
) WITH (autovacuum_vacuum_threshold = 5000, autovacuum_vacuum_scale_factor = 0, autovacuum_analyze_scale_factor = 10);

-- Unfinished requests of a scope, counted up to one more than `most`.
CREATE FUNCTION @extschema@._steadytext_queue_count(scope text, most bigint) RETURNS bigint
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_variable
BEGIN
    IF scope = '' THEN
        RETURN (SELECT count(*) FROM (SELECT FROM @extschema@.steadytext_queue q
                                      WHERE q.status IN ('pending', 'processing') LIMIT most + 1) active);
    END IF;
    RETURN (SELECT count(*) FROM (
        SELECT FROM @extschema@.steadytext_queue q
        WHERE q.worker_id IS NULL AND q.owner = scope AND q.status IN ('pending', 'processing')
        UNION ALL
        SELECT FROM @extschema@.steadytext_queue q
        WHERE q.worker_id IS NOT NULL AND q.owner = scope AND q.status IN ('pending', 'processing')
        LIMIT most + 1) active);
END
$$;

CREATE FUNCTION @extschema@._steadytext_queue_last_id() RETURNS bigint
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RETURN (SELECT s.last_value FROM @extschema@.steadytext_queue_id_seq s);
END
$$;

-- Whether no more unfinished requests than `most` can exist in the scope; false also where that is not known.
CREATE FUNCTION @extschema@._steadytext_queue_fits(scope text, most bigint, first_id bigint) RETURNS boolean
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_variable
BEGIN
    RETURN EXISTS (
        SELECT FROM @extschema@._steadytext_queue_depth d, @extschema@.steadytext_queue_id_seq s
        WHERE d.scope = scope AND d.id_mark < first_id AND d.active + s.last_value - d.id_mark <= most);
END
$$;

CREATE FUNCTION @extschema@._steadytext_queue_refuse(scope text, most bigint) RETURNS void
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF scope = '' THEN
        PERFORM @extschema@._steadytext_raise('53400', format('the queue is full: it holds %s requests', most),
            'Try again when some are done, or have an administrator raise max_queue_size.');
    END IF;
    PERFORM @extschema@._steadytext_raise('53400', format('role "%s" has too many pending requests: the limit is %s', scope, most),
        'Try again when some are done, or have an administrator raise max_pending_per_user.');
END
$$;

-- Called after requests were inserted, the first of them with `first_id`. Where the bound says nothing, a large cap
-- is counted at every two-hundredth part of it only: a million calls in a statement must not count a million each.
CREATE FUNCTION @extschema@._steadytext_queue_admit(
    owner text, lane text, first_id bigint, requests integer
) RETURNS void
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_variable
DECLARE
    settings @extschema@._steadytext_settings;
    scope text;
    most bigint;
BEGIN
    INSERT INTO @extschema@._steadytext_queue_admissions VALUES (pg_current_xact_id(), owner, lane, first_id)
    ON CONFLICT DO NOTHING;
    SELECT s.* INTO settings FROM @extschema@._steadytext_settings s;
    FOREACH scope IN ARRAY ARRAY[owner, ''] LOOP
        most := CASE scope WHEN '' THEN settings.max_queue_size ELSE settings.max_pending_per_user END;
        IF (requests > 1 OR first_id % greatest(1, most / 200) = 0)
           AND NOT @extschema@._steadytext_queue_fits(scope, most, 9223372036854775807)
           AND @extschema@._steadytext_queue_count(scope, most) > most THEN
            PERFORM @extschema@._steadytext_queue_refuse(scope, most);
        END IF;
    END LOOP;
END
$$;

-- At commit: settle the caps, and wake workers that wait for the lane. The caps are settled under a lock that lasts until the commit is visible. It is shared while the bound holds,
-- so that commits still go to disk together.
CREATE FUNCTION @extschema@._steadytext_queue_settle(scope text, most bigint, first_id bigint) RETURNS void
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp SET lock_timeout = '5s' AS $$
#variable_conflict use_variable
DECLARE
    key constant integer := hashtext('pg_steadytext queue ' || scope);
    mark bigint;
    counted bigint;
BEGIN
    BEGIN
        PERFORM pg_advisory_xact_lock_shared(20259, key);
        IF @extschema@._steadytext_queue_fits(scope, most, first_id) THEN
            RETURN;
        END IF;
        RAISE SQLSTATE 'ST001';
    EXCEPTION WHEN SQLSTATE 'ST001' OR lock_not_available THEN
        NULL;  -- which lets the shared lock go: two who hold it could not both have it exclusively
    END;
    BEGIN
        PERFORM pg_advisory_xact_lock(20259, key);
    EXCEPTION WHEN lock_not_available THEN
        -- only SET CONSTRAINTS ... IMMEDIATE makes a transaction hold the lock for longer than its commit takes
        PERFORM @extschema@._steadytext_raise('53400', 'another transaction keeps the queue''s limits locked', 'Try again.');
    END;
    UPDATE @extschema@._steadytext_queue_depth d SET active = d.active + greatest(0, d.id_mark - first_id + 1)
    WHERE d.scope = scope
      AND d.active + greatest(0, d.id_mark - first_id + 1) + @extschema@._steadytext_queue_last_id() - d.id_mark <= most;
    IF FOUND THEN
        RETURN;
    END IF;
    mark := @extschema@._steadytext_queue_last_id();
    counted := @extschema@._steadytext_queue_count(scope, most);
    IF counted > most THEN
        PERFORM @extschema@._steadytext_queue_refuse(scope, most);
    END IF;
    INSERT INTO @extschema@._steadytext_queue_depth AS d VALUES (scope, counted, mark)
    ON CONFLICT ON CONSTRAINT _steadytext_queue_depth_pkey DO UPDATE SET active = excluded.active, id_mark = excluded.id_mark;
END
$$;

CREATE FUNCTION @extschema@._steadytext_queue_commit() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    settings @extschema@._steadytext_settings;
BEGIN
    SELECT s.* INTO settings FROM @extschema@._steadytext_settings s;
    DELETE FROM @extschema@._steadytext_queue_admissions a
    WHERE a.xid = NEW.xid AND a.owner = NEW.owner AND a.lane = NEW.lane;
    PERFORM @extschema@._steadytext_queue_settle(NEW.owner, settings.max_pending_per_user, NEW.first_id);
    PERFORM @extschema@._steadytext_queue_settle('', settings.max_queue_size, NEW.first_id);
    IF EXISTS (SELECT FROM @extschema@.steadytext_workers w WHERE w.sleeping IS NULL OR NEW.lane = ANY (w.sleeping)) THEN
        PERFORM pg_notify('steadytext_queue', '');
    END IF;
    RETURN NULL;
END
$$;

CREATE CONSTRAINT TRIGGER _steadytext_queue_commit AFTER INSERT ON @extschema@._steadytext_queue_admissions
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION @extschema@._steadytext_queue_commit();

-- Rate limits: GCRA (the generic cell rate algorithm) with one theoretical arrival time a window. A window lets through
-- its whole number at once, then one each period / number. Whoever has no row here has no limit.
CREATE TABLE @extschema@.steadytext_rate_limits (
    user_id text PRIMARY KEY CHECK (user_id <> ''),
    requests_per_minute integer NOT NULL DEFAULT 60 CHECK (requests_per_minute > 0),
    requests_per_hour integer NOT NULL DEFAULT 1000 CHECK (requests_per_hour > 0),
    requests_per_day integer NOT NULL DEFAULT 10000 CHECK (requests_per_day > 0),
    minute_arrival timestamptz NOT NULL DEFAULT '-infinity',
    hour_arrival timestamptz NOT NULL DEFAULT '-infinity',
    day_arrival timestamptz NOT NULL DEFAULT '-infinity',
    current_minute_count integer NOT NULL DEFAULT 0,
    current_hour_count integer NOT NULL DEFAULT 0,
    current_day_count integer NOT NULL DEFAULT 0,
    last_reset_minute timestamptz NOT NULL DEFAULT pg_catalog.now(),
    last_reset_hour timestamptz NOT NULL DEFAULT pg_catalog.now(),
    last_reset_day timestamptz NOT NULL DEFAULT pg_catalog.now(),
    created_at timestamptz NOT NULL DEFAULT pg_catalog.now()
);

COMMENT ON COLUMN @extschema@.steadytext_rate_limits.user_id IS 'A role, or a user_id that requests are made for';
COMMENT ON COLUMN @extschema@.steadytext_rate_limits.current_minute_count IS
    'Requests since last_reset_minute, to look at; the arrival times decide';

SELECT pg_catalog.pg_extension_config_dump('@extschema@.steadytext_rate_limits', '');

-- When the next request could arrive in a window after `requests` more.
CREATE FUNCTION @extschema@._steadytext_rate_arrival(
    arrival timestamptz, moment timestamptz, period interval, number integer, requests integer
) RETURNS timestamptz
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RETURN greatest(arrival, moment) + period * (requests::double precision / number);
END
$$;

-- Take `requests` from all windows of a user, or none: seconds to wait, 0 where they were taken.
CREATE FUNCTION @extschema@._steadytext_rate_take(who text, requests integer) RETURNS double precision
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_variable
DECLARE
    known @extschema@.steadytext_rate_limits;
    moment timestamptz;
    arrivals timestamptz[];
    pause double precision;
BEGIN
    SELECT r.* INTO known FROM @extschema@.steadytext_rate_limits r WHERE r.user_id = who FOR NO KEY UPDATE;
    IF NOT FOUND THEN
        RETURN 0;
    END IF;
    moment := clock_timestamp();
    arrivals := ARRAY[
        @extschema@._steadytext_rate_arrival(known.minute_arrival, moment, '1 minute', known.requests_per_minute, requests),
        @extschema@._steadytext_rate_arrival(known.hour_arrival, moment, '1 hour', known.requests_per_hour, requests),
        @extschema@._steadytext_rate_arrival(known.day_arrival, moment, '1 day', known.requests_per_day, requests)];
    pause := extract(epoch FROM greatest(
        arrivals[1] - moment - interval '1 minute', arrivals[2] - moment - interval '1 hour',
        arrivals[3] - moment - interval '1 day', interval '0'));
    IF pause <= 0 THEN
        UPDATE @extschema@.steadytext_rate_limits r SET
            minute_arrival = arrivals[1], hour_arrival = arrivals[2], day_arrival = arrivals[3],
            current_minute_count = requests + CASE WHEN r.last_reset_minute > moment - interval '1 minute' THEN r.current_minute_count ELSE 0 END,
            last_reset_minute = CASE WHEN r.last_reset_minute > moment - interval '1 minute' THEN r.last_reset_minute ELSE moment END,
            current_hour_count = requests + CASE WHEN r.last_reset_hour > moment - interval '1 hour' THEN r.current_hour_count ELSE 0 END,
            last_reset_hour = CASE WHEN r.last_reset_hour > moment - interval '1 hour' THEN r.last_reset_hour ELSE moment END,
            current_day_count = requests + CASE WHEN r.last_reset_day > moment - interval '1 day' THEN r.current_day_count ELSE 0 END,
            last_reset_day = CASE WHEN r.last_reset_day > moment - interval '1 day' THEN r.last_reset_day ELSE moment END
        WHERE r.user_id = who;
    END IF;
    RETURN pause;
END
$$;

CREATE FUNCTION @extschema@._steadytext_rate_enforce(owner text, user_id text, requests integer) RETURNS void
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_variable
DECLARE
    who text;
    pause double precision;
BEGIN
    FOREACH who IN ARRAY CASE WHEN user_id IS NULL OR user_id = owner THEN ARRAY[owner]
                              ELSE ARRAY[least(owner, user_id), greatest(owner, user_id)] END LOOP
        pause := @extschema@._steadytext_rate_take(who, requests);
        IF pause > 0 THEN
            PERFORM @extschema@._steadytext_raise('53400', format('rate limit exceeded for "%s"', left(who, 100)),
                format('Try again in %s seconds.', ceil(pause)));
        END IF;
    END LOOP;
END
$$;

-- Take one request from a user's windows; false where one of them is used up. Ordinary roles ask for themselves.
CREATE FUNCTION @extschema@.steadytext_check_rate_limit(user_id text) RETURNS boolean
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_variable
BEGIN
    IF user_id IS NULL THEN
        PERFORM @extschema@._steadytext_raise('22004', 'user_id cannot be null');
    ELSIF user_id <> @extschema@._steadytext_caller() AND NOT @extschema@._steadytext_caller_is('steadytext_admin') THEN
        PERFORM @extschema@._steadytext_raise('42501', 'permission denied to use the rate limit of another user');
    END IF;
    RETURN @extschema@._steadytext_rate_take(user_id, 1) = 0;
END
$$;

-- Set a user's limits; null leaves one as it is, or takes the default for a user who had none.
CREATE FUNCTION @extschema@.steadytext_rate_limit_set(
    user_id text, requests_per_minute integer DEFAULT NULL, requests_per_hour integer DEFAULT NULL,
    requests_per_day integer DEFAULT NULL
) RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_variable
BEGIN
    IF user_id IS NULL THEN
        PERFORM @extschema@._steadytext_raise('22004', 'user_id cannot be null');
    ELSIF least(requests_per_minute, requests_per_hour, requests_per_day) < 1 OR user_id = '' THEN
        PERFORM @extschema@._steadytext_raise('22023', 'user_id cannot be empty, and every limit must be at least 1');
    END IF;
    INSERT INTO @extschema@.steadytext_rate_limits AS r (user_id, requests_per_minute, requests_per_hour, requests_per_day)
    VALUES (user_id, coalesce(requests_per_minute, 60), coalesce(requests_per_hour, 1000), coalesce(requests_per_day, 10000))
    ON CONFLICT ON CONSTRAINT steadytext_rate_limits_pkey DO UPDATE SET
        requests_per_minute = coalesce(requests_per_minute, r.requests_per_minute),
        requests_per_hour = coalesce(requests_per_hour, r.requests_per_hour),
        requests_per_day = coalesce(requests_per_day, r.requests_per_day);
    PERFORM @extschema@._steadytext_audit('rate_limit_set', jsonb_build_object(
        'user_id', user_id, 'per_minute', requests_per_minute, 'per_hour', requests_per_hour, 'per_day', requests_per_day));
END
$$;
-- Asynchronous requests: validated and settled like the synchronous ones when they are queued, under the rights of who
-- asks; a worker only carries them out.

-- Insert one request for each text, and return their ids in order. An unfinished request of the owner with the same
-- dedupe key stands for a new one. Planning for each call would cost more than the call.
CREATE FUNCTION @extschema@._steadytext_queue_push(
    request_type text, texts text[], documents text[], params jsonb, priority integer, user_id text,
    not_before timestamptz, dedupe text, max_retries integer
) RETURNS uuid[]
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp SET plan_cache_mode = force_generic_plan AS $$
#variable_conflict use_variable
DECLARE
    caller constant text := @extschema@._steadytext_caller();
    ids uuid[];
    first_id bigint;
    twin uuid;
BEGIN
    PERFORM @extschema@._steadytext_queue_check(priority, user_id, not_before, dedupe, max_retries);
    IF cardinality(texts) = 0 THEN
        RETURN '{}'::uuid[];
    END IF;
    IF NOT @extschema@._steadytext_writable() THEN
        PERFORM @extschema@._steadytext_raise('25006', 'cannot queue a request in a read-only transaction');
    END IF;
    PERFORM @extschema@._steadytext_rate_enforce(caller, user_id, cardinality(texts));
    ids := ARRAY(SELECT gen_random_uuid() FROM generate_series(1, cardinality(texts)));
    IF dedupe IS NULL THEN
        WITH queued AS (
            INSERT INTO @extschema@.steadytext_queue AS q (request_id, request_type, lane, priority, owner, user_id,
                session_id, prompt, prompts, params, due_at, max_retries, batch_id)
            SELECT t.id, request_type, request_type, priority, caller, coalesce(user_id, caller),
                   nullif(current_setting('application_name'), ''), t.content, documents, params,
                   greatest(clock_timestamp(), not_before), coalesce(max_retries, s.queue_max_retries),
                   CASE WHEN cardinality(ids) > 1 THEN ids[1] END
            FROM @extschema@._steadytext_settings s, unnest(ids, texts) AS t (id, content)
            RETURNING q.id
        )
        SELECT min(queued.id) INTO first_id FROM queued;
    ELSE
        INSERT INTO @extschema@.steadytext_queue AS q (request_id, request_type, lane, priority, owner, user_id,
            session_id, prompt, prompts, params, due_at, max_retries, dedupe_key)
        SELECT ids[1], request_type, request_type, priority, caller, coalesce(user_id, caller),
               nullif(current_setting('application_name'), ''), texts[1], documents, params,
               greatest(clock_timestamp(), not_before), coalesce(max_retries, s.queue_max_retries), dedupe
        FROM @extschema@._steadytext_settings s
        ON CONFLICT (owner, dedupe_key) WHERE dedupe_key IS NOT NULL AND status IN ('pending', 'processing')
            DO UPDATE SET dedupe_key = excluded.dedupe_key
        RETURNING q.id, q.request_id INTO first_id, twin;
        IF twin <> ids[1] THEN
            RETURN ARRAY[twin];
        END IF;
    END IF;
    PERFORM @extschema@._steadytext_queue_admit(caller, request_type, first_id, cardinality(texts));
    RETURN ids;
END
$$;

CREATE FUNCTION @extschema@._steadytext_queue_check(
    priority integer, user_id text, not_before timestamptz, dedupe_key text, max_retries integer
) RETURNS void
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF priority IS NULL THEN
        PERFORM @extschema@._steadytext_raise('22004', 'priority cannot be null');
    ELSIF priority NOT BETWEEN 1 AND 10 THEN
        PERFORM @extschema@._steadytext_raise('22023', format('priority must be between 1 and 10, not %s', priority));
    ELSIF user_id = '' OR length(user_id) > 200 THEN
        PERFORM @extschema@._steadytext_raise('22023', 'user_id must have 1 to 200 characters');
    ELSIF dedupe_key = '' OR length(dedupe_key) > 500 THEN
        PERFORM @extschema@._steadytext_raise('22023', 'dedupe_key must have 1 to 500 characters');
    ELSIF NOT isfinite(not_before) THEN
        PERFORM @extschema@._steadytext_raise('22023', 'not_before must be a moment, not infinity');
    ELSIF max_retries NOT BETWEEN 0 AND 100 THEN
        PERFORM @extschema@._steadytext_raise('22023', format('max_retries must be between 0 and 100, not %s', max_retries));
    END IF;
END
$$;

-- What a worker is to do: the daemon's parameters, and those of the cache's key where the answer may be kept.
CREATE FUNCTION @extschema@._steadytext_queue_params(request jsonb, cache jsonb, cached boolean) RETURNS jsonb
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RETURN CASE WHEN cached THEN jsonb_build_object('request', request, 'cache', cache)
                ELSE jsonb_build_object('request', request) END;
END
$$;

CREATE FUNCTION @extschema@.steadytext_generate_async(
    prompt text, max_tokens integer DEFAULT 512, priority integer DEFAULT 5, user_id text DEFAULT NULL,
    use_cache boolean DEFAULT true, seed integer DEFAULT 42, eos_string text DEFAULT '[EOS]', model text DEFAULT NULL,
    model_repo text DEFAULT NULL, model_filename text DEFAULT NULL, size text DEFAULT NULL,
    unsafe_mode boolean DEFAULT false, thinking_mode boolean DEFAULT false, temperature double precision DEFAULT 0,
    not_before timestamptz DEFAULT NULL, dedupe_key text DEFAULT NULL, max_retries integer DEFAULT NULL,
    stream boolean DEFAULT false
) RETURNS uuid
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_variable
DECLARE
    plan record;
    params jsonb;
BEGIN
    plan := @extschema@._steadytext_generate_prepare(
        prompt, max_tokens, use_cache, seed, eos_string, model, model_repo, model_filename, size, unsafe_mode,
        thinking_mode, temperature);
    params := @extschema@._steadytext_queue_params(plan.request - 'prompt', plan.params, plan.cached);
    IF stream THEN
        params := params || '{"stream": true}';
    END IF;
    RETURN (@extschema@._steadytext_queue_push(
        'generate', ARRAY[prompt], NULL, params, priority, user_id, not_before, dedupe_key, max_retries))[1];
END
$$;

CREATE FUNCTION @extschema@.steadytext_embed_async(
    text_input text, priority integer DEFAULT 5, user_id text DEFAULT NULL, use_cache boolean DEFAULT true,
    seed integer DEFAULT 42, model text DEFAULT NULL, unsafe_mode boolean DEFAULT false,
    not_before timestamptz DEFAULT NULL, dedupe_key text DEFAULT NULL, max_retries integer DEFAULT NULL
) RETURNS uuid
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_variable
DECLARE
    plan record;
BEGIN
    plan := @extschema@._steadytext_embed_prepare(text_input, use_cache, seed, model, unsafe_mode);
    RETURN (@extschema@._steadytext_queue_push(
        'embed', ARRAY[text_input], NULL, @extschema@._steadytext_queue_params(plan.request, plan.params, plan.cached),
        priority, user_id, not_before, dedupe_key, max_retries))[1];
END
$$;

-- Documents are compared as they are; a null among them is refused, since there is nothing to return it as.
CREATE FUNCTION @extschema@._steadytext_rerank_prepare(
    name text, query text, documents text[], task text, return_scores boolean, seed integer
) RETURNS jsonb
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_variable
DECLARE
    longest integer;
BEGIN
    SELECT s.max_prompt_chars INTO longest FROM @extschema@._steadytext_settings s;
    PERFORM @extschema@._steadytext_check_text(name, query, longest);
    PERFORM @extschema@._steadytext_check_text('task', task, longest);
    IF documents IS NULL THEN
        PERFORM @extschema@._steadytext_raise('22004', 'documents cannot be null');
    ELSIF cardinality(documents) = 0 THEN
        PERFORM @extschema@._steadytext_raise('22023', 'documents cannot be empty');
    ELSIF return_scores IS NULL THEN
        PERFORM @extschema@._steadytext_raise('22004', 'return_scores cannot be null');
    ELSIF seed < 0 THEN
        PERFORM @extschema@._steadytext_raise('22023', 'seed must be non-negative');
    END IF;
    PERFORM @extschema@._steadytext_check_text(format('documents[%s]', d.place), d.content, longest)
    FROM unnest(documents) WITH ORDINALITY d (content, place);
    RETURN jsonb_build_object('request', jsonb_build_object(
        'task', task, 'return_scores', return_scores, 'seed', coalesce(seed, 42)));
END
$$;

CREATE FUNCTION @extschema@.steadytext_rerank_async(
    query text, documents text[], task text DEFAULT 'Given a web search query, retrieve relevant passages that answer the query',
    return_scores boolean DEFAULT true, seed integer DEFAULT 42, priority integer DEFAULT 5, user_id text DEFAULT NULL,
    not_before timestamptz DEFAULT NULL, dedupe_key text DEFAULT NULL, max_retries integer DEFAULT NULL
) RETURNS uuid
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RETURN (@extschema@._steadytext_queue_push('rerank', ARRAY[query], documents,
        @extschema@._steadytext_rerank_prepare('query', query, documents, task, return_scores, seed),
        priority, user_id, not_before, dedupe_key, max_retries))[1];
END
$$;

-- Batches: one request a text, in input order, all of one batch_id.
CREATE FUNCTION @extschema@.steadytext_generate_batch_async(
    prompts text[], max_tokens integer DEFAULT 512, priority integer DEFAULT 5, user_id text DEFAULT NULL,
    use_cache boolean DEFAULT true, seed integer DEFAULT 42, model text DEFAULT NULL,
    not_before timestamptz DEFAULT NULL, max_retries integer DEFAULT NULL
) RETURNS uuid[]
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_variable
DECLARE
    plan record;
BEGIN
    PERFORM @extschema@._steadytext_check_texts('prompts', prompts);
    plan := @extschema@._steadytext_generate_prepare(
        'prompt', max_tokens, use_cache, seed, '[EOS]', model, NULL, NULL, NULL, false, false, 0);
    RETURN @extschema@._steadytext_queue_push(
        'generate', prompts, NULL, @extschema@._steadytext_queue_params(plan.request - 'prompt', plan.params, plan.cached),
        priority, user_id, not_before, NULL, max_retries);
END
$$;

CREATE FUNCTION @extschema@.steadytext_embed_batch_async(
    texts text[], priority integer DEFAULT 5, user_id text DEFAULT NULL, use_cache boolean DEFAULT true,
    model text DEFAULT NULL, not_before timestamptz DEFAULT NULL, max_retries integer DEFAULT NULL
) RETURNS uuid[]
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_variable
DECLARE
    plan record;
BEGIN
    PERFORM @extschema@._steadytext_check_texts('texts', texts);
    plan := @extschema@._steadytext_embed_prepare('text', use_cache, NULL, model, false);
    RETURN @extschema@._steadytext_queue_push(
        'embed', texts, NULL, @extschema@._steadytext_queue_params(plan.request, plan.params, plan.cached),
        priority, user_id, not_before, NULL, max_retries);
END
$$;

-- Rank the same documents by each of several queries.
CREATE FUNCTION @extschema@.steadytext_rerank_batch_async(
    queries text[], documents text[], task text DEFAULT 'Given a web search query, retrieve relevant passages that answer the query',
    return_scores boolean DEFAULT true, seed integer DEFAULT 42, priority integer DEFAULT 5, user_id text DEFAULT NULL,
    not_before timestamptz DEFAULT NULL, max_retries integer DEFAULT NULL
) RETURNS uuid[]
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM @extschema@._steadytext_check_texts('queries', queries);
    RETURN @extschema@._steadytext_queue_push('rerank', queries, documents,
        @extschema@._steadytext_rerank_prepare('query', 'query', documents, task, return_scores, seed),
        priority, user_id, not_before, NULL, max_retries);
END
$$;

CREATE FUNCTION @extschema@._steadytext_check_texts(name text, texts text[]) RETURNS void
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF texts IS NULL THEN
        PERFORM @extschema@._steadytext_raise('22004', name || ' cannot be null');
    END IF;
    PERFORM @extschema@._steadytext_check_text(format('%s[%s]', name, bad.place), bad.content, bad.max_prompt_chars)
    FROM (SELECT t.place, t.content, s.max_prompt_chars
          FROM @extschema@._steadytext_settings s, unnest(texts) WITH ORDINALITY t (content, place)
          WHERE t.content IS NULL OR octet_length(t.content) > s.max_prompt_chars OR t.content !~ '\S'
          ORDER BY t.place) bad;
END
$$;

-- A request of the caller's, or anybody's for an administrator; another's is as unknown as one that never was.
CREATE FUNCTION @extschema@._steadytext_queue_find(wanted uuid) RETURNS @extschema@.steadytext_queue
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    request @extschema@.steadytext_queue;
BEGIN
    IF wanted IS NULL THEN
        PERFORM @extschema@._steadytext_raise('22004', 'request_id cannot be null');
    END IF;
    SELECT q.* INTO request FROM @extschema@.steadytext_queue q
    WHERE q.request_id = wanted AND (q.owner = @extschema@._steadytext_caller()::text
                                     OR @extschema@._steadytext_caller_is('steadytext_admin'));
    IF request.id IS NULL THEN
        PERFORM @extschema@._steadytext_raise('P0002', format('there is no request %s', wanted),
            'Requests belong to the role that queued them, and finished ones are kept for queue_retention_days.');
    END IF;
    RETURN request;
END
$$;

CREATE FUNCTION @extschema@.steadytext_check_async(
    request_id uuid, OUT status text, OUT result text, OUT results text[], OUT embedding vector, OUT embeddings vector[],
    OUT error text, OUT created_at timestamptz, OUT completed_at timestamptz, OUT processing_time_ms integer,
    OUT request_type text
) RETURNS SETOF record
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
BEGIN
    RETURN QUERY SELECT q.status, q.result, q.results, q.embedding, q.embeddings, q.error, q.created_at, q.completed_at,
                        q.processing_time_ms, q.request_type
                 FROM @extschema@._steadytext_queue_find($1) q;
END
$$;

CREATE FUNCTION @extschema@.steadytext_get_result(request_id uuid, OUT status text, OUT result text, OUT error text)
RETURNS SETOF record
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
BEGIN
    RETURN QUERY SELECT q.status, coalesce(q.result, @extschema@._steadytext_vector_text(q.embedding)), q.error
                 FROM @extschema@._steadytext_queue_find($1) q;
END
$$;

CREATE FUNCTION @extschema@._steadytext_vector_text(embedding vector) RETURNS text
LANGUAGE sql IMMUTABLE STRICT
BEGIN ATOMIC
    SELECT embedding::text;
END;

CREATE FUNCTION @extschema@.steadytext_check_async_batch(
    request_ids uuid[], OUT request_id uuid, OUT status text, OUT result text, OUT error text, OUT completed_at timestamptz
) RETURNS SETOF record
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
    everything constant boolean := @extschema@._steadytext_caller_is('steadytext_admin');
    unknown uuid;
BEGIN
    IF request_ids IS NULL OR array_position(request_ids, NULL) IS NOT NULL THEN
        PERFORM @extschema@._steadytext_raise('22004', 'request_ids cannot be null or contain null');
    END IF;
    SELECT i INTO unknown FROM unnest(request_ids) i
    WHERE NOT EXISTS (SELECT FROM @extschema@.steadytext_queue q
                      WHERE q.request_id = i AND (everything OR q.owner = @extschema@._steadytext_caller()::text)) LIMIT 1;
    IF unknown IS NOT NULL THEN
        PERFORM @extschema@._steadytext_queue_find(unknown);
    END IF;
    RETURN QUERY SELECT q.request_id, q.status, coalesce(q.result, @extschema@._steadytext_vector_text(q.embedding)),
                        q.error, q.completed_at
                 FROM unnest(request_ids) WITH ORDINALITY i (id, place)
                 JOIN @extschema@.steadytext_queue q ON q.request_id = i.id ORDER BY i.place;
END
$$;

-- Wait for a result. No notification reaches a backend inside a function, so it looks again: after a twentieth of what
-- it has waited already, at least 2 and at most 100 ms.
CREATE FUNCTION @extschema@.steadytext_get_async_result(request_id uuid, timeout_seconds integer DEFAULT 30) RETURNS text
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_variable
DECLARE
    started constant timestamptz := clock_timestamp();
    waited double precision;
    found @extschema@.steadytext_queue;
BEGIN
    IF timeout_seconds IS NULL THEN
        PERFORM @extschema@._steadytext_raise('22004', 'timeout_seconds cannot be null');
    ELSIF timeout_seconds < 0 THEN
        PERFORM @extschema@._steadytext_raise('22023', 'timeout_seconds must be non-negative');
    END IF;
    LOOP
        found := @extschema@._steadytext_queue_find(request_id);
        waited := extract(epoch FROM clock_timestamp() - started);
        IF found.status = 'completed' THEN
            RETURN coalesce(found.result, @extschema@._steadytext_vector_text(found.embedding));
        ELSIF found.status = 'failed' THEN
            PERFORM @extschema@._steadytext_raise(
                coalesce((SELECT e.code FROM @extschema@.steadytext_queue_errors e
                          WHERE e.request_id = found.request_id ORDER BY e.id DESC LIMIT 1), '58000'),
                format('request %s failed: %s', request_id, found.error));
        ELSIF found.status = 'cancelled' THEN
            PERFORM @extschema@._steadytext_raise('55000', format('request %s was cancelled', request_id));
        ELSIF @extschema@._steadytext_queue_unseen(request_id) THEN
            PERFORM @extschema@._steadytext_raise('55000', format('request %s cannot be waited for here', request_id),
                'Workers see a request when its transaction has committed, and a transaction at REPEATABLE READ never sees its end.');
        ELSIF waited >= timeout_seconds THEN
            PERFORM @extschema@._steadytext_raise('57014',
                format('request %s is %s after %s seconds', request_id, found.status, timeout_seconds),
                'It stays in the queue; wait again, or cancel it with steadytext_cancel_async().');
        END IF;
        PERFORM pg_sleep(least(0.1, greatest(0.002, waited / 20), greatest(timeout_seconds - waited, 0.001)));
    END LOOP;
END
$$;

-- Whether this transaction could wait for ever: it queued the request itself, or its snapshot is older than any answer.
CREATE FUNCTION @extschema@._steadytext_queue_unseen(wanted uuid) RETURNS boolean
LANGUAGE sql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
    SELECT current_setting('transaction_isolation') <> 'read committed'
        OR EXISTS (SELECT FROM @extschema@.steadytext_queue q
                   WHERE q.request_id = wanted AND q.xmin = pg_current_xact_id_if_assigned()::xid)
$$;

-- Cancel a request that waits or runs: true, and it is never completed afterwards; false where it had ended.
CREATE FUNCTION @extschema@.steadytext_cancel_async(request_id uuid) RETURNS boolean
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_variable
DECLARE
    request @extschema@.steadytext_queue := @extschema@._steadytext_queue_find(request_id);
BEGIN
    UPDATE @extschema@.steadytext_queue q
    SET status = 'cancelled', completed_at = clock_timestamp(), error = 'cancelled', worker_id = NULL
    WHERE q.id = request.id AND q.status IN ('pending', 'processing');
    IF NOT FOUND THEN
        RETURN false;
    END IF;
    PERFORM @extschema@._steadytext_audit('cancel_async', NULL, request_id);
    PERFORM pg_notify('steadytext_cancel', ''), pg_notify('steadytext_done', '');
    RETURN true;
END
$$;

-- How far the batch of a request is (a request queued alone is a batch of one). `rate` is that of the last minute, up to
-- now or to the batch's end, and the estimate goes by it: none where nothing has ended for a minute.
CREATE FUNCTION @extschema@.steadytext_batch_status(
    request_id uuid, OUT batch_id uuid, OUT total bigint, OUT pending bigint, OUT processing bigint, OUT completed bigint,
    OUT failed bigint, OUT cancelled bigint, OUT done bigint, OUT rate double precision, OUT estimated_end timestamptz
) RETURNS SETOF record
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
    found @extschema@.steadytext_queue := @extschema@._steadytext_queue_find($1);
BEGIN
    RETURN QUERY
    WITH member AS (
        SELECT q.status, q.started_at, q.completed_at FROM @extschema@.steadytext_queue q
        WHERE q.batch_id = found.batch_id AND q.owner = found.owner
        UNION ALL
        SELECT found.status, found.started_at, found.completed_at WHERE found.batch_id IS NULL
    ), counted AS (
        SELECT count(*) AS n, count(*) FILTER (WHERE m.status = 'pending') AS waiting,
               count(*) FILTER (WHERE m.status = 'processing') AS running,
               count(*) FILTER (WHERE m.status = 'completed') AS ok, count(*) FILTER (WHERE m.status = 'failed') AS bad,
               count(*) FILTER (WHERE m.status = 'cancelled') AS dropped, max(m.completed_at) AS latest,
               min(m.started_at) AS first
        FROM member m
    ), ended AS (
        SELECT c.*, CASE WHEN c.waiting + c.running = 0 THEN c.latest ELSE clock_timestamp() END AS until FROM counted c
    ), paced AS (
        SELECT e.*, (SELECT count(*) FROM member m WHERE m.completed_at > e.until - interval '1 minute')
               / greatest(extract(epoch FROM least(e.until - e.first, interval '1 minute')), 0.001)::double precision AS pace
        FROM ended e
    )
    SELECT coalesce(found.batch_id, found.request_id), p.n, p.waiting, p.running, p.ok, p.bad, p.dropped,
           p.ok + p.bad + p.dropped, p.pace,
           CASE WHEN p.waiting + p.running = 0 THEN p.latest
                WHEN p.pace > 0 THEN clock_timestamp() + make_interval(secs => (p.waiting + p.running) / p.pace) END
    FROM paced p;
END
$$;
-- The queue as an administrator sees and tends it.

CREATE VIEW @extschema@.steadytext_dead_letters AS
SELECT q.request_id, q.request_type, q.lane, q.owner, q.user_id, q.prompt, q.error, q.retry_count,
       q.completed_at AS failed_at,
       (SELECT pg_catalog.jsonb_agg(pg_catalog.jsonb_build_object(
            'attempt', e.attempt, 'failed_at', e.failed_at, 'code', e.code, 'message', e.message) ORDER BY e.id)
        FROM @extschema@.steadytext_queue_errors e WHERE e.request_id = q.request_id) AS history
FROM @extschema@.steadytext_queue q WHERE q.status = 'failed';

CREATE FUNCTION @extschema@.steadytext_queue_status(
    OUT lane text, OUT status text, OUT requests bigint, OUT oldest interval
) RETURNS SETOF record
LANGUAGE sql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT q.lane, q.status, count(*), clock_timestamp() - min(q.created_at)
    FROM @extschema@.steadytext_queue q GROUP BY q.lane, q.status ORDER BY q.lane, q.status
$$;

-- Put a failed or cancelled request back into the queue with all its retries; false where it is neither. Its dedupe key
-- is gone: another request may have it by now.
CREATE FUNCTION @extschema@.steadytext_queue_retry(request_id uuid) RETURNS boolean
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_variable
DECLARE
    found @extschema@.steadytext_queue := @extschema@._steadytext_queue_find(request_id);
    revived uuid;
BEGIN
    UPDATE @extschema@.steadytext_queue q
    SET status = 'pending', due_at = clock_timestamp(), retry_count = 0, completed_at = NULL, error = NULL,
        dedupe_key = NULL
    WHERE q.id = found.id AND q.status IN ('failed', 'cancelled') RETURNING q.request_id INTO revived;
    IF revived IS NULL THEN
        RETURN false;
    END IF;
    PERFORM @extschema@._steadytext_queue_admit(found.owner, found.lane, found.id, 1);
    PERFORM @extschema@._steadytext_audit('queue_retry', NULL, request_id);
    RETURN true;
END
$$;

-- Put dead letters back into the queue: all, or those of a lane, or those that failed longer ago. Returns how many; they
-- count against the caps as new ones do.
CREATE FUNCTION @extschema@.steadytext_queue_requeue_dead(lane text DEFAULT NULL, older_than interval DEFAULT NULL)
RETURNS bigint
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_variable
DECLARE
    party record;
    requeued bigint := 0;
BEGIN
    FOR party IN
        WITH revived AS (
            UPDATE @extschema@.steadytext_queue q
            SET status = 'pending', due_at = clock_timestamp(), retry_count = 0, completed_at = NULL, error = NULL,
                dedupe_key = NULL
            WHERE q.status = 'failed' AND (lane IS NULL OR q.lane = lane)
              AND (older_than IS NULL OR q.completed_at < clock_timestamp() - older_than)
            RETURNING q.owner, q.lane, q.id
        )
        SELECT r.owner, r.lane, min(r.id) AS first_id, count(*)::integer AS requests FROM revived r GROUP BY r.owner, r.lane
    LOOP
        PERFORM @extschema@._steadytext_queue_admit(party.owner, party.lane, party.first_id, party.requests);
        requeued := requeued + party.requests;
    END LOOP;
    IF requeued > 0 THEN
        PERFORM @extschema@._steadytext_audit('queue_requeue_dead',
            jsonb_build_object('lane', lane, 'older_than', older_than, 'requests', requeued));
    END IF;
    RETURN requeued;
END
$$;

-- Forget finished requests, at most `batch_size` by one call; returns how many. Without an age it takes those beyond
-- queue_retention_days. The oldest stand first in the primary key, which is read from its start.
CREATE FUNCTION @extschema@.steadytext_queue_purge(older_than interval DEFAULT NULL, batch_size integer DEFAULT 10000)
RETURNS bigint
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_variable
DECLARE
    moment timestamptz;
    purged bigint;
BEGIN
    IF batch_size IS NULL THEN
        PERFORM @extschema@._steadytext_raise('22004', 'batch_size cannot be null');
    ELSIF batch_size < 1 THEN
        PERFORM @extschema@._steadytext_raise('22023', 'batch_size must be at least 1');
    END IF;
    moment := clock_timestamp() - coalesce(older_than, make_interval(
        days => @extschema@.steadytext_config_get('queue_retention_days')::integer));
    WITH gone AS (
        DELETE FROM @extschema@.steadytext_queue q
        WHERE q.id IN (SELECT f.id FROM @extschema@.steadytext_queue f
                       WHERE f.status IN ('completed', 'failed', 'cancelled') AND f.completed_at < moment
                       ORDER BY f.id LIMIT batch_size FOR UPDATE SKIP LOCKED)
        RETURNING q.request_id, q.retry_count, q.status
    ), forgotten AS (
        DELETE FROM @extschema@.steadytext_queue_errors e USING gone g WHERE e.request_id = g.request_id
    )
    SELECT count(*) INTO purged FROM gone;
    IF purged > 0 AND older_than IS NOT NULL THEN
        PERFORM @extschema@._steadytext_audit('queue_purge', jsonb_build_object('older_than', older_than, 'requests', purged));
    END IF;
    RETURN purged;
END
$$;
-- Search by meaning over the texts whose embedding the cache holds.

CREATE FUNCTION @extschema@._steadytext_similar(
    query vector, key_params jsonb, role_scope name, model text, floor double precision, most integer
) RETURNS TABLE (content text, similarity double precision, generated_text text)
LANGUAGE sql STABLE
BEGIN ATOMIC
    SELECT found.prompt, found.similarity,
           (SELECT g.response FROM @extschema@.steadytext_cache g
            WHERE g.prompt = found.prompt AND g.operation = 'generate' AND g.response IS NOT NULL
              AND g.scope IS NOT DISTINCT FROM role_scope
            ORDER BY g.last_accessed DESC, g.id DESC LIMIT 1)
    FROM (
        SELECT c.id, c.prompt, 1 - (c.embedding <=> query) AS similarity
        FROM @extschema@.steadytext_cache c
        WHERE c.operation = 'embed' AND c.model_name = model
          AND c.model_digest IS NOT DISTINCT FROM key_params ->> 'digest'
          AND c.scope IS NOT DISTINCT FROM role_scope
          AND vector_dims(c.embedding) = vector_dims(query)
    ) found
    WHERE found.similarity >= floor
    ORDER BY found.similarity DESC, found.id
    LIMIT most;
END;

-- The prompts that generated answers are looked up by, hashed since a prompt may be longer than an index row.
CREATE INDEX steadytext_cache_prompt_idx ON @extschema@.steadytext_cache USING hash (prompt) WHERE operation = 'generate';

CREATE FUNCTION @extschema@.steadytext_semantic_search(
    query_text text, limit_results integer DEFAULT 10, similarity_threshold double precision DEFAULT 0.7,
    OUT content text, OUT similarity double precision, OUT generated_text text
) RETURNS SETOF record
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_variable
DECLARE
    plan record;
    query @extschema@.steadytext_cache.embedding%TYPE;
BEGIN
    IF num_nulls(limit_results, similarity_threshold) > 0 THEN
        PERFORM @extschema@._steadytext_raise('22004',
            CASE WHEN limit_results IS NULL THEN 'limit_results' ELSE 'similarity_threshold' END || ' cannot be null');
    ELSIF limit_results NOT BETWEEN 1 AND 10000 THEN
        PERFORM @extschema@._steadytext_raise('22023', 'limit_results must be between 1 and 10000');
    ELSIF NOT similarity_threshold BETWEEN -1 AND 1 THEN
        PERFORM @extschema@._steadytext_raise('22023', 'similarity_threshold must be between -1 and 1');
    END IF;
    SELECT p.* INTO plan FROM @extschema@._steadytext_embed_prepare(query_text, true, NULL, NULL, false) p;
    -- The query is nobody's content: it is asked for past the cache, or it would find itself next time.
    query := @extschema@._steadytext_embed(query_text, false, NULL, NULL, false);
    RETURN QUERY SELECT s.* FROM @extschema@._steadytext_similar(
        query, plan.params, (plan.params ->> 'scope')::name, plan.params ->> 'model', similarity_threshold, limit_results) s;
END
$$;
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
    avg_response_time_ms integer
);

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
            (daemon_id, endpoint, status, uptime_seconds, version, models_loaded, last_heartbeat)
        SELECT 'default', s.endpoint, state, coalesce((answer ->> 'uptime_s')::numeric::integer, 0), answer ->> 'version',
               ARRAY(SELECT json_array_elements_text(answer -> 'models_loaded')),
               CASE WHEN answer IS NOT NULL THEN now() END
        FROM @extschema@._steadytext_settings s
        ON CONFLICT (daemon_id) DO UPDATE SET
            endpoint = excluded.endpoint, status = excluded.status, uptime_seconds = excluded.uptime_seconds,
            version = coalesce(excluded.version, h.version), models_loaded = excluded.models_loaded,
            last_heartbeat = coalesce(excluded.last_heartbeat, h.last_heartbeat);
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
-- st_* names: the same functions with the same arguments, defaults, results and volatility, written from the catalogue
-- so that the two cannot differ.
DO $$
DECLARE
    original record;
BEGIN
    FOR original IN
        SELECT p.oid, p.proname, p.proretset, p.provolatile, p.prorettype = 'void'::regtype AS is_void,
               pg_catalog.pg_get_function_arguments(p.oid) AS arguments,
               pg_catalog.pg_get_function_result(p.oid) AS result,
               pg_catalog.array_to_string(ARRAY(
                   SELECT '$' || n FROM pg_catalog.generate_series(1, p.pronargs) n), ', ') AS passed,
               'record'::regtype = p.prorettype AS is_record
        FROM pg_catalog.pg_proc p
        WHERE p.pronamespace = '@extschema@'::regnamespace AND p.proname LIKE 'steadytext\_%'
          AND p.proname NOT LIKE 'steadytext\_model%'
    LOOP
        EXECUTE pg_catalog.format(
            'CREATE FUNCTION @extschema@.%I(%s) RETURNS %s LANGUAGE sql %s BEGIN ATOMIC SELECT %s; END',
            'st_' || pg_catalog.substr(original.proname, 12), original.arguments, original.result,
            CASE original.provolatile WHEN 'i' THEN 'IMMUTABLE' WHEN 's' THEN 'STABLE' ELSE 'VOLATILE' END,
            CASE WHEN original.is_record
                 THEN pg_catalog.format('* FROM @extschema@.%I(%s)', original.proname, original.passed)
                 ELSE pg_catalog.format('@extschema@.%I(%s)', original.proname, original.passed) END);
    END LOOP;
END
$$;
-- Nothing for PUBLIC; each role exactly what its name says.
DO $$
DECLARE
    member record;
    audience text;
BEGIN
    FOR member IN
        SELECT p.oid::regprocedure AS signature,
               pg_catalog.regexp_replace(p.proname, '^(steadytext|st)_', '') AS name, p.proname
        FROM pg_catalog.pg_proc p
        JOIN pg_catalog.pg_depend d ON d.classid = 'pg_catalog.pg_proc'::regclass AND d.objid = p.oid AND d.deptype = 'e'
        JOIN pg_catalog.pg_extension e ON d.refclassid = 'pg_catalog.pg_extension'::regclass AND e.oid = d.refobjid
        WHERE e.extname = 'pg_steadytext'
    LOOP
        EXECUTE pg_catalog.format('REVOKE ALL ON FUNCTION %s FROM PUBLIC', member.signature);
        audience := CASE
            WHEN member.proname IN ('_steadytext_generate_stream') THEN 'steadytext_user'
            WHEN member.proname IN ('_steadytext_cache_unfolded', '_steadytext_frecency', '_steadytext_cache_fold',
                                    'steadytext_models_sync') THEN 'steadytext_admin'
            WHEN member.proname IN ('_steadytext_worker_register', '_steadytext_worker_renew', '_steadytext_worker_leave',
                                    '_steadytext_worker_sleep',
                                    '_steadytext_queue_claim', '_steadytext_queue_keep', '_steadytext_queue_cached', '_steadytext_queue_finish',
                                    '_steadytext_queue_fail', '_steadytext_queue_release', '_steadytext_queue_recover',
                                    '_steadytext_queue_next_due', '_steadytext_queue_lost') THEN 'steadytext_worker'
            WHEN member.proname LIKE '\_%' OR member.proname = 'steadytext_model_register' THEN NULL
            WHEN member.name IN ('version', 'config_get', 'cache_stats', 'cache_key') THEN 'steadytext_reader'
            WHEN member.name LIKE 'generate%' OR member.name LIKE 'embed%' OR member.name LIKE 'rerank%'
                OR member.name IN ('semantic_search', 'check_async', 'get_result', 'get_async_result', 'check_async_batch',
                                   'cancel_async', 'batch_status', 'check_rate_limit')
                THEN 'steadytext_user'
            ELSE 'steadytext_admin' END;
        IF audience IS NOT NULL THEN
            EXECUTE pg_catalog.format('GRANT EXECUTE ON FUNCTION %s TO %I', member.signature, audience);
        END IF;
    END LOOP;
END
$$;

GRANT SELECT ON @extschema@.steadytext_cache, @extschema@.steadytext_cache_with_frecency TO steadytext_admin;
GRANT SELECT ON @extschema@.steadytext_config, @extschema@.steadytext_models, @extschema@.steadytext_daemon_health
    TO steadytext_reader;

GRANT SELECT ON @extschema@.steadytext_queue, @extschema@.steadytext_queue_errors TO steadytext_reader;
GRANT SELECT ON @extschema@.steadytext_dead_letters, @extschema@.steadytext_workers, @extschema@.steadytext_audit_log,
    @extschema@.steadytext_rate_limits TO steadytext_admin;

-- A worker's duties beside the queue.
GRANT EXECUTE ON FUNCTION @extschema@._steadytext_cache_fold(), @extschema@.steadytext_cache_scheduled_eviction(),
    @extschema@.steadytext_models_sync(), @extschema@.steadytext_queue_purge(interval, integer) TO steadytext_worker;
GRANT SELECT, INSERT, UPDATE ON @extschema@.steadytext_daemon_health TO steadytext_worker;

-- A request is its owner's; administrators see all. Writing is for the functions alone.
ALTER TABLE @extschema@.steadytext_queue ENABLE ROW LEVEL SECURITY;
CREATE POLICY steadytext_queue_own ON @extschema@.steadytext_queue FOR SELECT TO steadytext_reader
    USING (owner = CURRENT_USER::text OR pg_catalog.pg_has_role('steadytext_admin', 'USAGE'));
ALTER TABLE @extschema@.steadytext_queue_errors ENABLE ROW LEVEL SECURITY;
CREATE POLICY steadytext_queue_errors_own ON @extschema@.steadytext_queue_errors FOR SELECT TO steadytext_reader
    USING (EXISTS (SELECT FROM @extschema@.steadytext_queue q WHERE q.request_id = steadytext_queue_errors.request_id));

ALTER TABLE @extschema@.steadytext_config ENABLE ROW LEVEL SECURITY;
CREATE POLICY steadytext_config_readable ON @extschema@.steadytext_config FOR SELECT TO steadytext_reader
    USING (key <> 'daemon_client_secret_key');
