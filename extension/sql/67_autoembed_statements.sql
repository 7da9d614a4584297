-- The SQL that a declaration means, written anew from the catalogue whenever it is needed: a renamed table or column is
-- followed by itself. Whatever an owner wrote (template, filter) runs by _steadytext_as_owner alone.

CREATE FUNCTION @extschema@._steadytext_relation_name(relation regclass) RETURNS text
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
BEGIN
    RETURN (
        SELECT format('%I.%I', n.nspname, c.relname)
        FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.oid = $1);
END
$$;

CREATE FUNCTION @extschema@._steadytext_column_names(relation regclass, numbers smallint[]) RETURNS text[]
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
BEGIN
    RETURN (
        SELECT ARRAY(SELECT a.attname::text FROM unnest($2) WITH ORDINALITY n (number, place)
                     JOIN pg_attribute a ON a.attrelid = $1 AND a.attnum = n.number AND NOT a.attisdropped ORDER BY n.place));
END
$$;

-- How a key column's value is written as text, whatever the session's DateStyle, and read again. The statement may run as
-- the extension's owner, and the column be of another type by then: so it is written by output functions alone. A cast
-- may be code of the table's owner, which the planner runs wherever it stands, and so may to_json(), which looks for one when it runs.
CREATE FUNCTION @extschema@._steadytext_key_written(kind oid, declared oid, value text) RETURNS text
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
BEGIN
    RETURN (
        SELECT CASE
            WHEN $1 IN ('date'::regtype, 'timestamp'::regtype, 'timestamptz'::regtype)
                THEN format($f$CASE WHEN pg_catalog.pg_typeof(%1$s) OPERATOR(pg_catalog.=) %2$L::pg_catalog.oid
                            THEN pg_catalog.to_json(%1$s) OPERATOR(pg_catalog.#>>) '{}' ELSE pg_catalog.concat(%1$s) END$f$, $3, $2)
            -- behind a row's number of columns, and the column's type and length
            WHEN $1 = 'bytea'::regtype THEN format($f$pg_catalog.substr(pg_catalog.encode(pg_catalog.record_send(ROW(%s)), 'hex'), 25)$f$, $3)
            WHEN $1 = 'bpchar'::regtype THEN format('pg_catalog.rtrim(pg_catalog.concat(%s))', $3)
            ELSE format('pg_catalog.concat(%s)', $3) END);
END
$$;

CREATE FUNCTION @extschema@._steadytext_key_read(kind oid, value text) RETURNS text
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
BEGIN
    RETURN (
        SELECT CASE WHEN $1 = 'bytea'::regtype THEN format($f$pg_catalog.decode(%s, 'hex')$f$, $2)
                    ELSE format('(%s)::%s', $2, format_type($1, -1)) END);  -- -1: character would be that of one
END
$$;

-- Which types a key may have: their text does not depend on settings, and is written by code of PostgreSQL's own.
CREATE FUNCTION @extschema@._steadytext_key_type(relation regclass, number smallint) RETURNS oid
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
BEGIN
    RETURN (
        WITH RECURSIVE base AS (
            SELECT t.oid, t.typtype, t.typbasetype FROM pg_attribute a JOIN pg_type t ON t.oid = a.atttypid
            WHERE a.attrelid = $1 AND a.attnum = $2
            UNION ALL
            SELECT t.oid, t.typtype, t.typbasetype FROM base b JOIN pg_type t ON t.oid = b.typbasetype WHERE b.typtype = 'd'
        )
        SELECT b.oid FROM base b WHERE b.typtype <> 'd' AND (b.typtype = 'e' OR b.oid IN (
            'int2'::regtype, 'int4'::regtype, 'int8'::regtype, 'numeric'::regtype, 'text'::regtype, 'varchar'::regtype,
            'bpchar'::regtype, 'name'::regtype, 'uuid'::regtype, 'date'::regtype, 'timestamp'::regtype, 'timestamptz'::regtype,
            'bytea'::regtype, 'bool'::regtype, 'oid'::regtype, 'inet'::regtype, 'cidr'::regtype, 'macaddr'::regtype)));
END
$$;

-- A row's key as one text: its column's, or a JSON array of them.
CREATE FUNCTION @extschema@._steadytext_key_text(relation regclass, numbers smallint[], alias text) RETURNS text
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
BEGIN
    RETURN (
        SELECT CASE cardinality($2) WHEN 1 THEN min(written.value)
            ELSE format('pg_catalog.json_build_array(%s)::pg_catalog.text', string_agg(written.value, ', ' ORDER BY written.place)) END
        FROM (SELECT n.place, @extschema@._steadytext_key_written(
                         @extschema@._steadytext_key_type($1, n.number), a.atttypid, format('%s.%I', $3, a.attname)) AS value
              FROM unnest($2) WITH ORDINALITY n (number, place)
              JOIN pg_attribute a ON a.attrelid = $1 AND a.attnum = n.number) written);
END
$$;

-- The key's columns out of such a text, with commas between.
CREATE FUNCTION @extschema@._steadytext_key_values(relation regclass, numbers smallint[], given text) RETURNS text
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
BEGIN
    RETURN (
        SELECT string_agg(@extschema@._steadytext_key_read(
                   @extschema@._steadytext_key_type($1, n.number),
                   CASE cardinality($2) WHEN 1 THEN $3
                       ELSE format('(%s::pg_catalog.json OPERATOR(pg_catalog.->>) %s)', $3, n.place - 1) END), ', ' ORDER BY n.place)
        FROM unnest($2) WITH ORDINALITY n (number, place));
END
$$;

CREATE FUNCTION @extschema@._steadytext_key_list(relation regclass, numbers smallint[], alias text) RETURNS text
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
BEGIN
    RETURN (
        SELECT string_agg(format('%s.%I', $3, name), ', ' ORDER BY place)
        FROM unnest(@extschema@._steadytext_column_names($1, $2)) WITH ORDINALITY c (name, place));
END
$$;

-- A template's parts, texts and columns by turns. {{ and }} stand for braces.
CREATE FUNCTION @extschema@._steadytext_template_parts(template text)
RETURNS TABLE (place bigint, words text, column_name text)
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT m.place,
           CASE WHEN m.part[1] IN ('{{', '}}') THEN left(m.part[1], 1) WHEN m.part[1] LIKE '{%' THEN NULL ELSE m.part[1] END,
           CASE WHEN m.part[1] LIKE '{%' AND m.part[1] <> '{{' THEN btrim(m.part[1], '{}') END
    FROM regexp_matches($1, '([{][{]|[}][}]|[{][^{}]+[}]|[^{}]+|[{}])', 'g') WITH ORDINALITY m (part, place)
$$;

-- The text to embed, as an expression over the table's own columns. Template columns are kept by place in `columns`.
CREATE FUNCTION @extschema@._steadytext_source_expression(d @extschema@.steadytext_autoembeddings) RETURNS text
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_variable
DECLARE
    source constant text := @extschema@._steadytext_relation_name(d.relation);
    names constant text[] := @extschema@._steadytext_column_names(d.relation, d.columns);
    part record;
    seen integer := 0;
    parts text[] := '{}'::text[];
BEGIN
    IF d.template IS NULL THEN
        RETURN (SELECT format($f$pg_catalog.concat_ws(pg_catalog.chr(10), %s)$f$, string_agg(format('%s.%I', source, name), ', ' ORDER BY place))
                FROM unnest(names) WITH ORDINALITY n (name, place));
    END IF;
    FOR part IN SELECT t.words, t.column_name FROM @extschema@._steadytext_template_parts(d.template) t ORDER BY t.place LOOP
        IF part.column_name IS NULL THEN
            parts := parts || quote_literal(part.words);
        ELSE
            seen := seen + 1;
            parts := parts || format('%s.%I', source, names[seen]);
        END IF;
    END LOOP;
    RETURN format('CASE WHEN pg_catalog.concat(%s) OPERATOR(pg_catalog.~) %L THEN pg_catalog.concat(%s) END',
        (SELECT string_agg(format('%s.%I', source, name), ', ' ORDER BY place) FROM unnest(names) WITH ORDINALITY n (name, place)),
        '[^[:space:]]', array_to_string(parts, ', '));
END
$$;

-- The text to embed, or null where the filter does not hold or nothing is to be seen.
CREATE FUNCTION @extschema@._steadytext_words(d @extschema@.steadytext_autoembeddings) RETURNS text
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_variable
BEGIN
    RETURN format($f$(SELECT CASE WHEN s.words OPERATOR(pg_catalog.~) '[^[:space:]]' THEN s.words END
        FROM (SELECT CASE WHEN (%s
            ) THEN %s END) AS s (words))$f$, coalesce(d.filter, 'true'), @extschema@._steadytext_source_expression(d));
END
$$;

-- The texts of the keys in $1: a row for each that exists.
CREATE FUNCTION @extschema@._steadytext_read_statement(d @extschema@.steadytext_autoembeddings) RETURNS text
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_variable
DECLARE
    source constant text := @extschema@._steadytext_relation_name(d.relation);
BEGIN
    RETURN format($f$
        SELECT steadytext_g.steadytext_key AS key, %s AS value, NULL::pg_catalog.text AS note
        FROM pg_catalog.unnest($1) AS steadytext_g (steadytext_key) JOIN %s ON (%s) = (%s)$f$,
        @extschema@._steadytext_words(d), source, @extschema@._steadytext_key_list(d.relation, d.key_columns, source),
        @extschema@._steadytext_key_values(d.relation, d.key_columns, 'steadytext_g.steadytext_key'));
END
$$;

-- Those of the keys in $1 whose rows exist.
CREATE FUNCTION @extschema@._steadytext_exists_statement(d @extschema@.steadytext_autoembeddings) RETURNS text
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_variable
DECLARE
    source constant text := @extschema@._steadytext_relation_name(d.relation);
BEGIN
    RETURN format($f$
        SELECT steadytext_g.steadytext_key AS key, NULL::pg_catalog.text AS value, NULL::pg_catalog.text AS note
        FROM pg_catalog.unnest($1) AS steadytext_g (steadytext_key) JOIN %s ON (%s) = (%s)$f$,
        source, @extschema@._steadytext_key_list(d.relation, d.key_columns, source),
        @extschema@._steadytext_key_values(d.relation, d.key_columns, 'steadytext_g.steadytext_key'));
END
$$;

-- The same for chunks: in $3 each key has a JSON array of its chunks' texts (t) and vectors (v), or null.
CREATE FUNCTION @extschema@._steadytext_write_chunks_statement(d @extschema@.steadytext_autoembeddings) RETURNS text
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_variable
DECLARE
    source constant text := @extschema@._steadytext_relation_name(d.relation);
    chunks constant text := @extschema@._steadytext_relation_name(d.chunk_table);
    names constant text := (SELECT string_agg(quote_ident(n), ', ' ORDER BY place)
                            FROM unnest(@extschema@._steadytext_chunk_keys(d)) WITH ORDINALITY u (n, place));
BEGIN
    RETURN format($f$
        WITH steadytext_g AS (
            SELECT * FROM ROWS FROM (pg_catalog.unnest($1), pg_catalog.unnest($2), pg_catalog.unnest($3))
                AS g (steadytext_key, steadytext_digest, steadytext_chunks)
        ), steadytext_l AS MATERIALIZED (
            SELECT l.*, pg_catalog.encode(pg_catalog.sha256(pg_catalog.convert_to(%7$s, 'UTF8')), 'hex') AS steadytext_now
            FROM steadytext_g AS l JOIN %1$s ON (%2$s) = (%3$s) FOR NO KEY UPDATE OF %4$I SKIP LOCKED
        ), steadytext_w AS MATERIALIZED (
            SELECT l.* FROM steadytext_l AS l WHERE l.steadytext_now IS NOT DISTINCT FROM l.steadytext_digest
        ), steadytext_d AS (
            DELETE FROM %5$s AS c USING steadytext_w AS l
            WHERE (%8$s) = (%3$s) AND c.chunk > COALESCE(pg_catalog.json_array_length(l.steadytext_chunks::pg_catalog.json), 0)
        ), steadytext_i AS (
            INSERT INTO %5$s (%9$s, chunk, content, embedding)
            SELECT %3$s, e.place, e.part OPERATOR(pg_catalog.->>) 't', (e.part OPERATOR(pg_catalog.->>) 'v')::%6$s.vector
            FROM steadytext_w AS l, pg_catalog.json_array_elements(l.steadytext_chunks::pg_catalog.json) WITH ORDINALITY AS e (part, place)
            ON CONFLICT (%9$s, chunk) DO UPDATE SET content = excluded.content, embedding = excluded.embedding
        )
        SELECT w.steadytext_key AS key, NULL::pg_catalog.text AS value, 'written' AS note FROM steadytext_w AS w
        UNION ALL
        SELECT l.steadytext_key, NULL, 'locked' FROM steadytext_g AS l JOIN %1$s ON (%2$s) = (%3$s)
        WHERE NOT EXISTS (SELECT FROM steadytext_l AS had WHERE had.steadytext_key = l.steadytext_key)$f$,
        source, @extschema@._steadytext_key_list(d.relation, d.key_columns, source),
        @extschema@._steadytext_key_values(d.relation, d.key_columns, 'l.steadytext_key'),
        (SELECT c.relname FROM pg_class c WHERE c.oid = d.relation), chunks, @extschema@._steadytext_vector_schema(),
        @extschema@._steadytext_words(d),
        (SELECT string_agg(format('c.%I', n), ', ' ORDER BY place) FROM unnest(@extschema@._steadytext_chunk_keys(d)) WITH ORDINALITY u (n, place)),
        names);
END
$$;

-- What stands before and behind the condition for chunks that are of the keys in $1 and have no row.
CREATE FUNCTION @extschema@._steadytext_orphans_statement(d @extschema@.steadytext_autoembeddings, before text, behind text) RETURNS text
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_variable
DECLARE
    source constant text := @extschema@._steadytext_relation_name(d.relation);
    keys constant text := (SELECT string_agg(format('c.%I', n), ', ' ORDER BY place)
                           FROM unnest(@extschema@._steadytext_chunk_keys(d)) WITH ORDINALITY u (n, place));
BEGIN
    RETURN format('%s pg_catalog.unnest($1) AS l (steadytext_key) WHERE (%s) = (%s) AND NOT EXISTS (SELECT FROM %s WHERE (%s) = (%s)) %s',
        replace(before, '{chunks}', @extschema@._steadytext_relation_name(d.chunk_table)), keys,
        @extschema@._steadytext_key_values(d.relation, d.key_columns, 'l.steadytext_key'), source,
        @extschema@._steadytext_key_list(d.relation, d.key_columns, source), keys, behind);
END
$$;

-- The columns of the chunk table that refer to the row: those of its foreign key, in the order of the primary key.
CREATE FUNCTION @extschema@._steadytext_chunk_keys(d @extschema@.steadytext_autoembeddings) RETURNS text[]
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RETURN (SELECT @extschema@._steadytext_column_names(d.chunk_table, ARRAY(
                SELECT f.number FROM unnest(d.key_columns) WITH ORDINALITY k (number, place)
                JOIN unnest(c.conkey, c.confkey) f (number, referenced) ON f.referenced = k.number ORDER BY k.place))
            FROM pg_constraint c WHERE c.conrelid = d.chunk_table AND c.contype = 'f' AND c.confrelid = d.relation LIMIT 1);
END
$$;

-- A table's rows that have no vector or no chunk yet.
CREATE FUNCTION @extschema@._steadytext_missing_condition(d @extschema@.steadytext_autoembeddings, source text) RETURNS text
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF d.chunk_table IS NULL THEN
        RETURN format('%s.%I IS NULL', source, (@extschema@._steadytext_column_names(d.relation, ARRAY[d.destination_column]))[1]);
    END IF;
    RETURN format('NOT EXISTS (SELECT FROM %s AS c WHERE (%s) OPERATOR(pg_catalog.=) (%s))', @extschema@._steadytext_relation_name(d.chunk_table),
        (SELECT string_agg(format('c.%I', n), ', ' ORDER BY place) FROM unnest(@extschema@._steadytext_chunk_keys(d)) WITH ORDINALITY u (n, place)),
        @extschema@._steadytext_key_list(d.relation, d.key_columns, source));
END
$$;

-- Write the vectors in $3 for the keys in $1 whose text still has the digest in $2. Rows that somebody else has locked
-- are left alone, and named 'locked'; 'written' ones were written; the others have changed, or are gone.
CREATE FUNCTION @extschema@._steadytext_write_statement(d @extschema@.steadytext_autoembeddings) RETURNS text
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_variable
DECLARE
    source constant text := @extschema@._steadytext_relation_name(d.relation);
    keys constant text := @extschema@._steadytext_key_list(d.relation, d.key_columns, source);
    given constant text := @extschema@._steadytext_key_values(d.relation, d.key_columns, 'l.steadytext_key');
BEGIN
    RETURN format($f$
        WITH steadytext_g AS (
            SELECT * FROM ROWS FROM (pg_catalog.unnest($1), pg_catalog.unnest($2), pg_catalog.unnest($3))
                AS g (steadytext_key, steadytext_digest, steadytext_vector)
        ), steadytext_l AS MATERIALIZED (
            SELECT l.* FROM steadytext_g AS l JOIN %1$s ON (%2$s) = (%3$s) FOR NO KEY UPDATE OF %4$I SKIP LOCKED
        ), steadytext_w AS (
            UPDATE %1$s SET %5$I = l.steadytext_vector::%6$s.vector FROM steadytext_l AS l
            WHERE (%2$s) = (%3$s) AND (%1$s.%5$I IS NOT NULL OR l.steadytext_vector IS NOT NULL)
              AND pg_catalog.encode(pg_catalog.sha256(pg_catalog.convert_to(%7$s, 'UTF8')), 'hex')
                  IS NOT DISTINCT FROM l.steadytext_digest
            RETURNING l.steadytext_key
        )
        SELECT w.steadytext_key AS key, NULL::pg_catalog.text AS value, 'written' AS note FROM steadytext_w AS w
        UNION ALL
        SELECT l.steadytext_key, NULL, 'locked' FROM steadytext_g AS l JOIN %1$s ON (%2$s) = (%3$s)
        WHERE NOT EXISTS (SELECT FROM steadytext_l AS had WHERE had.steadytext_key = l.steadytext_key)$f$,
        source, keys, given, (SELECT c.relname FROM pg_class c WHERE c.oid = d.relation),
        (@extschema@._steadytext_column_names(d.relation, ARRAY[d.destination_column]))[1],
        @extschema@._steadytext_vector_schema(), @extschema@._steadytext_words(d));
END
$$;

-- How many rows a backfill from the beginning is to visit.
CREATE FUNCTION @extschema@._steadytext_scan_count_statement(d @extschema@.steadytext_autoembeddings) RETURNS text
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_variable
DECLARE
    source constant text := @extschema@._steadytext_relation_name(d.relation);
BEGIN
    RETURN format('SELECT pg_catalog.count(*)::pg_catalog.text AS key, NULL::pg_catalog.text AS value, NULL::pg_catalog.text AS note FROM %s WHERE %s',
        source, CASE WHEN d.backfill_missing THEN @extschema@._steadytext_missing_condition(d, source) ELSE 'true' END);
END
$$;

-- Keys in their order, after the one in $1 if there is one.
CREATE FUNCTION @extschema@._steadytext_scan_statement(d @extschema@.steadytext_autoembeddings, most integer) RETURNS text
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_variable
DECLARE
    source constant text := @extschema@._steadytext_relation_name(d.relation);
    keys constant text := @extschema@._steadytext_key_list(d.relation, d.key_columns, source);
BEGIN
    RETURN format('SELECT %s AS key, NULL::pg_catalog.text AS value, NULL::pg_catalog.text AS note FROM %s %s ORDER BY %s LIMIT %s',
        @extschema@._steadytext_key_text(d.relation, d.key_columns, source), source,
        'WHERE true' || CASE WHEN d.backfill_cursor IS NOT NULL THEN format(' AND (%s) > (%s)', keys,
            @extschema@._steadytext_key_values(d.relation, d.key_columns, '($1)[1]')) ELSE '' END
            || CASE WHEN d.backfill_missing THEN ' AND ' || @extschema@._steadytext_missing_condition(d, source) ELSE '' END, keys, most);
END
$$;
