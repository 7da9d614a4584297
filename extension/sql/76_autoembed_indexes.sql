-- The indexes of an embedded table, built by a worker once its backfill is done, without holding up who writes to it.

CREATE FUNCTION @extschema@._steadytext_index_name(d @extschema@.steadytext_autoembeddings, kind text) RETURNS text
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RETURN format('steadytext_autoembed_%s_%s', d.id, kind);
END
$$;

-- The statements that build what a declaration still needs, and the memory to build it with. An index that a lost worker
-- has left unfinished goes first. A partitioned table's cannot be built beside its writers.
CREATE FUNCTION @extschema@._steadytext_index_statements(d @extschema@.steadytext_autoembeddings) RETURNS SETOF text
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_variable
DECLARE
    schema text;
    beside text;
    kind text;
    there record;
BEGIN
    SELECT quote_ident(n.nspname), CASE c.relkind WHEN 'p' THEN '' ELSE 'CONCURRENTLY' END INTO schema, beside
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.oid = coalesce(d.chunk_table, d.relation);
    -- Of who waits for each other, PostgreSQL stops who looks first: this one, and not whoever alters the table meanwhile.
    IF (SELECT r.rolsuper FROM pg_roles r WHERE r.rolname = session_user) THEN
        RETURN NEXT 'SET deadlock_timeout = 50';
    END IF;
    IF beside = '' THEN
        RETURN NEXT 'SET lock_timeout = 2000';  -- its writers would wait behind it
    END IF;
    RETURN NEXT (
        SELECT format('SET maintenance_work_mem = %L', least(2000, greatest(64,
            greatest(coalesce(sum(c.reltuples), 0), d.embedded) * (d.dimensions * 4 + 400) * 1.2 / 1e6))::integer || 'MB')
        FROM @extschema@._steadytext_partitions(coalesce(d.chunk_table, d.relation)) p JOIN pg_class c ON c.oid = p);
    FOREACH kind IN ARRAY ARRAY['vector', 'words'] LOOP
        SELECT i.indisvalid AS valid INTO there FROM pg_index i
        WHERE i.indexrelid = to_regclass(format('%s.%I', schema, @extschema@._steadytext_index_name(d, kind)));
        CONTINUE WHEN there.valid OR (kind = 'words' AND d.chunk_table IS NULL
            AND (d.replaces IS NOT NULL OR NOT @extschema@._steadytext_has_plain_text(d)));  -- the one that is there is taken over
        IF NOT there.valid THEN
            RETURN NEXT format('DROP INDEX %s %s.%I', beside, schema, @extschema@._steadytext_index_name(d, kind));
        END IF;
        RETURN NEXT format('CREATE INDEX %s %I ON %s USING ', beside, @extschema@._steadytext_index_name(d, kind),
                           @extschema@._steadytext_relation_name(coalesce(d.chunk_table, d.relation)))
            || CASE kind WHEN 'vector' THEN format('%s (%I %s.vector_cosine_ops)', d.index_kind,
                   coalesce((@extschema@._steadytext_column_names(d.relation, ARRAY[d.destination_column]))[1], 'embedding'),
                   @extschema@._steadytext_vector_schema())
                   || @extschema@._steadytext_index_options(d.index_params)
               ELSE format('gin (pg_catalog.to_tsvector(%L::pg_catalog.regconfig, %s))', d.language,
                   CASE WHEN d.chunk_table IS NOT NULL THEN 'content' ELSE replace(@extschema@._steadytext_document_expression(d),
                       @extschema@._steadytext_relation_name(d.relation) || '.', '') END)
               END;
    END LOOP;
END
$$;

CREATE FUNCTION @extschema@._steadytext_index_options(params jsonb) RETURNS text
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RETURN coalesce((SELECT format(' WITH (%s)', string_agg(format('%I = %s', o.name, o.value::integer), ', ' ORDER BY o.name))
                     FROM jsonb_each_text(params) o (name, value) HAVING count(*) > 0), '');
END
$$;

-- Whether all columns are texts of PostgreSQL's own types, so that an index over their words is possible.
CREATE FUNCTION @extschema@._steadytext_has_plain_text(d @extschema@.steadytext_autoembeddings) RETURNS boolean
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RETURN (SELECT bool_and(a.atttypid IN ('text'::regtype, 'varchar'::regtype, 'bpchar'::regtype))
            FROM pg_attribute a WHERE a.attrelid = d.relation AND a.attnum = ANY (d.columns));
END
$$;

-- Declarations whose backfill is done and whose indexes are not there yet.
CREATE FUNCTION @extschema@._steadytext_autoembed_unindexed() RETURNS TABLE (id integer, lock_key bigint, statements text[])
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RETURN QUERY
    SELECT d.id, @extschema@._steadytext_builder_key(d.relation),
        ARRAY(SELECT s FROM @extschema@._steadytext_index_statements(d) s)
    FROM @extschema@.steadytext_autoembeddings d
    WHERE d.index_state = 'wanted' AND d.backfill_done AND d.state = 'active'
      AND EXISTS (SELECT FROM pg_class c WHERE c.oid = d.relation)
      AND NOT EXISTS (SELECT FROM @extschema@._steadytext_autoembed_work w
                      WHERE w.autoembed_id = d.id AND w.priority = 1 AND NOT w.failed);
END
$$;

CREATE FUNCTION @extschema@._steadytext_autoembed_indexed(wanted integer, refusal text) RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    UPDATE @extschema@.steadytext_autoembeddings d
    SET index_state = CASE WHEN refusal IS NULL THEN 'built' ELSE 'failed' END,
        reason = coalesce('its index could not be built: ' || refusal, d.reason)
    WHERE d.id = wanted;
END
$$;
