-- A chunk that was found, with its neighbours: as much of the text around it as a reader, or a model, wants.

-- How the row of a key, in $1 as text, is found in the search's source, and how its text was cut.
CREATE FUNCTION @extschema@._steadytext_context_plan(
    relation regclass, autoembed integer, key jsonb, OUT condition text, OUT key_text text, OUT chunking jsonb
) LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_variable
DECLARE
    d @extschema@.steadytext_autoembeddings;
    names text[];
BEGIN
    SELECT e.* INTO d FROM @extschema@.steadytext_autoembeddings e WHERE e.id = autoembed AND e.relation = relation;
    names := @extschema@._steadytext_column_names(relation, d.key_columns);
    IF key IS NULL OR jsonb_typeof(key) <> 'object' OR NOT key ?& names THEN
        PERFORM @extschema@._steadytext_raise('22023', format('key must be an object with the key''s columns: %s', array_to_string(names, ', ')),
            'As steadytext_search() returns it.');
    END IF;
    key_text := CASE cardinality(names) WHEN 1 THEN key ->> names[1]
        ELSE (SELECT json_agg(key ->> n ORDER BY p)::text FROM unnest(names) WITH ORDINALITY u (n, p)) END;
    condition := format('(%s) = (%s)',
        CASE WHEN d.chunk_table IS NULL
             THEN @extschema@._steadytext_key_list(relation, d.key_columns, @extschema@._steadytext_relation_name(relation))
             ELSE (SELECT string_agg(format('steadytext_c.steadytext_key_%s', p), ', ' ORDER BY p) FROM generate_subscripts(d.key_columns, 1) p) END,
        @extschema@._steadytext_key_values(relation, d.key_columns,
            CASE WHEN cardinality(names) = 1 AND @extschema@._steadytext_key_type(relation, d.key_columns[1]) = 'bytea'::regtype
                 THEN 'substr($1, 3)' ELSE '$1' END));
    chunking := d.chunking;
END
$$;

-- Texts of chunks that follow each other, joined: what each repeats of the one before stands there once.
CREATE FUNCTION @extschema@._steadytext_chunks_joined(parts text[], chunking jsonb) RETURNS text
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_variable
DECLARE
    most constant integer := coalesce((chunking ->> 'overlap')::integer, 0) * CASE chunking ->> 'by' WHEN 'tokens' THEN 16 ELSE 1 END;
    between constant text := CASE chunking ->> 'by' WHEN 'characters' THEN '' WHEN 'markdown' THEN E'\n\n' ELSE ' ' END;
    joined text;
    part text;
    shared integer;
BEGIN
    FOREACH part IN ARRAY parts LOOP
        shared := least(most, length(part), length(joined));
        WHILE shared > 0 AND right(joined, shared) <> left(part, shared) LOOP
            shared := shared - 1;
        END LOOP;
        joined := CASE WHEN joined IS NULL THEN part WHEN shared > 0 THEN joined || substr(part, shared + 1)
                       ELSE joined || between || part END;
    END LOOP;
    RETURN joined;
END
$$;

-- SELECT steadytext_search_context('manuals', s.key, s.chunk, 2) FROM steadytext_search('manuals', 'valve') s
-- With the caller's own rights, as the search. A row that is not cut into chunks is its own context.
CREATE FUNCTION @extschema@.steadytext_search_context(
    relation regclass, key jsonb, chunk integer, neighbours integer DEFAULT 1, destination text DEFAULT NULL
) RETURNS text
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_variable
DECLARE
    plan constant jsonb := (SELECT to_jsonb(p) FROM @extschema@._steadytext_search_plan(relation, destination) p);
    found record;
    parts text[];
    there boolean;
BEGIN
    SELECT c.* INTO found FROM @extschema@._steadytext_context_plan(relation, (plan ->> 'autoembed')::integer, key) c;
    PERFORM @extschema@._steadytext_search_context_check(chunk, neighbours, found.chunking IS NOT NULL);
    IF found.chunking IS NULL THEN
        EXECUTE format('SELECT %s, true FROM %s WHERE %s', 'ARRAY[' || (plan ->> 'words') || ']', plan ->> 'source', found.condition)
        INTO parts, there USING found.key_text;
    ELSE
        EXECUTE format('SELECT array_agg(%1$s ORDER BY %2$s), bool_or(%2$s = $2) FROM %3$s WHERE %4$s AND %2$s BETWEEN $2 - $3 AND $2 + $3',
            plan ->> 'words', plan ->> 'chunk', plan ->> 'source', found.condition)
        INTO parts, there USING found.key_text, chunk, neighbours;
    END IF;
    RETURN CASE WHEN there THEN @extschema@._steadytext_chunks_joined(parts, found.chunking) END;
END
$$;

CREATE FUNCTION @extschema@._steadytext_search_context_check(chunk integer, neighbours integer, chunked boolean) RETURNS void
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF neighbours IS NULL OR neighbours NOT BETWEEN 0 AND 100 THEN
        PERFORM @extschema@._steadytext_raise('22023', 'neighbours must be between 0 and 100');
    ELSIF chunk IS NULL AND chunked THEN
        PERFORM @extschema@._steadytext_raise('22004', 'chunk cannot be null: the table''s texts are cut into chunks');
    END IF;
END
$$;
