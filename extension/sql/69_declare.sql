-- Declaring that a table is to be embedded: steadytext_autoembed('articles', 'body').

-- The declaration of a table that the caller means. Only the table's owner, and administrators, change it.
CREATE FUNCTION @extschema@._steadytext_autoembed_find(relation regclass, destination text, to_change boolean)
RETURNS @extschema@.steadytext_autoembeddings
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_variable
DECLARE
    found @extschema@.steadytext_autoembeddings;
    others integer;
BEGIN
    IF relation IS NULL THEN
        PERFORM @extschema@._steadytext_raise('22004', 'relation cannot be null');
    END IF;
    SELECT count(*) INTO others FROM @extschema@.steadytext_autoembeddings d
    WHERE d.relation = relation AND CASE WHEN destination IS NULL THEN d.replaces IS NULL ELSE d.destination = destination END;
    IF others = 0 THEN
        PERFORM @extschema@._steadytext_raise('P0002', format('table %s has no automatic embedding%s', relation,
            coalesce(' into "' || left(destination, 100) || '"', '')), 'Declare one with steadytext_autoembed().');
    ELSIF others > 1 THEN
        PERFORM @extschema@._steadytext_raise('22023', format('table %s has %s automatic embeddings', relation, others),
            'Name the one you mean by its destination.');
    END IF;
    SELECT d.* INTO found FROM @extschema@.steadytext_autoembeddings d
    WHERE d.relation = relation AND CASE WHEN destination IS NULL THEN d.replaces IS NULL ELSE d.destination = destination END;
    IF to_change THEN
        PERFORM @extschema@._steadytext_check_owner(relation);
        IF found.replaces IS NOT NULL THEN
            PERFORM @extschema@._steadytext_raise('55000', format('"%s" of table %s is being filled with vectors of another model', destination, relation),
                'What is changed is the declaration that it is to replace; steadytext_autoembed_reembed_cancel() gives it up.');
        END IF;
        PERFORM @extschema@._steadytext_builder_gives_way(relation);
        SELECT d.* INTO found FROM @extschema@.steadytext_autoembeddings d WHERE d.id = found.id FOR NO KEY UPDATE;
        IF found.id IS NULL THEN  -- while its lock was waited for, another model's came in its place, or it was dropped
            RETURN @extschema@._steadytext_autoembed_find(relation, destination, to_change);
        END IF;
    END IF;
    RETURN found;
END
$$;

CREATE FUNCTION @extschema@._steadytext_relation_owner(relation regclass) RETURNS oid
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
BEGIN
    RETURN (
        SELECT c.relowner FROM pg_class c WHERE c.oid = $1);
END
$$;

CREATE FUNCTION @extschema@._steadytext_check_owner(relation regclass) RETURNS void
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_variable
BEGIN
    IF NOT pg_has_role(@extschema@._steadytext_caller(), @extschema@._steadytext_relation_owner(relation), 'USAGE') THEN
        PERFORM @extschema@._steadytext_raise('42501', format('must be owner of table %s', relation));
    END IF;
END
$$;

-- Whoever builds indexes of a table holds this lock alone; whoever changes its declarations shares it.
CREATE FUNCTION @extschema@._steadytext_builder_key(relation regclass) RETURNS bigint
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RETURN hashtextextended('pg_steadytext index', relation::oid::bigint);
END
$$;

-- Keep workers from building indexes of the table until this transaction ends, and stop the one that does: building beside
-- writers waits for all who have looked at the database before, and these would wait for its lock. Anybody can hold such a lock.
CREATE FUNCTION @extschema@._steadytext_builder_gives_way(relation regclass) RETURNS void
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_variable
DECLARE
    key constant bigint := @extschema@._steadytext_builder_key(relation);
    give_up constant timestamptz := clock_timestamp() + interval '10 s';
