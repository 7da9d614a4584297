-- Search over an embedded table, with the caller's own rights: row-level security, column privileges and the caller's
-- filter are PostgreSQL's business. Only the query's embedding is made on the caller's behalf.

-- Where a declaration's vectors and texts are found, in SQL.
CREATE FUNCTION @extschema@._steadytext_search_plan(
    relation regclass, destination text, OUT autoembed integer, OUT source text, OUT key text, OUT chunk text, OUT vector text,
    OUT words text, OUT document text, OUT language text, OUT vectors text, OUT dimensions integer, OUT large boolean,
    OUT waiting jsonb
) LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_variable
DECLARE
    d @extschema@.steadytext_autoembeddings;
    base text;
    row_key text;
BEGIN
    d := @extschema@._steadytext_autoembed_find(relation, destination, false);
    IF NOT has_any_column_privilege(@extschema@._steadytext_caller(), relation, 'SELECT') THEN
        PERFORM @extschema@._steadytext_raise('42501', format('permission denied for table %s', relation));
    END IF;
    -- Until the search is over, no other model's vectors come in the place of these. What may have come before is read anew;
    -- a transaction that sees an older state finds its vectors under the name that they have now.
    PERFORM @extschema@._steadytext_autoembed_hold(d.id);
    d := @extschema@._steadytext_autoembed_find(relation, destination, false);
    base := @extschema@._steadytext_relation_name(relation);
    autoembed := d.id;
    language := quote_literal(d.language) || '::pg_catalog.regconfig';
    vectors := @extschema@._steadytext_vector_schema();
    dimensions := d.dimensions;
    key := format('pg_catalog.jsonb_build_object(%s)', (
        SELECT string_agg(format(CASE WHEN a.atttypid < 16384 THEN '%1$L, %2$s.%1$I' ELSE '%1$L, %3$s' END, a.attname, base,
                                 @extschema@._steadytext_key_text(relation, ARRAY[a.attnum], base)), ', ' ORDER BY n.place)
        FROM unnest(d.key_columns) WITH ORDINALITY n (number, place)
        JOIN pg_attribute a ON a.attrelid = relation AND a.attnum = n.number AND NOT a.attisdropped));
    row_key := @extschema@._steadytext_key_text(relation, d.key_columns, base);
    IF d.chunk_table IS NOT NULL THEN
        -- A row that has changed, or has no chunk yet, is found by the words that it has now.
        waiting := jsonb_build_object('source', base, 'document', @extschema@._steadytext_document_expression(d),
            'words', @extschema@._steadytext_source_expression(d), 'key', CASE WHEN d.filter IS NOT NULL THEN row_key ELSE 'NULL::text' END,
            'condition', format('(%s EXISTS (SELECT FROM pg_catalog.unnest($4) AS g (k) WHERE (%s) OPERATOR(pg_catalog.=) (%s)))',
                CASE WHEN d.backfill_done THEN '' ELSE @extschema@._steadytext_missing_condition(d, base) || ' OR ' END,
                @extschema@._steadytext_key_list(relation, d.key_columns, base),
                @extschema@._steadytext_key_values(relation, d.key_columns, 'g.k')));
        source := format('(SELECT c.chunk AS steadytext_chunk, c.content AS steadytext_content, c.embedding AS steadytext_embedding, %s FROM %s AS c) '
                         'AS steadytext_c JOIN %s ON (%s) OPERATOR(pg_catalog.=) (%s)',
            (SELECT string_agg(format('c.%I AS steadytext_key_%s', u.n, u.p), ', ') FROM unnest(@extschema@._steadytext_chunk_keys(d)) WITH ORDINALITY u (n, p)),
            d.chunk_table, base,
            (SELECT string_agg(format('steadytext_c.steadytext_key_%s', p), ', ' ORDER BY p) FROM generate_subscripts(d.key_columns, 1) p),
            @extschema@._steadytext_key_list(relation, d.key_columns, base));
        chunk := 'steadytext_c.steadytext_chunk';
        vector := 'steadytext_c.steadytext_embedding';
        words := 'steadytext_c.steadytext_content';
        document := 'steadytext_c.steadytext_content';
        large := (SELECT c.reltuples > 10000 FROM pg_class c WHERE c.oid = d.chunk_table);
        RETURN;
    END IF;
    source := base;
    chunk := 'NULL::integer';
    vector := (SELECT i.identity FROM pg_attribute a, pg_identify_object('pg_class'::regclass, relation, a.attnum) i
               WHERE a.attrelid = relation AND a.attnum = d.destination_column AND NOT a.attisdropped);
    IF vector IS NULL THEN
        PERFORM @extschema@._steadytext_raise('55000', format('the automatic embedding of %s is broken: column "%s", which held the vectors, was dropped',
            relation, d.destination), 'Declare it anew.');
    END IF;
    words := @extschema@._steadytext_source_expression(d);
    document := @extschema@._steadytext_document_expression(d);
    IF d.filter IS NOT NULL THEN
        waiting := jsonb_build_object('source', base, 'document', document, 'words', words, 'key', row_key, 'condition', vector || ' IS NULL');
    END IF;
    large := (SELECT c.reltuples > 10000 OR c.relkind = 'p' FROM pg_class c WHERE c.oid = relation);
