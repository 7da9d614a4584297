-- Where an embedded table's vectors are kept: a column of its own, or a table of chunks with a view.

-- What is to hold the vectors: what was asked for, or a name that PostgreSQL need not cut. A view's is five bytes longer.
CREATE FUNCTION @extschema@._steadytext_destination_name(relation regclass, asked text, chunked boolean) RETURNS text
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_variable
DECLARE
    most constant integer := CASE WHEN chunked THEN 58 ELSE 63 END;
BEGIN
    IF asked = '' OR octet_length(asked) > most THEN
        PERFORM @extschema@._steadytext_raise('22023', format('destination must be a name of 1 to %s bytes', most));
    ELSIF asked IS NOT NULL OR NOT chunked THEN
        RETURN coalesce(asked, 'embedding');
    END IF;
    RETURN (SELECT left(c.relname, n) || '_chunks' FROM pg_class c, generate_series(length(c.relname), 0, -1) n
            WHERE c.oid = relation AND octet_length(left(c.relname, n)) <= most - 7 LIMIT 1);
END
$$;

-- Find or add the column that is to hold the vectors.
CREATE FUNCTION @extschema@._steadytext_destination_column(relation regclass, destination text, dimensions integer)
RETURNS smallint
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_variable
DECLARE
    wanted constant text := format('%s.vector(%s)', @extschema@._steadytext_vector_schema(), dimensions);
    found record;
BEGIN
    SELECT a.attnum, format_type(a.atttypid, a.atttypmod) AS kind,
           a.atttypid = wanted::regtype AND a.atttypmod IN (-1, dimensions) AS fits, a.attgenerated <> '' AS generated INTO found
    FROM pg_attribute a WHERE a.attrelid = relation AND a.attname = destination AND NOT a.attisdropped;
    IF found.attnum IS NULL THEN
        PERFORM @extschema@._steadytext_as_owner_of(relation,
            format('ALTER TABLE %s ADD COLUMN %I %s', @extschema@._steadytext_relation_name(relation), destination, wanted),
            NULL, NULL, NULL, '2s');  -- longer than a worker waits for the table, while what follows waits for the worker
        RETURN (SELECT a.attnum FROM pg_attribute a WHERE a.attrelid = relation AND a.attname = destination);
    ELSIF NOT found.fits OR found.generated THEN
        PERFORM @extschema@._steadytext_raise('42804', format('column "%s" of table %s has type %s, but the vectors are of type vector(%s)',
            destination, relation, found.kind, dimensions), 'Name another column as destination; one that is not there is added.');
    END IF;
    RETURN found.attnum;
END
$$;

-- The view that shows chunks with their rows.
CREATE FUNCTION @extschema@._steadytext_chunk_view(relation regclass, key_columns smallint[], destination text) RETURNS void
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_variable
BEGIN
    PERFORM @extschema@._steadytext_as_owner_of(relation, format(
        'CREATE VIEW %1$I.%2$I AS SELECT r.*, c.chunk AS chunk_number, c.content AS chunk_content, c.embedding AS chunk_embedding '
        'FROM %3$s AS r JOIN %1$I.%4$I AS c USING (%5$s)', n.nspname, destination || '_view',
        @extschema@._steadytext_relation_name(relation), destination,
        (SELECT string_agg(quote_ident(k), ', ' ORDER BY p)
         FROM unnest(@extschema@._steadytext_column_names(relation, key_columns)) WITH ORDINALITY u (k, p))))
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.oid = relation;
END
$$;

-- Make the table that holds a chunked text's parts.
CREATE FUNCTION @extschema@._steadytext_chunk_table(
    relation regclass, key_columns smallint[], destination text, dimensions integer
) RETURNS regclass
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_variable
DECLARE
    schema name;
    source constant text := @extschema@._steadytext_relation_name(relation);
    keys constant text[] := @extschema@._steadytext_column_names(relation, key_columns);
    names constant text := (SELECT string_agg(quote_ident(n), ', ' ORDER BY p) FROM unnest(keys) WITH ORDINALITY u (n, p));
BEGIN
    SELECT n.nspname INTO schema FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.oid = relation;
    IF to_regclass(format('%I.%I', schema, destination)) IS NOT NULL THEN
        PERFORM @extschema@._steadytext_raise('42P07', format('relation "%s" exists already', destination), 'Name another destination for the chunks.');
    ELSIF keys && ARRAY['chunk', 'content', 'embedding'] THEN
        PERFORM @extschema@._steadytext_raise('0A000', 'a key column is called chunk, content or embedding, as columns of the chunk table are');
    END IF;
    PERFORM @extschema@._steadytext_as_owner_of(relation, format(
        'CREATE %8$s TABLE %1$I.%2$I (%3$s, chunk integer NOT NULL, content text NOT NULL, embedding %4$s.vector(%5$s) NOT NULL, '
        'PRIMARY KEY (%6$s, chunk), FOREIGN KEY (%6$s) REFERENCES %7$s ON DELETE CASCADE ON UPDATE CASCADE)',
        schema, destination, (SELECT string_agg(format('%I %s NOT NULL', a.attname, format_type(a.atttypid, a.atttypmod)), ', ' ORDER BY n.place)
            FROM unnest(key_columns) WITH ORDINALITY n (number, place) JOIN pg_attribute a ON a.attrelid = relation AND a.attnum = n.number),
        @extschema@._steadytext_vector_schema(), dimensions, names, source,
        (SELECT CASE c.relpersistence WHEN 'u' THEN 'UNLOGGED' ELSE '' END FROM pg_class c WHERE c.oid = relation)), NULL, NULL, NULL, '2s');
    RETURN to_regclass(format('%I.%I', schema, destination));
END
$$;