BEGIN
    WHILE NOT pg_try_advisory_xact_lock_shared(key) LOOP
        IF clock_timestamp() > give_up THEN
            PERFORM @extschema@._steadytext_raise('55P03', format('another session keeps the declarations of table %s locked', relation),
                'pg_locks shows who holds the advisory lock ' || key);
        END IF;
        PERFORM pg_cancel_backend(l.pid) FROM pg_locks l JOIN pg_database d ON d.oid = l.database
        WHERE d.datname = current_database() AND l.locktype = 'advisory' AND l.mode = 'ExclusiveLock' AND l.granted
          AND l.objsubid = 1 AND (l.classid::bigint << 32) | l.objid::bigint = key;
        PERFORM pg_sleep(0.05);
    END LOOP;
END
$$;

-- The columns of the primary key, in its order.
CREATE FUNCTION @extschema@._steadytext_primary_key(relation regclass) RETURNS smallint[]
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_variable
DECLARE
    key smallint[];
    number smallint;
BEGIN
    SELECT c.conkey INTO key FROM pg_constraint c WHERE c.conrelid = relation AND c.contype = 'p';
    IF key IS NULL THEN
        PERFORM @extschema@._steadytext_raise('55000', format('table %s has no primary key', relation),
            'A row is found again by its primary key.');
    END IF;
    FOREACH number IN ARRAY key LOOP
        IF @extschema@._steadytext_key_type(relation, number) IS NULL THEN
            PERFORM @extschema@._steadytext_raise('0A000', format('column %s of the primary key of %s has type %s, by which rows cannot be found again',
                a.attname, relation, format_type(a.atttypid, NULL)), 'Keys of numbers, texts, UUIDs, times, enums and network addresses can be used.')
            FROM pg_attribute a WHERE a.attrelid = relation AND a.attnum = number;
        END IF;
    END LOOP;
    RETURN key;
END
$$;

CREATE FUNCTION @extschema@._steadytext_source_columns(relation regclass, names text[]) RETURNS smallint[]
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_variable
DECLARE
    name text;
    number smallint;
    numbers smallint[] := '{}'::smallint[];
BEGIN
    FOREACH name IN ARRAY names LOOP
        SELECT a.attnum INTO number FROM pg_attribute a
        WHERE a.attrelid = relation AND a.attname = name AND a.attnum > 0 AND NOT a.attisdropped;
        IF number IS NULL THEN
            PERFORM @extschema@._steadytext_raise('42703', format('table %s has no column "%s"', relation, left(name, 100)));
        END IF;
        numbers := numbers || number;
    END LOOP;
    RETURN numbers;
END
$$;

CREATE FUNCTION @extschema@._steadytext_check_chunking(chunking jsonb) RETURNS void
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF chunking IS NULL THEN
        RETURN;
    ELSIF jsonb_typeof(chunking) <> 'object' OR coalesce(chunking ->> 'by', '') NOT IN ('characters', 'tokens', 'sentences', 'markdown') THEN
        PERFORM @extschema@._steadytext_raise('22023', 'chunking must be an object whose "by" is characters, tokens, sentences or markdown',
            '{"by": "characters", "size": 1000, "overlap": 200}');
    ELSIF EXISTS (SELECT FROM jsonb_object_keys(chunking) k WHERE k NOT IN ('by', 'size', 'overlap')) THEN
        PERFORM @extschema@._steadytext_raise('22023', 'chunking may hold by, size and overlap');
    ELSIF coalesce(chunking ->> 'size', '1') !~ '^[1-9][0-9]{0,6}$' OR coalesce(chunking ->> 'overlap', '0') !~ '^[0-9]{1,7}$'
          OR (chunking ->> 'overlap')::integer >= coalesce((chunking ->> 'size')::integer, CASE chunking ->> 'by' WHEN 'tokens' THEN 200 ELSE 1000 END) THEN
        PERFORM @extschema@._steadytext_raise('22023', 'chunking''s size must be a whole number, and its overlap smaller');
    END IF;
END
$$;

