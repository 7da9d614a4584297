-- The prompt policy: patterns that a prompt may be warned about or refused for. It is off unless an administrator turns
-- it on, and a coarse filter then: it stops what is copied from a list, not who writes something of their own.

CREATE TABLE @extschema@.steadytext_prompt_patterns (
    name text PRIMARY KEY CHECK (name ~ '^[a-z0-9]([a-z0-9_-]{0,98}[a-z0-9])?$'),
    pattern text NOT NULL CHECK (pattern <> '' AND pg_catalog.length(pattern) <= 2000),
    description text,
    enabled boolean NOT NULL DEFAULT true,
    shipped boolean NOT NULL DEFAULT false,
    changed_at timestamptz,
    changed_by text
);

COMMENT ON COLUMN @extschema@.steadytext_prompt_patterns.pattern IS
    'A regular expression of PostgreSQL, matched without regard to case where each run of white space is one space';
COMMENT ON COLUMN @extschema@.steadytext_prompt_patterns.changed_at IS 'Null while a shipped pattern is as it came';

INSERT INTO @extschema@.steadytext_prompt_patterns (name, pattern, description, shipped) VALUES
    ('ignore-instructions',
     '\m(ignore|disregard|forget|override|bypass)\M.{0,40}\m(previous|prior|preceding|foregoing|earlier|above|your|system)\M.{0,40}\m(instructions?|prompts?|rules?|guidelines?|directions?|directives?)\M',
     'Tells the model to drop what it was told before', true),
    ('reveal-instructions',
     '\m(reveal|show|print|repeat|output|display|leak|disclose|tell me)\M.{0,40}\m(system|hidden|initial|original|secret|your)\M.{0,20}\m(prompts?|instructions)\M',
     'Asks for the instructions that the model was given', true),
    ('unrestricted-role',
     '\m(you are now|from now on you|pretend (to be|you are)|act as)\M.{0,80}\m(unrestricted|unfiltered|jailbroken|without (any )?(rules|restrictions|limits|filters)|no (rules|restrictions|limits|filters))\M',
     'Gives the model a role that nothing binds', true),
    ('jailbreak-name', '\m(do anything now|DAN mode|developer mode|jailbreak mode|god mode)\M',
     'Names of well-known jailbreaks', true),
    ('chat-template-mark',
     '<\|(im_start|im_end|system|user|assistant|eot_id|endoftext|start_header_id|end_header_id)\|>|\[/?INST\]|<</?SYS>>',
     'Marks by which chat templates tell who speaks', true);

SELECT pg_catalog.pg_extension_config_dump('@extschema@.steadytext_prompt_patterns', 'WHERE changed_at IS NOT NULL');

GRANT SELECT ON @extschema@.steadytext_prompt_patterns TO steadytext_admin;

-- A restored dump meets the patterns that CREATE EXTENSION has just written: those of the dump win.
CREATE FUNCTION @extschema@._steadytext_prompt_pattern_restore() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    DELETE FROM @extschema@.steadytext_prompt_patterns p WHERE p.name = NEW.name;
    RETURN NEW;
END
$$;

CREATE TRIGGER steadytext_prompt_pattern_restore BEFORE INSERT ON @extschema@.steadytext_prompt_patterns
    FOR EACH ROW EXECUTE FUNCTION @extschema@._steadytext_prompt_pattern_restore();

-- Add a pattern, or change one: a null pattern or description stays as it is.
CREATE FUNCTION @extschema@.steadytext_prompt_pattern_set(
    name text, pattern text DEFAULT NULL, description text DEFAULT NULL, enabled boolean DEFAULT true
) RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_variable
DECLARE
    before @extschema@.steadytext_prompt_patterns;
BEGIN
    IF num_nulls(name, enabled) > 0 THEN
        PERFORM @extschema@._steadytext_raise('22004', CASE WHEN name IS NULL THEN 'name' ELSE 'enabled' END || ' cannot be null');
    ELSIF name !~ '^[a-z0-9]([a-z0-9_-]{0,98}[a-z0-9])?$' THEN
        PERFORM @extschema@._steadytext_raise('22023', 'name must have 1 to 100 lower-case letters, digits, hyphens and underscores');
    ELSIF pattern = '' OR length(pattern) > 2000 THEN
        PERFORM @extschema@._steadytext_raise('22023', 'pattern must have 1 to 2000 characters');
    END IF;
    BEGIN
        PERFORM '' ~* pattern;
    EXCEPTION WHEN invalid_regular_expression THEN
        PERFORM @extschema@._steadytext_raise('22023', format('pattern cannot be read: %s', SQLERRM));
    END;
    SELECT p.* INTO before FROM @extschema@.steadytext_prompt_patterns p WHERE p.name = name FOR UPDATE;
    IF before.name IS NULL AND pattern IS NULL THEN
        PERFORM @extschema@._steadytext_raise('P0002', format('there is no pattern "%s"', name),
            'The patterns are the rows of steadytext_prompt_patterns.');
    ELSIF before.name IS NULL THEN
        INSERT INTO @extschema@.steadytext_prompt_patterns (name, pattern, description, enabled, changed_at, changed_by)
        VALUES (name, pattern, description, enabled, now(), @extschema@._steadytext_caller());
    ELSE
        UPDATE @extschema@.steadytext_prompt_patterns p
        SET pattern = coalesce(pattern, p.pattern), description = coalesce(description, p.description),
            enabled = enabled, changed_at = now(), changed_by = @extschema@._steadytext_caller()
        WHERE p.name = name;
    END IF;
    PERFORM @extschema@._steadytext_audit('prompt_pattern_set', jsonb_build_object(
        'name', name, 'from', before.pattern, 'to', coalesce(pattern, before.pattern), 'enabled', enabled));
