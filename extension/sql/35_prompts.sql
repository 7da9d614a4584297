-- Prompts by name: templates in Jinja2 with versions that never change. PL/pgSQL keeps them; the one function that reads
-- and renders them leaves SQL, and nothing else does.

CREATE TABLE @extschema@.steadytext_prompts (
    id uuid PRIMARY KEY DEFAULT pg_catalog.gen_random_uuid(),
    slug text NOT NULL UNIQUE CHECK (slug ~ '^[a-z0-9]([a-z0-9_-]{0,98}[a-z0-9])?$'),
    description text,
    created_at timestamptz NOT NULL DEFAULT pg_catalog.now(),
    updated_at timestamptz NOT NULL DEFAULT pg_catalog.now(),
    created_by text NOT NULL
);

CREATE TABLE @extschema@.steadytext_prompt_versions (
    id uuid PRIMARY KEY DEFAULT pg_catalog.gen_random_uuid(),
    prompt_id uuid NOT NULL,
    version integer NOT NULL CHECK (version > 0),
    template text NOT NULL,
    required_variables text[] NOT NULL,
    metadata jsonb NOT NULL DEFAULT '{}' CHECK (pg_catalog.jsonb_typeof(metadata) = 'object'),
    created_at timestamptz NOT NULL DEFAULT pg_catalog.now(),
    created_by text NOT NULL,
    UNIQUE (prompt_id, version)
);

COMMENT ON COLUMN @extschema@.steadytext_prompts.created_by IS 'The role that may change and delete it, as administrators may';
COMMENT ON COLUMN @extschema@.steadytext_prompt_versions.required_variables IS
    'What the template reads and does not provide for being absent';

SELECT pg_catalog.pg_extension_config_dump('@extschema@.steadytext_prompts', '');
SELECT pg_catalog.pg_extension_config_dump('@extschema@.steadytext_prompt_versions', '');

GRANT SELECT ON @extschema@.steadytext_prompts, @extschema@.steadytext_prompt_versions TO steadytext_reader;

-- A version is gone only with its prompt, whose deletion arrives here as a trigger's own statement.
CREATE FUNCTION @extschema@._steadytext_prompt_version_stays() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF TG_OP = 'DELETE' AND pg_trigger_depth() > 1 THEN
        RETURN OLD;
    END IF;
    PERFORM @extschema@._steadytext_raise('55000', 'a prompt''s version never changes',
        'steadytext_prompt_update() makes a new one.');
    RETURN NULL;
END
$$;

CREATE TRIGGER steadytext_prompt_version_stays BEFORE UPDATE OR DELETE ON @extschema@.steadytext_prompt_versions
    FOR EACH ROW EXECUTE FUNCTION @extschema@._steadytext_prompt_version_stays();

-- The versions go with their prompt. No foreign key: `pg_restore -j` loads the tables of an extension in any order.
CREATE FUNCTION @extschema@._steadytext_prompt_versions_go() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    DELETE FROM @extschema@.steadytext_prompt_versions c WHERE c.prompt_id = OLD.id;
    RETURN NULL;
END
$$;

CREATE TRIGGER _steadytext_prompt_versions_go AFTER DELETE ON @extschema@.steadytext_prompts
    FOR EACH ROW EXECUTE FUNCTION @extschema@._steadytext_prompt_versions_go();

CREATE FUNCTION @extschema@._steadytext_template(action text, request text) RETURNS text
LANGUAGE plpython3u STABLE SET search_path = pg_catalog, pg_temp AS $python$
templates = GD.get("pg_steadytext 1.1.0 templates")
if templates is None:
    try:
        import jinja2
    except ImportError as error:
        import json
        return json.dumps({"error": f"PostgreSQL's Python cannot import jinja2: {error}", "code": "58000",
                           "hint": "apt install python3-jinja2, or install Jinja2 for that Python."})
@sandbox@
@template@
    templates = GD["pg_steadytext 1.1.0 templates"] = Templates(plpy)
return templates.answer(action, request)
$python$;

COMMENT ON FUNCTION @extschema@._steadytext_template(text, text) IS
    'Read, render or compare templates: JSON in, JSON out, errors as data';