-- Dimensions of a model's vectors: known, or seen on one.
CREATE FUNCTION @extschema@._steadytext_model_dimensions(chosen @extschema@.steadytext_models) RETURNS integer
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RETURN coalesce(chosen.dimensions, json_array_length((@extschema@._steadytext_request('embed_batch', jsonb_build_object(
        'model', chosen.name, 'unsafe_mode', chosen.remote, 'texts', ARRAY['dimensions'])) #>> '{embeddings,0}')::json));
END
$$;

CREATE FUNCTION @extschema@._steadytext_check_table(relation regclass) RETURNS void
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_variable
DECLARE
    known record;
BEGIN
    SELECT c.relkind, c.relpersistence, n.nspname INTO known
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.oid = relation;
    IF known.relkind NOT IN ('r', 'p') OR known.relpersistence = 't' OR known.nspname IN ('pg_catalog', 'information_schema') THEN
        PERFORM @extschema@._steadytext_raise('42809', format('%s is not a table that can be embedded', relation),
            'It must be an ordinary or partitioned table, and not a temporary one.');
    END IF;
    PERFORM @extschema@._steadytext_check_owner(relation);
    PERFORM @extschema@._steadytext_builder_gives_way(relation);
END
$$;

-- Why what the owner wrote is no expression of the right type; null where it is. It is run for no row.
CREATE FUNCTION @extschema@._steadytext_expressions_refusal(d @extschema@.steadytext_autoembeddings) RETURNS text
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_variable
DECLARE
    until constant timestamptz := @extschema@._steadytext_owner_until();  -- what is immutable is run by the planner
    refusal text;
BEGIN
    PERFORM @extschema@._steadytext_as_owner_of(d.relation, @extschema@._steadytext_read_statement(d), '{}', until => until);
    -- an aggregate is an expression, but no condition
    PERFORM @extschema@._steadytext_as_owner_of(d.relation, format(
        E'SELECT NULL::text AS key, NULL::text AS value, NULL::text AS note FROM %s WHERE (%s\n) LIMIT 0',
        @extschema@._steadytext_relation_name(d.relation), coalesce(d.filter, 'true')), until => until);
    RETURN NULL;
EXCEPTION WHEN syntax_error_or_access_rule_violation OR data_exception OR SQLSTATE 'ST002' THEN
    GET STACKED DIAGNOSTICS refusal = MESSAGE_TEXT;
    RETURN refusal;
END
$$;

CREATE FUNCTION @extschema@._steadytext_check_expressions(d @extschema@.steadytext_autoembeddings) RETURNS void
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    refusal constant text := @extschema@._steadytext_expressions_refusal(d);
BEGIN
    IF refusal IS NOT NULL THEN
        PERFORM @extschema@._steadytext_raise('22023', format('filter or columns of table %s cannot be used: %s', d.relation, refusal),
            'The filter is a condition as after WHERE; names are looked up in the table''s schema and in public.');
    END IF;
END
$$;

-- Whether an index of that kind has these parameters, with values that pgvector takes.
CREATE FUNCTION @extschema@._steadytext_fits_index(index text, params jsonb) RETURNS boolean
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RETURN NOT EXISTS (
            SELECT FROM jsonb_each_text(params) p (name, value)
            LEFT JOIN (VALUES ('hnsw', 'm', 2, 100), ('hnsw', 'ef_construction', 4, 1000), ('ivfflat', 'lists', 1, 32768)) k (kind, name, least, most)
                ON k.name = p.name AND k.kind = index
            WHERE coalesce(CASE WHEN p.value ~ '^[0-9]{1,6}$' THEN p.value::integer END NOT BETWEEN k.least AND k.most, true))
        AND (index <> 'hnsw' OR coalesce((params ->> 'ef_construction')::integer, 64) >= 2 * coalesce((params ->> 'm')::integer, 16));
END
$$;

CREATE FUNCTION @extschema@._steadytext_autoembed_check(
    relation regclass, columns text[], template text, filter text, index text, index_params jsonb, mode text, backfill boolean, language text,
    unsafe_mode boolean
) RETURNS void
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_variable
BEGIN
    IF num_nulls(relation, index, index_params, mode, backfill, language, unsafe_mode) > 0 THEN
        PERFORM @extschema@._steadytext_raise('22004', 'relation, index, index_params, mode, backfill, language and unsafe_mode cannot be null');
    ELSIF (columns IS NULL) = (template IS NULL) THEN
        PERFORM @extschema@._steadytext_raise('22023', 'either columns or a template must be given',
            'steadytext_autoembed(''articles'', ''body''), or template => ''{title}: {body}''.');
    ELSIF cardinality(columns) = 0 OR array_position(columns, NULL) IS NOT NULL THEN
        PERFORM @extschema@._steadytext_raise('22023', 'columns must name at least one column, and no null');
    ELSIF EXISTS (SELECT FROM regexp_matches(template, '([{][{]|[}][}]|[{][^{}]+[}]|[^{}]+|[{}])', 'g') m (part) WHERE m.part[1] IN ('{', '}')) THEN
        PERFORM @extschema@._steadytext_raise('22023', 'template has a brace without its partner', '{{ and }} stand for braces.');
    ELSIF template IS NOT NULL AND NOT EXISTS (
        SELECT FROM @extschema@._steadytext_template_parts(template) t WHERE t.column_name IS NOT NULL) THEN
        PERFORM @extschema@._steadytext_raise('22023', 'template must name at least one column in braces, as in ''{title}: {body}''');
    ELSIF filter !~ '[^[:space:]]' THEN
        PERFORM @extschema@._steadytext_raise('22023', 'filter cannot be empty');
    ELSIF index NOT IN ('hnsw', 'ivfflat', 'none') THEN
        PERFORM @extschema@._steadytext_raise('22023', format('index must be hnsw, ivfflat or none, not "%s"', left(index, 100)));
    ELSIF jsonb_typeof(index_params) <> 'object' OR NOT @extschema@._steadytext_fits_index(index, index_params) THEN
        PERFORM @extschema@._steadytext_raise('22023', 'index_params may hold m (2 to 100) and ef_construction (4 to 1000, at least 2 * m) for hnsw, '
            'or lists (1 to 32768) for ivfflat');
    ELSIF mode NOT IN ('auto', 'manual') THEN
        PERFORM @extschema@._steadytext_raise('22023', format('mode must be auto or manual, not "%s"', left(mode, 100)));
    ELSIF NOT EXISTS (SELECT FROM pg_ts_config c JOIN pg_namespace n ON n.oid = c.cfgnamespace
                      WHERE n.nspname = 'pg_catalog' AND c.cfgname = language) THEN
        PERFORM @extschema@._steadytext_raise('22023', format('there is no text search configuration "%s"', left(language, 100)),
            'pg_ts_config lists them; ''simple'' suits any language.');
    END IF;
    PERFORM @extschema@._steadytext_check_table(relation);
END
$$;

-- Declare that a table's rows are to be embedded: check what the owner wrote, put the triggers on, begin the backfill.
CREATE FUNCTION @extschema@.steadytext_autoembed(
    relation regclass, columns text[] DEFAULT NULL, template text DEFAULT NULL, filter text DEFAULT NULL,
    model text DEFAULT NULL, destination text DEFAULT NULL, chunking jsonb DEFAULT NULL, index text DEFAULT 'hnsw',
    index_params jsonb DEFAULT '{}', mode text DEFAULT 'auto', backfill boolean DEFAULT true,
    language text DEFAULT 'english', unsafe_mode boolean DEFAULT false
) RETURNS integer
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_variable
DECLARE
    chosen @extschema@.steadytext_models;
    d @extschema@.steadytext_autoembeddings;
BEGIN
    PERFORM @extschema@._steadytext_autoembed_check(relation, columns, template, filter, index, index_params, mode, backfill, language, unsafe_mode);
    chosen := @extschema@._steadytext_model_resolve('embedding', model, NULL, NULL, NULL, unsafe_mode);
    PERFORM @extschema@._steadytext_check_chunking(chunking);
    IF chunking IS NOT NULL AND mode = 'manual' THEN
        PERFORM @extschema@._steadytext_raise('0A000', 'texts are chunked by a worker: chunking and mode => ''manual'' exclude each other');
    END IF;
    destination := @extschema@._steadytext_destination_name(relation, destination, chunking IS NOT NULL);
    IF EXISTS (SELECT FROM @extschema@.steadytext_autoembeddings e WHERE e.relation = relation AND e.destination = destination) THEN
        PERFORM @extschema@._steadytext_raise('23505', format('table %s is embedded into "%s" already', relation, destination),
            'steadytext_autoembed_alter() changes a declaration, steadytext_autoembed_drop() drops it.');
    END IF;
    d.key_columns := @extschema@._steadytext_primary_key(relation);
    d.columns := @extschema@._steadytext_source_columns(relation, coalesce(columns, ARRAY(
        SELECT t.column_name FROM @extschema@._steadytext_template_parts(template) t WHERE t.column_name IS NOT NULL ORDER BY t.place)));
    d.dimensions := @extschema@._steadytext_model_dimensions(chosen);
    IF chunking IS NULL THEN
        d.destination_column := @extschema@._steadytext_destination_column(relation, destination, d.dimensions);
    ELSE
        d.chunk_table := @extschema@._steadytext_chunk_table(relation, d.key_columns, destination, d.dimensions);
        PERFORM @extschema@._steadytext_chunk_view(relation, d.key_columns, destination);
    END IF;
    INSERT INTO @extschema@.steadytext_autoembeddings AS e
        (relation, relation_name, key_columns, key_names, columns, column_names, template, filter, model_name, model_digest, dimensions, remote,
         chunking, language, destination, destination_column, chunk_table, index_kind, index_params, index_state, mode, declared_by, backfill_done)
    VALUES (relation, @extschema@._steadytext_relation_name(relation), d.key_columns,
            @extschema@._steadytext_column_names(relation, d.key_columns), d.columns,
            @extschema@._steadytext_column_names(relation, d.columns), template, filter, chosen.name, chosen.digest, d.dimensions,
            chosen.remote, chunking, language, destination, d.destination_column, d.chunk_table, index, index_params,
            CASE index WHEN 'none' THEN 'none' ELSE 'wanted' END, mode, @extschema@._steadytext_caller(), NOT backfill)
    RETURNING e.* INTO d;
    PERFORM @extschema@._steadytext_check_expressions(d);
    PERFORM @extschema@._steadytext_capture_write(d);
    PERFORM @extschema@._steadytext_capture_attach(d);
    PERFORM @extschema@._steadytext_autoembed_wake();
    RETURN d.id;
END
$$;

-- The same for one column: steadytext_autoembed('articles', 'body').
CREATE FUNCTION @extschema@.steadytext_autoembed(
    relation regclass, column_name text, filter text DEFAULT NULL, model text DEFAULT NULL,
    destination text DEFAULT NULL, chunking jsonb DEFAULT NULL, index text DEFAULT 'hnsw',
    index_params jsonb DEFAULT '{}', mode text DEFAULT 'auto', backfill boolean DEFAULT true,
    language text DEFAULT 'english', unsafe_mode boolean DEFAULT false
) RETURNS integer
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF column_name IS NULL THEN
        PERFORM @extschema@._steadytext_raise('22004', 'column_name cannot be null');
    END IF;
    RETURN @extschema@.steadytext_autoembed(relation, ARRAY[column_name], NULL, filter, model, destination, chunking, index,
                                            index_params, mode, backfill, language, unsafe_mode);
END
$$;