END
$$;

-- Drop a pattern; false where there is none. A shipped one is disabled instead, since an update would bring it back.
CREATE FUNCTION @extschema@.steadytext_prompt_pattern_drop(name text) RETURNS boolean
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_variable
DECLARE
    gone @extschema@.steadytext_prompt_patterns;
BEGIN
    IF name IS NULL THEN
        PERFORM @extschema@._steadytext_raise('22004', 'name cannot be null');
    END IF;
    DELETE FROM @extschema@.steadytext_prompt_patterns p WHERE p.name = name RETURNING p.* INTO gone;
    IF gone.shipped THEN
        PERFORM @extschema@._steadytext_raise('22023', format('pattern "%s" is the extension''s and cannot be dropped', name),
            format('Turn it off with steadytext_prompt_pattern_set(%L, enabled => false).', name));
    ELSIF gone.name IS NULL THEN
        RETURN false;
    END IF;
    PERFORM @extschema@._steadytext_audit('prompt_pattern_drop', jsonb_build_object('name', name, 'from', gone.pattern));
    RETURN true;
END
$$;

-- A text as patterns see it: look-alikes of letters made one, characters without width gone, white space one space.
CREATE FUNCTION @extschema@._steadytext_policy_text(content text) RETURNS text
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF getdatabaseencoding() = 'UTF8' THEN
        content := normalize(translate(content, concat(chr(173), chr(8203), chr(8204), chr(8205), chr(8288), chr(65279)), ''), NFKC);
    END IF;
    RETURN regexp_replace(content, '[[:space:]]+', ' ', 'g');
END
$$;

-- Hold prompts to the policy: say nothing, warn and audit, or refuse. Every way to generate comes through here.
CREATE FUNCTION @extschema@._steadytext_policy_check(prompts text[]) RETURNS void
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    policy text;
    found record;
BEGIN
    SELECT s.prompt_policy INTO policy FROM @extschema@._steadytext_settings s;
    IF policy IS NULL THEN
        RETURN;
    END IF;
    FOR found IN
        SELECT t.content, array_agg(p.name ORDER BY p.name) AS names
        FROM unnest(prompts) WITH ORDINALITY t (content, place)
        JOIN @extschema@.steadytext_prompt_patterns p
            ON p.enabled AND @extschema@._steadytext_policy_text(t.content) ~* p.pattern
        GROUP BY t.place, t.content ORDER BY t.place
    LOOP
        IF policy = 'reject' THEN
            PERFORM @extschema@._steadytext_raise('42501', format('the prompt is refused: it matches pattern "%s"', found.names[1]),
                'prompt_policy is "reject"; steadytext_prompt_patterns tells an administrator what the pattern is.');
        END IF;
        RAISE WARNING USING MESSAGE = format('the prompt matches pattern "%s"', found.names[1]),
            HINT = 'prompt_policy is "warn": the prompt is answered, and this is audited.';
        IF @extschema@._steadytext_writable() THEN
            PERFORM @extschema@._steadytext_audit('prompt_warning', jsonb_build_object(
                'patterns', found.names, 'prompt', left(found.content, 200)));
        END IF;
    END LOOP;
END
$$;

-- The same for one text among others: what "reject" has against it, or null.
CREATE FUNCTION @extschema@._steadytext_policy_problem(content text) RETURNS jsonb
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    refusal text;
    advice text;
BEGIN
    PERFORM @extschema@._steadytext_policy_check(ARRAY[content]);
    RETURN NULL;
EXCEPTION
    WHEN insufficient_privilege THEN
        GET STACKED DIAGNOSTICS refusal = MESSAGE_TEXT, advice = PG_EXCEPTION_HINT;
        RETURN jsonb_build_object('code', '42501', 'error', refusal, 'hint', advice);
END
$$;

-- What the settings are kept by has learnt of the policy in this version.
UPDATE @extschema@.steadytext_config SET value = value WHERE false;