CREATE FUNCTION @extschema@._steadytext_template_ask(action text, request jsonb) RETURNS json
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    reply json := @extschema@._steadytext_template(action, request::text)::json;
BEGIN
    IF reply ->> 'error' IS NOT NULL THEN
        PERFORM @extschema@._steadytext_raise(reply ->> 'code', reply ->> 'error', reply ->> 'hint');
    END IF;
    RETURN reply -> 'result';
END
$$;

-- Check a template, its metadata and its slug; returns the variables that it requires.
CREATE FUNCTION @extschema@._steadytext_prompt_check(slug text, template text, metadata jsonb) RETURNS text[]
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_variable
BEGIN
    IF slug IS NULL THEN
        PERFORM @extschema@._steadytext_raise('22004', 'slug cannot be null');
    ELSIF slug !~ '^[a-z0-9]([a-z0-9_-]{0,98}[a-z0-9])?$' THEN
        PERFORM @extschema@._steadytext_raise('22P02', format('"%s" is no slug', left(slug, 120)),
            'A slug has 1 to 100 lower-case letters, digits, hyphens and underscores, the first and last a letter or digit.');
    ELSIF metadata IS NULL THEN
        PERFORM @extschema@._steadytext_raise('22004', 'metadata cannot be null');
    ELSIF jsonb_typeof(metadata) <> 'object' THEN
        PERFORM @extschema@._steadytext_raise('22023', 'metadata must be a JSON object');
    END IF;
    PERFORM @extschema@._steadytext_check_text('Template', template, s.max_prompt_chars)
    FROM @extschema@._steadytext_settings s;
    RETURN ARRAY(SELECT json_array_elements_text(
        @extschema@._steadytext_template_ask('read', jsonb_build_object('template', template))));
END
$$;

CREATE FUNCTION @extschema@._steadytext_prompt_find(slug text) RETURNS @extschema@.steadytext_prompts
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_variable
DECLARE
    found @extschema@.steadytext_prompts;
BEGIN
    IF slug IS NULL THEN
        PERFORM @extschema@._steadytext_raise('22004', 'slug cannot be null');
    END IF;
    SELECT p.* INTO found FROM @extschema@.steadytext_prompts p WHERE p.slug = slug;
    IF found.id IS NULL THEN
        PERFORM @extschema@._steadytext_raise('P0002', format('there is no prompt "%s"', left(slug, 120)),
            'steadytext_prompt_list() shows those there are.');
    END IF;
    RETURN found;
END
$$;

-- One version, the latest where none is named.
CREATE FUNCTION @extschema@._steadytext_prompt_version(slug text, version integer)
RETURNS @extschema@.steadytext_prompt_versions
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_variable
DECLARE
    prompt @extschema@.steadytext_prompts := @extschema@._steadytext_prompt_find(slug);
    found @extschema@.steadytext_prompt_versions;
BEGIN
    SELECT v.* INTO found FROM @extschema@.steadytext_prompt_versions v
    WHERE v.prompt_id = prompt.id AND (version IS NULL OR v.version = version)
    ORDER BY v.version DESC LIMIT 1;
    IF found.id IS NULL THEN
        PERFORM @extschema@._steadytext_raise('P0002', format('prompt "%s" has no version %s', slug, version),
            'steadytext_prompt_versions() shows those there are.');
    END IF;
    RETURN found;
END
$$;

-- A prompt that the caller may change, locked until the transaction ends.
CREATE FUNCTION @extschema@._steadytext_prompt_own(slug text) RETURNS @extschema@.steadytext_prompts
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_variable
DECLARE
    prompt @extschema@.steadytext_prompts := @extschema@._steadytext_prompt_find(slug);
BEGIN
    IF prompt.created_by <> @extschema@._steadytext_caller() AND NOT @extschema@._steadytext_caller_is('steadytext_admin') THEN
        PERFORM @extschema@._steadytext_raise('42501', format('permission denied to change prompt "%s"', slug),
            format('It belongs to role "%s".', prompt.created_by));
    END IF;
    PERFORM FROM @extschema@.steadytext_prompts p WHERE p.id = prompt.id FOR UPDATE;
    IF NOT FOUND THEN
        PERFORM @extschema@._steadytext_raise('P0002', format('there is no prompt "%s"', slug));
    END IF;
    RETURN prompt;
END
$$;

-- Make a prompt with its first version; returns its id.
CREATE FUNCTION @extschema@.steadytext_prompt_create(
    slug text, template text, description text DEFAULT NULL, metadata jsonb DEFAULT '{}'
) RETURNS uuid
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_variable
DECLARE
    caller constant name := @extschema@._steadytext_caller();
    required text[] := @extschema@._steadytext_prompt_check(slug, template, metadata);
    made uuid;