END
$$;

-- The text that keywords are looked for in: immutable where an index can hold it. What is no text is written by its output
-- function: a cast may be code of the table's owner, and whoever searches runs it.
CREATE FUNCTION @extschema@._steadytext_document_expression(d @extschema@.steadytext_autoembeddings) RETURNS text
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_variable
BEGIN
    RETURN (
        SELECT string_agg(DISTINCT format(CASE WHEN a.atttypid < 16384 THEN 'coalesce(%s.%I::pg_catalog.text, '''')' ELSE 'pg_catalog.concat(%s.%I)' END,
                                          @extschema@._steadytext_relation_name(d.relation), a.attname),
                          $q$ OPERATOR(pg_catalog.||) ' ' OPERATOR(pg_catalog.||) $q$)
        FROM pg_attribute a WHERE a.attrelid = d.relation AND a.attnum = ANY (d.columns) AND NOT a.attisdropped);
END
$$;

-- Whether policies may hide rows of a table from a role.
CREATE FUNCTION @extschema@._steadytext_rows_hidden(relation regclass, who name) RETURNS boolean
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_variable
BEGIN
    RETURN (SELECT c.relrowsecurity AND NOT (r.rolsuper OR r.rolbypassrls)
                   AND (c.relforcerowsecurity OR NOT pg_has_role(r.oid, c.relowner, 'USAGE'))
            FROM pg_class c, pg_roles r WHERE c.oid = relation AND r.rolname = who);
END
$$;

-- Keys of rows that wait to be embedded, or could not be; where there are very many, some of them. None where policies may
-- hide the rows from the caller, who must also be allowed to read what the key is made of.
CREATE FUNCTION @extschema@._steadytext_search_pending(relation regclass, autoembed integer) RETURNS text[]
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_variable
DECLARE
    caller constant name := @extschema@._steadytext_caller();
    d @extschema@.steadytext_autoembeddings;
BEGIN
    SELECT e.* INTO d FROM @extschema@.steadytext_autoembeddings e WHERE e.id = autoembed AND e.relation = relation;
    IF d.id IS NULL OR @extschema@._steadytext_rows_hidden(relation, caller)
       OR EXISTS (SELECT FROM unnest(d.key_columns) k WHERE NOT has_column_privilege(caller, relation, k, 'SELECT')) THEN
        RETURN '{}'::text[];
    END IF;
    RETURN ARRAY(
        (SELECT k FROM @extschema@._steadytext_autoembed_log l, unnest(l.keys) k WHERE l.autoembed_id = autoembed LIMIT 10000)
        UNION
        (SELECT k FROM @extschema@._steadytext_autoembed_work w, unnest(w.keys) k
         WHERE w.autoembed_id = autoembed AND w.priority > 1 LIMIT 10000));
END
$$;

-- Those of some rows without a vector that the declaration's filter lets in. The filter is the owner's, and runs as the
-- owner; so nothing is told of rows that policies may hide from the caller, nor which keys there are to one who may not read them.
CREATE FUNCTION @extschema@._steadytext_search_admitted(relation regclass, autoembed integer, keys text[]) RETURNS text[]
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_variable
DECLARE
    d @extschema@.steadytext_autoembeddings;
    admitted text[];
    too_slow text;
BEGIN
    SELECT e.* INTO d FROM @extschema@.steadytext_autoembeddings e WHERE e.id = autoembed AND e.relation = relation;
    IF cardinality(keys) > 0
       AND NOT EXISTS (SELECT FROM unnest(d.key_columns) k WHERE NOT has_column_privilege(@extschema@._steadytext_caller(), relation, k, 'SELECT'))
       AND NOT (SELECT c.relrowsecurity FROM pg_class c WHERE c.oid = d.relation) THEN
        SELECT array_agg(r.key) FILTER (WHERE r.words IS NOT NULL), min(r.error) FILTER (WHERE r.code = 'ST002') INTO admitted, too_slow
        FROM @extschema@._steadytext_autoembed_read(d, keys) r;
        IF too_slow IS NOT NULL THEN
            PERFORM @extschema@._steadytext_raise('57014', too_slow);
        END IF;
    END IF;
    RETURN coalesce(admitted, '{}');
END
$$;

-- A query's vector, of the declaration's model.
CREATE FUNCTION @extschema@._steadytext_search_vector(relation regclass, autoembed integer, query text) RETURNS vector
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_variable
DECLARE
    d @extschema@.steadytext_autoembeddings;
BEGIN
    SELECT e.* INTO d FROM @extschema@.steadytext_autoembeddings e WHERE e.id = autoembed AND e.relation = relation;
    IF NOT has_any_column_privilege(@extschema@._steadytext_caller(), d.relation, 'SELECT') THEN
        PERFORM @extschema@._steadytext_raise('42501', format('permission denied for table %s', relation));
    END IF;
    -- The query is nobody's content: it is asked for past the cache.
    RETURN @extschema@._steadytext_embed(query, false, NULL, d.model_name, d.remote);
END
$$;

CREATE FUNCTION @extschema@._steadytext_search_check(query text, k integer, mode text, filter text, rerank boolean) RETURNS void
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_variable
BEGIN
    PERFORM @extschema@._steadytext_check_text('query', query, s.max_prompt_chars) FROM @extschema@._steadytext_settings s;
    IF num_nulls(k, mode, rerank) > 0 THEN
        PERFORM @extschema@._steadytext_raise('22004', 'k, mode and rerank cannot be null');
    ELSIF k NOT BETWEEN 1 AND 1000 THEN
        PERFORM @extschema@._steadytext_raise('22023', 'k must be between 1 and 1000');
    ELSIF mode NOT IN ('hybrid', 'vector', 'keyword') THEN
        PERFORM @extschema@._steadytext_raise('22023', format('mode must be hybrid, vector or keyword, not "%s"', left(mode, 100)));
    ELSIF filter !~ '[^[:space:]]' THEN
        PERFORM @extschema@._steadytext_raise('22023', 'filter cannot be empty');
    END IF;
END
$$;

-- The functions below run as the caller. Of their text only the caller's filter is looked up in the caller's search_path:
-- the statements that hold it run under that path and name everything else in full.

-- Rows nearest to a query: by the HNSW index, which goes on scanning until enough of them satisfy the filter; or all that
-- satisfy it, which is exact, where they are few and found without reading the table, or in one that is soon read: the index's scan
-- takes longer there, and ends before it has met the nearest of rows that are rare among its neighbours.
CREATE FUNCTION @extschema@._steadytext_search_by_vector(relation regclass, plan jsonb, query text, filter text, most integer, path text)
RETURNS TABLE (place bigint, key jsonb, chunk integer, content text, similarity double precision)
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_variable
DECLARE
    asked constant text := @extschema@._steadytext_search_vector(relation, (plan ->> 'autoembed')::integer, query)::text;
    few boolean := NOT (plan ->> 'large')::boolean;
    estimate json;
    name text;
    kept jsonb := '{}'::jsonb;
    statement text;
BEGIN
    IF filter IS NOT NULL AND NOT few THEN
        PERFORM set_config('search_path', path, true);
        EXECUTE format(E'EXPLAIN (FORMAT JSON) SELECT FROM %s WHERE (%s\n)', plan ->> 'source', filter) INTO estimate;
        PERFORM pg_catalog.set_config('search_path', 'pg_catalog, pg_temp', true);
        few := (estimate #>> '{0,Plan,Plan Rows}')::double precision <= 10000
            AND (estimate #>> '{0,Plan,Node Type}' <> 'Seq Scan' OR (estimate #>> '{0,Plan,Total Cost}')::double precision <= 50000);
    END IF;
    FOREACH name IN ARRAY ARRAY['hnsw.ef_search', 'hnsw.iterative_scan', 'ivfflat.iterative_scan'] LOOP
        kept := kept || jsonb_build_object(name, current_setting(name, true));
        PERFORM set_config(name, CASE name WHEN 'hnsw.ef_search' THEN least(1000, greatest(100, 2 * most))::text ELSE 'relaxed_order' END, true);
    END LOOP;
    statement := format($f$
        SELECT pg_catalog.row_number() OVER (ORDER BY f.distance, f.key::pg_catalog.text), f.key, f.chunk, f.content,
               1 OPERATOR(pg_catalog.-) f.distance
        FROM (SELECT %1$s AS key, %2$s AS chunk, %3$s AS content, (%4$s OPERATOR(%5$s.<=>) $1::%5$s.vector) AS distance
              FROM %6$s WHERE %4$s IS NOT NULL AND (%7$s
              ) ORDER BY (%4$s OPERATOR(%5$s.<=>) $1::%5$s.vector) %8$s LIMIT %9$s) f$f$,
        plan ->> 'key', plan ->> 'chunk', plan ->> 'words', plan ->> 'vector', plan ->> 'vectors', plan ->> 'source',
        coalesce(filter, 'true'), CASE WHEN few THEN 'OPERATOR(pg_catalog.+) 0' ELSE '' END, most);
    PERFORM set_config('search_path', path, true);
    RETURN QUERY EXECUTE statement USING asked;
    PERFORM pg_catalog.set_config('search_path', 'pg_catalog, pg_temp', true);
    PERFORM set_config(k.name, k.value, true) FROM jsonb_each_text(kept) k (name, value) WHERE k.value IS NOT NULL;
END
$$;

-- Rows in which a query's words are: all of them, as a web search has it; any of them where those are too few; similar
-- ones where even that finds nothing, as for a misspelt word (where pg_trgm is installed).
CREATE FUNCTION @extschema@._steadytext_search_by_keyword(
    relation regclass, plan jsonb, query text, filter text, most integer, enough integer, path text
) RETURNS TABLE (place bigint, key jsonb, chunk integer, content text)
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_variable
DECLARE
    document constant text := format('pg_catalog.to_tsvector(%s, %s)', plan ->> 'language', plan ->> 'document');
    every tsquery;
    either tsquery;
    trigrams text;
    found bigint := 0;
    more bigint := 0;
    pending constant text[] := CASE WHEN plan ->> 'chunk' LIKE 'NULL%' THEN NULL
        ELSE @extschema@._steadytext_search_pending(relation, (plan ->> 'autoembed')::integer) END;
BEGIN
    EXECUTE format('SELECT websearch_to_tsquery(%s, $1), replace(plainto_tsquery(%s, $1)::text, '' & '', '' | '')::tsquery',
                   plan ->> 'language', plan ->> 'language') INTO every, either USING query;
    IF numnode(every) > 0 THEN
        RETURN QUERY SELECT f.* FROM @extschema@._steadytext_search_texts(
            relation, plan, pending, filter, most, 0, document || ' OPERATOR(pg_catalog.@@) $1', format('pg_catalog.ts_rank_cd(%s, $1)', document), every, NULL, NULL, path) f;
        GET DIAGNOSTICS found = ROW_COUNT;
    END IF;
    IF found < enough AND numnode(either) > 1 THEN
        RETURN QUERY SELECT f.* FROM @extschema@._steadytext_search_texts(
            relation, plan, pending, filter, most, found, format('%1$s OPERATOR(pg_catalog.@@) $1 AND NOT %1$s OPERATOR(pg_catalog.@@) $3', document),
            format('pg_catalog.ts_rank_cd(%s, $1)', document), either, NULL, every, path) f;
        GET DIAGNOSTICS more = ROW_COUNT;
    END IF;
    SELECT quote_ident(n.nspname) INTO trigrams FROM pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace
    WHERE e.extname = 'pg_trgm';
    IF found + more = 0 AND trigrams IS NOT NULL THEN
        RETURN QUERY SELECT f.* FROM @extschema@._steadytext_search_texts(
            relation, plan, pending, filter, most, 0, format('%s.word_similarity($2, %s) OPERATOR(pg_catalog.>=) 0.4', trigrams, plan ->> 'document'),
            format('%s.word_similarity($2, %s)', trigrams, plan ->> 'document'), NULL, query, NULL, path) f;
    END IF;
END
$$;

-- One look at the words: of what has vectors, and of what waits for them.
CREATE FUNCTION @extschema@._steadytext_search_texts(
    relation regclass, plan jsonb, pending text[], filter text, most integer, behind bigint, condition text, rank text,
    wanted tsquery, words text, unwanted tsquery, path text
) RETURNS TABLE (place bigint, key jsonb, chunk integer, content text)
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_variable
DECLARE
    waiting constant jsonb := nullif(plan -> 'waiting', 'null');
    arm constant text := E'(SELECT %1$s AS key, %2$s AS chunk, %3$s AS content, %4$s AS rank, %5$s AS waits FROM %6$s WHERE %7$s AND %8$s AND (%9$s\n) ORDER BY 4 DESC LIMIT %10$s)';
    statement text := format(arm, plan ->> 'key', plan ->> 'chunk', plan ->> 'words', rank, 'NULL::pg_catalog.text', plan ->> 'source', condition,
        CASE WHEN waiting IS NULL THEN 'true' ELSE (plan ->> 'vector') || ' IS NOT NULL' END, coalesce(filter, 'true'), most);
BEGIN
    IF waiting IS NOT NULL THEN
        statement := statement || ' UNION ALL ' || format(arm, plan ->> 'key', 'NULL::integer', waiting ->> 'words',
            replace(rank, plan ->> 'document', waiting ->> 'document'), waiting ->> 'key', waiting ->> 'source',
            replace(condition, plan ->> 'document', waiting ->> 'document'), waiting ->> 'condition', coalesce(filter, 'true'), greatest(most, 200));
    END IF;
    statement := format($f$
        WITH f AS MATERIALIZED (%s), a AS MATERIALIZED (
            SELECT @extschema@._steadytext_search_admitted(%L::pg_catalog.oid::pg_catalog.regclass, %s, pg_catalog.array_agg(f.waits)) AS keys
            FROM f WHERE f.waits IS NOT NULL HAVING pg_catalog.count(*) OPERATOR(pg_catalog.>) 0
        )
        SELECT %s OPERATOR(pg_catalog.+) pg_catalog.row_number() OVER (ORDER BY f.rank DESC, f.key::pg_catalog.text),
               f.key, f.chunk, f.content
        FROM f WHERE f.waits IS NULL OR EXISTS (SELECT FROM a WHERE f.waits OPERATOR(pg_catalog.=) ANY (a.keys))$f$,
        statement, relation::oid, plan ->> 'autoembed', behind);
    PERFORM set_config('search_path', path, true);
    RETURN QUERY EXECUTE statement USING wanted, words, unwanted, pending;
END
$$;

-- Hybrid: both arms, joined by reciprocal rank fusion (Cormack, Clarke, Buettcher 2009, k = 60).
CREATE FUNCTION @extschema@._steadytext_search(
    relation regclass, query text, k integer, mode text, filter text, rerank boolean, destination text, path text,
    OUT key jsonb, OUT content text, OUT score double precision, OUT similarity double precision,
    OUT rank_vector integer, OUT rank_keyword integer, OUT chunk integer
) RETURNS SETOF record
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
    plan jsonb;
    deep constant integer := CASE WHEN $4 = 'hybrid' OR $6 THEN greatest(4 * $3, 40) ELSE $3 END;
BEGIN
    PERFORM @extschema@._steadytext_search_check($2, $3, $4, $5, $6);
    plan := (SELECT to_jsonb(p) FROM @extschema@._steadytext_search_plan($1, $7) p);
    RETURN QUERY
    WITH near AS (
        SELECT v.* FROM @extschema@._steadytext_search_by_vector($1, plan, $2, $5, deep, $8) v WHERE $4 <> 'keyword'
    ), worded AS (
        SELECT w.* FROM @extschema@._steadytext_search_by_keyword($1, plan, $2, $5, deep, $3, $8) w WHERE $4 <> 'vector'
    ), fused AS (
        SELECT coalesce(n.key, w.key) AS key, coalesce(n.content, w.content) AS content,
               CASE $4 WHEN 'vector' THEN n.similarity
                       ELSE coalesce(1.0 / (60 + n.place), 0) + coalesce(1.0 / (60 + w.place), 0) END::double precision AS score,
               n.similarity, n.place::integer AS rank_vector, w.place::integer AS rank_keyword, coalesce(n.chunk, w.chunk) AS chunk
        FROM near n FULL JOIN worded w ON w.key = n.key AND coalesce(w.chunk, 0) = coalesce(n.chunk, 0)
    ), reranked AS (
        SELECT r.document, max(r.score) AS score FROM (
            SELECT array_agg(f.content) AS documents FROM (
                SELECT c.content FROM fused c ORDER BY c.score DESC, c.key::text, c.chunk LIMIT CASE WHEN $6 THEN deep ELSE 0 END) f
        ) d, LATERAL @extschema@.steadytext_rerank($2, d.documents) r
        WHERE d.documents IS NOT NULL GROUP BY r.document
    )
    SELECT f.key, f.content, coalesce(r.score, f.score), f.similarity, f.rank_vector, f.rank_keyword, f.chunk
    FROM fused f LEFT JOIN reranked r ON r.document = f.content
    WHERE NOT $6 OR r.score IS NOT NULL
    ORDER BY 3 DESC, f.key::text, f.chunk LIMIT $3;
END
$$;

-- SELECT * FROM steadytext_search('articles', 'how do trees drink', 5)
CREATE FUNCTION @extschema@.steadytext_search(
    relation regclass, query text, k integer DEFAULT 10, mode text DEFAULT 'hybrid', filter text DEFAULT NULL,
    rerank boolean DEFAULT false, destination text DEFAULT NULL,
    OUT key jsonb, OUT content text, OUT score double precision, OUT similarity double precision,
    OUT rank_vector integer, OUT rank_keyword integer, OUT chunk integer
) RETURNS SETOF record
LANGUAGE sql VOLATILE
BEGIN ATOMIC
    SELECT s.* FROM @extschema@._steadytext_search(
        relation, query, k, mode, filter, rerank, destination, pg_catalog.current_setting('search_path')) s;
END;
