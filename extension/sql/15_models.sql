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
    ('qwen2.5-7b', '{}', 'generation', NULL, NULL, 32768, NULL, NULL),
    ('qwen3-reranker-4b', '{}', 'rerank', NULL, NULL, 8192, NULL, NULL),
    ('bge-reranker-mini', '{}', 'rerank', NULL, NULL, 512, NULL, NULL);

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
    PERFORM @extschema@._steadytext_audit('model_register', jsonb_build_object(
        'name', name, 'kind', kind, 'repo', repo, 'filename', filename, 'digest', digest, 'remote', remote));
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
            PERFORM @extschema@._steadytext_raise('22023', CASE WHEN position(':' IN model) > 0
                THEN 'Remote models (containing '':'' ) require unsafe_mode=TRUE'
                ELSE format('model "%s" is remote and requires unsafe_mode=TRUE', left(coalesce(found.name, model), 100)) END,
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