BEGIN
    INSERT INTO @extschema@.steadytext_prompts AS p (slug, description, created_by) VALUES (slug, description, caller)
    ON CONFLICT ON CONSTRAINT steadytext_prompts_slug_key DO NOTHING RETURNING p.id INTO made;
    IF made IS NULL THEN
        PERFORM @extschema@._steadytext_raise('23505', format('prompt "%s" exists already', slug),
            'steadytext_prompt_update() makes a new version of it.');
    END IF;
    INSERT INTO @extschema@.steadytext_prompt_versions (prompt_id, version, template, required_variables, metadata, created_by)
    VALUES (made, 1, template, required, metadata, caller);
    PERFORM @extschema@._steadytext_audit('prompt_create', jsonb_build_object('slug', slug));
    RETURN made;
END
$$;

-- Make a new version; returns its id. Those before it stay as they are.
CREATE FUNCTION @extschema@.steadytext_prompt_update(slug text, template text, metadata jsonb DEFAULT '{}') RETURNS uuid
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_variable
DECLARE
    required text[] := @extschema@._steadytext_prompt_check(slug, template, metadata);
    prompt @extschema@.steadytext_prompts := @extschema@._steadytext_prompt_own(slug);
    made uuid;
    number integer;
BEGIN
    INSERT INTO @extschema@.steadytext_prompt_versions AS n
        (prompt_id, version, template, required_variables, metadata, created_by)
    SELECT prompt.id, coalesce(max(v.version), 0) + 1, template, required, metadata, @extschema@._steadytext_caller()
    FROM @extschema@.steadytext_prompt_versions v WHERE v.prompt_id = prompt.id
    RETURNING n.id, n.version INTO made, number;
    UPDATE @extschema@.steadytext_prompts p SET updated_at = now() WHERE p.id = prompt.id;
    PERFORM @extschema@._steadytext_audit('prompt_update', jsonb_build_object('slug', slug, 'version', number));
    RETURN made;
END
$$;

CREATE FUNCTION @extschema@.steadytext_prompt_get(
    slug text, version integer DEFAULT NULL, OUT prompt_id uuid, OUT description text, OUT version_number integer,
    OUT template text, OUT required_variables text[], OUT metadata jsonb, OUT created_at timestamptz, OUT created_by text,
    OUT version_num integer
) RETURNS SETOF record
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
BEGIN
    RETURN QUERY
    SELECT v.prompt_id, (SELECT p.description FROM @extschema@.steadytext_prompts p WHERE p.id = v.prompt_id),
           v.version, v.template, v.required_variables, v.metadata, v.created_at, v.created_by, v.version
    FROM @extschema@._steadytext_prompt_version($1, $2) v;
END
$$;

-- Fill a template in. With strict, a variable that is required and not given is an error; else it is left empty.
CREATE FUNCTION @extschema@.steadytext_prompt_render(
    slug text, variables jsonb DEFAULT '{}', version integer DEFAULT NULL, strict boolean DEFAULT true
) RETURNS text
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_variable
DECLARE
    found @extschema@.steadytext_prompt_versions := @extschema@._steadytext_prompt_version(slug, version);
    longest integer;
BEGIN
    IF num_nulls(variables, strict) > 0 THEN
        PERFORM @extschema@._steadytext_raise('22004',
            CASE WHEN variables IS NULL THEN 'variables' ELSE 'strict' END || ' cannot be null');
    ELSIF jsonb_typeof(variables) <> 'object' THEN
        PERFORM @extschema@._steadytext_raise('22023', 'variables must be a JSON object');
    ELSIF pg_column_size(variables) > 4000000 OR octet_length(variables::text) > 4000000 THEN
        PERFORM @extschema@._steadytext_raise('22001', 'variables are larger than 4000000 bytes');
    ELSIF jsonb_path_exists(variables, '$.**{300}') THEN
        PERFORM @extschema@._steadytext_raise('22023', 'variables are nested deeper than 300 levels');
    END IF;
    SELECT s.max_prompt_chars INTO longest FROM @extschema@._steadytext_settings s;
    RETURN @extschema@._steadytext_template_ask('render', jsonb_build_object(
        'template', found.template, 'variables', variables, 'strict', strict, 'limit', longest)) #>> '{}';
END
$$;

CREATE FUNCTION @extschema@.steadytext_prompt_list(
    OUT prompt_id uuid, OUT slug text, OUT description text, OUT latest_version integer, OUT total_versions bigint,
    OUT created_at timestamptz, OUT updated_at timestamptz, OUT created_by text, OUT latest_version_num integer
) RETURNS SETOF record
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT p.id, p.slug, p.description, max(v.version), count(*), p.created_at, p.updated_at, p.created_by, max(v.version)
    FROM @extschema@.steadytext_prompts p JOIN @extschema@.steadytext_prompt_versions v ON v.prompt_id = p.id
    GROUP BY p.id ORDER BY p.slug
$$;

CREATE FUNCTION @extschema@.steadytext_prompt_versions(
    slug text, OUT version_id uuid, OUT version integer, OUT template text, OUT required_variables text[],
    OUT metadata jsonb, OUT created_at timestamptz, OUT created_by text, OUT version_num integer, OUT is_active boolean
) RETURNS SETOF record
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
    prompt @extschema@.steadytext_prompts := @extschema@._steadytext_prompt_find($1);
BEGIN
    RETURN QUERY
    SELECT v.id, v.version, v.template, v.required_variables, v.metadata, v.created_at, v.created_by, v.version,
           v.version = max(v.version) OVER ()
    FROM @extschema@.steadytext_prompt_versions v WHERE v.prompt_id = prompt.id ORDER BY v.version;
END
$$;

-- What changed from one version to another, as a unified diff; empty where nothing did.
CREATE FUNCTION @extschema@.steadytext_prompt_diff(slug text, from_version integer, to_version integer) RETURNS text
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_variable
DECLARE
    older @extschema@.steadytext_prompt_versions;
    newer @extschema@.steadytext_prompt_versions;
BEGIN
    IF num_nulls(from_version, to_version) > 0 THEN
        PERFORM @extschema@._steadytext_raise('22004',
            CASE WHEN from_version IS NULL THEN 'from_version' ELSE 'to_version' END || ' cannot be null');
    END IF;
    older := @extschema@._steadytext_prompt_version(slug, from_version);
    newer := @extschema@._steadytext_prompt_version(slug, to_version);
    RETURN @extschema@._steadytext_template_ask('diff', jsonb_build_object(
        'older', older.template, 'newer', newer.template, 'older_name', format('%s@%s', slug, from_version),
        'newer_name', format('%s@%s', slug, to_version))) #>> '{}';
END
$$;

-- Delete a prompt with all its versions; false where there is none.
CREATE FUNCTION @extschema@.steadytext_prompt_delete(slug text) RETURNS boolean
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_variable
DECLARE
    prompt @extschema@.steadytext_prompts;
BEGIN
    IF slug IS NULL THEN
        PERFORM @extschema@._steadytext_raise('22004', 'slug cannot be null');
    ELSIF NOT EXISTS (SELECT FROM @extschema@.steadytext_prompts p WHERE p.slug = slug) THEN
        RETURN false;
    END IF;
    prompt := @extschema@._steadytext_prompt_own(slug);
    DELETE FROM @extschema@.steadytext_prompts p WHERE p.id = prompt.id;
    PERFORM @extschema@._steadytext_audit('prompt_delete', jsonb_build_object('slug', slug));
    RETURN true;
END
$$;

-- Render a prompt strictly, and generate.
CREATE FUNCTION @extschema@.steadytext_generate_prompt(
    slug text, variables jsonb DEFAULT '{}', version integer DEFAULT NULL, max_tokens integer DEFAULT NULL,
    use_cache boolean DEFAULT true, seed integer DEFAULT 42, eos_string text DEFAULT '[EOS]', model text DEFAULT NULL,
    model_repo text DEFAULT NULL, model_filename text DEFAULT NULL, size text DEFAULT NULL,
    unsafe_mode boolean DEFAULT false, thinking_mode boolean DEFAULT false, temperature double precision DEFAULT 0
) RETURNS text
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RETURN @extschema@.steadytext_generate(
        @extschema@.steadytext_prompt_render(slug, variables, version), max_tokens, use_cache, seed, eos_string, model,
        model_repo, model_filename, size, unsafe_mode, thinking_mode, temperature);
END
$$;
