-- Another model for an embedded table, or the same after its file has changed. A second declaration embeds all rows into a
-- place of its own, beside the first, which is searched and kept up to date all the while. When the second is as far, and
-- indexed, one transaction gives it the first one's name and place.

-- What else is built on the place of a declaration's vectors, and would not follow to another: views, policies, indexes.
CREATE FUNCTION @extschema@._steadytext_reembed_hindrance(d @extschema@.steadytext_autoembeddings) RETURNS text
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_variable
DECLARE
    schema name;
    shown regclass;
BEGIN
    SELECT n.nspname INTO schema FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.oid = d.relation;
    shown := CASE WHEN d.chunk_table IS NOT NULL THEN to_regclass(format('%I.%I', schema, d.destination || '_view')) END;
    RETURN (
        SELECT min(pg_describe_object(p.classid, p.objid, p.objsubid)) FROM pg_depend p
        LEFT JOIN pg_rewrite r ON p.classid = 'pg_rewrite'::regclass AND r.oid = p.objid
        LEFT JOIN pg_constraint c ON p.classid = 'pg_constraint'::regclass AND c.oid = p.objid
        LEFT JOIN pg_index i ON p.classid = 'pg_class'::regclass AND i.indexrelid = p.objid
        LEFT JOIN pg_class x ON x.oid = i.indexrelid
        WHERE p.refclassid = 'pg_class'::regclass AND p.deptype IN ('n', 'a') AND p.classid <> 'pg_type'::regclass
          AND CASE WHEN d.chunk_table IS NULL THEN p.refobjid = d.relation AND p.refobjsubid = d.destination_column
                   ELSE p.refobjid IN (d.chunk_table, shown) END
          AND r.ev_class IS DISTINCT FROM shown
          AND coalesce(x.relname, '') <> ALL (ARRAY[@extschema@._steadytext_index_name(d, 'vector'), @extschema@._steadytext_index_name(d, 'words')])
          AND (d.chunk_table IS NULL OR (p.objid IS DISTINCT FROM d.chunk_table AND coalesce(c.contype NOT IN ('p', 'f', 'n'), true)
               AND NOT (coalesce(i.indisprimary, false)) AND p.classid <> 'pg_attrdef'::regclass)));
END
$$;

CREATE FUNCTION @extschema@._steadytext_reembed_check(d @extschema@.steadytext_autoembeddings) RETURNS void
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_variable
DECLARE
    hindrance constant text := @extschema@._steadytext_reembed_hindrance(d);
BEGIN
    IF EXISTS (SELECT FROM @extschema@.steadytext_autoembeddings e WHERE e.replaces = d.id) THEN
        PERFORM @extschema@._steadytext_raise('55000', format('table %s is being embedded anew already', d.relation),
            'steadytext_autoembed_status() shows how far it is, steadytext_autoembed_reembed_cancel() gives it up.');
    ELSIF d.state = 'broken' THEN
        PERFORM @extschema@._steadytext_raise('55000', format('the automatic embedding of %s is broken: %s', d.relation, d.reason),
            'Change it with steadytext_autoembed_alter(), or drop it.');
    ELSIF hindrance IS NOT NULL THEN
        PERFORM @extschema@._steadytext_raise('2BP01', format('%s depends on "%s", and would not follow to the new vectors', hindrance, d.destination),
            'Drop it, and create it again when the table is embedded anew.');
    END IF;
END
$$;

-- A name beside that of the vectors' place, of which PostgreSQL cuts nothing off.
CREATE FUNCTION @extschema@._steadytext_reembed_name(destination name, kind text, id integer) RETURNS text
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RETURN format('%s_%s_%s', left(destination, CASE WHEN octet_length(left(destination, 40)) > 40 THEN 10 ELSE 40 END), kind, id);
END
$$;

-- Embed a table anew with another model, or with the same one, beside the vectors that it has; these are searched until all
-- is done. Returns the number of the declaration that is to replace the present one.
CREATE FUNCTION @extschema@.steadytext_autoembed_reembed(
    relation regclass, model text DEFAULT NULL, destination text DEFAULT NULL, unsafe_mode boolean DEFAULT false
) RETURNS integer
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_variable
DECLARE
    d @extschema@.steadytext_autoembeddings;
    s @extschema@.steadytext_autoembeddings;
    chosen @extschema@.steadytext_models;
BEGIN
    d := @extschema@._steadytext_autoembed_find(relation, destination, true);
    PERFORM @extschema@._steadytext_reembed_check(d);
    chosen := @extschema@._steadytext_model_resolve('embedding', coalesce(model, d.model_name), NULL, NULL, NULL,
                                                    unsafe_mode OR model IS NULL AND d.remote);
    s := d;
    s.id := nextval('@extschema@.steadytext_autoembeddings_id_seq');
    s.model_name := chosen.name;
    s.model_digest := chosen.digest;
    s.remote := chosen.remote;
    s.dimensions := @extschema@._steadytext_model_dimensions(chosen);
    s.destination := @extschema@._steadytext_reembed_name(d.destination, 'new', s.id);
    s.destination_column := NULL;
    s.chunk_table := NULL;
    IF d.chunk_table IS NULL THEN
        s.destination_column := @extschema@._steadytext_destination_column(relation, s.destination, s.dimensions);
    ELSE
        s.chunk_table := @extschema@._steadytext_chunk_table(relation, s.key_columns, s.destination, s.dimensions);
    END IF;
    s.index_state := CASE s.index_kind WHEN 'none' THEN 'none' ELSE 'wanted' END;
    s.reason := NULL;
    s.version := 1;
    s.declared_by := @extschema@._steadytext_caller();
    s.created_at := now();
    s.backfill_cursor := NULL;
    s.backfill_missing := false;
    s.backfill_done := false;
    s.backfill_total := NULL;
    s.backfill_queued := 0;
    s.embedded := 0;
    s.rate := NULL;
    s.rated_at := NULL;
    s.replaces := d.id;
    s.retired := NULL;
    s.retired_seen_at := NULL;
    INSERT INTO @extschema@.steadytext_autoembeddings VALUES (s.*);
    PERFORM @extschema@._steadytext_capture_write(s);
    PERFORM @extschema@._steadytext_capture_attach(s);
    PERFORM @extschema@._steadytext_capture_write(d);
    PERFORM @extschema@._steadytext_autoembed_wake();
    RETURN s.id;
END
$$;

-- Drop what a second declaration has made; the first is as it was.
CREATE FUNCTION @extschema@._steadytext_reembed_abandon(s @extschema@.steadytext_autoembeddings) RETURNS void
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_variable
BEGIN
    PERFORM @extschema@._steadytext_autoembed_forget(s);
    IF s.chunk_table IS NOT NULL AND EXISTS (SELECT FROM pg_class c WHERE c.oid = s.chunk_table) THEN
        PERFORM @extschema@._steadytext_as_owner_of(s.relation, format('DROP TABLE %s', s.chunk_table), NULL, NULL, NULL, '5s');
    ELSE
        PERFORM @extschema@._steadytext_as_owner_of(s.relation, format('ALTER TABLE %s DROP COLUMN %I', s.relation, a.attname), NULL, NULL, NULL, '5s')
        FROM pg_attribute a WHERE a.attrelid = s.relation AND a.attnum = s.destination_column AND NOT a.attisdropped;
    END IF;
END
$$;

-- Give up embedding a table anew: its vectors and its model stay. Returns whether it was being done.
CREATE FUNCTION @extschema@.steadytext_autoembed_reembed_cancel(relation regclass, destination text DEFAULT NULL) RETURNS boolean
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_variable
DECLARE
    d @extschema@.steadytext_autoembeddings;
    s @extschema@.steadytext_autoembeddings;
BEGIN
    d := @extschema@._steadytext_autoembed_find(relation, destination, true);
    SELECT e.* INTO s FROM @extschema@.steadytext_autoembeddings e WHERE e.replaces = d.id FOR UPDATE;
    IF s.id IS NULL THEN
        RETURN false;
    END IF;
    PERFORM @extschema@._steadytext_reembed_abandon(s);
    PERFORM @extschema@._steadytext_capture_write(d);
    RETURN true;
END
$$;

-- What a second declaration still waits for before it can replace the first; null for nothing.
CREATE FUNCTION @extschema@._steadytext_reembed_wants(d @extschema@.steadytext_autoembeddings, s @extschema@.steadytext_autoembeddings)
RETURNS text
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_variable
DECLARE
    unable bigint;
BEGIN
    PERFORM @extschema@._steadytext_autoembed_gone(s);  -- a row that was deleted meanwhile holds up nothing
    SELECT count(*) INTO unable FROM @extschema@._steadytext_autoembed_work w, unnest(w.keys) k
    WHERE w.autoembed_id = s.id AND w.failed AND NOT EXISTS (
        SELECT FROM @extschema@._steadytext_autoembed_work o WHERE o.autoembed_id = d.id AND o.failed AND o.keys = ARRAY[k]);
    RETURN CASE
        WHEN d.retired IS NOT NULL THEN 'the vectors of the model before are still to be dropped'
        WHEN NOT s.backfill_done OR EXISTS (SELECT FROM @extschema@._steadytext_autoembed_work w
                                            WHERE w.autoembed_id = s.id AND w.priority = 1 AND NOT w.failed)
            THEN 'rows are being embedded'
        WHEN s.index_state = 'wanted' AND d.index_state <> 'wanted' THEN 'its index is to be built'
        WHEN s.index_state = 'failed' AND d.index_state <> 'failed' THEN s.reason
        WHEN unable > 0 THEN format('%s cannot be embedded with %s: see steadytext_autoembed_failures(%L, %L)',
            CASE unable WHEN 1 THEN '1 row' ELSE unable || ' rows' END, s.model_name, s.relation, s.destination)
        WHEN (@extschema@._steadytext_autoembed_counts(s.id)).pending > (@extschema@._steadytext_autoembed_counts(d.id)).pending + 256
            THEN 'rows that have changed are being embedded'
        WHEN @extschema@._steadytext_reembed_hindrance(d) IS NOT NULL
            THEN @extschema@._steadytext_reembed_hindrance(d) || ' depends on the present vectors, and would not follow' END;
END
$$;

-- Rights that a relation's or a column's users have, for those of another.
CREATE FUNCTION @extschema@._steadytext_reembed_grants(relation regclass, acl aclitem[], onto text, parts text) RETURNS void
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_variable
BEGIN
    PERFORM @extschema@._steadytext_as_owner_of(relation, format('GRANT %s %s ON %s TO %s %s', x.privilege_type, parts, onto,
        CASE x.grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(r.rolname) END, CASE WHEN x.is_grantable THEN 'WITH GRANT OPTION' ELSE '' END))
    FROM aclexplode(acl) x LEFT JOIN pg_roles r ON r.oid = x.grantee
    WHERE x.grantee <> @extschema@._steadytext_relation_owner(relation);
END
$$;

-- The new vectors come in the place of the old: names, rights, and the view of chunks. What held the old ones stays for
-- those who look at an older state of the database.
CREATE FUNCTION @extschema@._steadytext_reembed_swap(d @extschema@.steadytext_autoembeddings, s @extschema@.steadytext_autoembeddings, retired text)
RETURNS void
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_variable
DECLARE
    schema name;
    shown text;
    view_rights aclitem[];
    old_rights aclitem[];
BEGIN
    SELECT quote_ident(n.nspname) INTO schema FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.oid = d.relation;
    IF d.chunk_table IS NULL THEN
        SELECT a.attacl INTO old_rights FROM pg_attribute a WHERE a.attrelid = d.relation AND a.attnum = d.destination_column;
        PERFORM @extschema@._steadytext_as_owner_of(d.relation, format('ALTER TABLE %s RENAME COLUMN %I TO %I', d.relation, n.old, n.new))
        FROM (VALUES (d.destination, retired), (s.destination, d.destination::text)) n (old, new);
        PERFORM @extschema@._steadytext_reembed_grants(d.relation, old_rights, d.relation::text, format('(%I)', d.destination));
        PERFORM @extschema@._steadytext_as_owner_of(d.relation, format('ALTER INDEX IF EXISTS %s.%I RENAME TO %I', schema,
            @extschema@._steadytext_index_name(d, 'words'), @extschema@._steadytext_index_name(s, 'words')));
        RETURN;
    END IF;
    shown := format('%s.%I', schema, d.destination || '_view');
    SELECT c.relacl INTO view_rights FROM pg_class c WHERE c.oid = to_regclass(shown);
    SELECT c.relacl INTO old_rights FROM pg_class c WHERE c.oid = d.chunk_table;
    PERFORM @extschema@._steadytext_as_owner_of(d.relation, 'DROP VIEW IF EXISTS ' || shown);
    PERFORM @extschema@._steadytext_as_owner_of(d.relation, format('ALTER TABLE %s RENAME TO %I', n.old, n.new))
    FROM (VALUES (d.chunk_table, retired), (s.chunk_table, d.destination::text)) n (old, new);
    PERFORM @extschema@._steadytext_chunk_view(d.relation, d.key_columns, d.destination);
    PERFORM @extschema@._steadytext_reembed_grants(d.relation, old_rights, s.chunk_table::text, '');
    PERFORM @extschema@._steadytext_reembed_grants(d.relation, view_rights, shown, '');
END
$$;

-- Let a second declaration take the place of the first, in this transaction; says why not where it cannot be. Nobody reads
-- or writes the table in this moment: searches and workers hold it from when they look up its names until they are done.
CREATE FUNCTION @extschema@._steadytext_reembed_switch(wanted integer, whatever boolean) RETURNS text
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp SET lock_timeout = '300ms' AS $$
#variable_conflict use_variable
DECLARE
    d @extschema@.steadytext_autoembeddings;
    s @extschema@.steadytext_autoembeddings;
    missing text;
    digest text;
    retired text;
    following constant text := current_setting('steadytext.following', true);
BEGIN
    SELECT e.* INTO s FROM @extschema@.steadytext_autoembeddings e WHERE e.id = wanted FOR UPDATE;
    SELECT e.* INTO d FROM @extschema@.steadytext_autoembeddings e WHERE e.id = s.replaces FOR UPDATE;
    digest := (SELECT m.digest FROM @extschema@.steadytext_models m WHERE m.name = s.model_name);
    IF digest IS DISTINCT FROM s.model_digest THEN
        UPDATE @extschema@.steadytext_autoembeddings e
        SET model_digest = digest, backfill_cursor = NULL, backfill_total = NULL, backfill_queued = 0, backfill_done = false
        WHERE e.id = s.id;
        RETURN format('the file of %s has changed: rows are embedded once more', s.model_name);
    END IF;
    missing := @extschema@._steadytext_reembed_wants(d, s);
    IF missing IS NOT NULL AND NOT (whatever AND s.backfill_done AND d.retired IS NULL) THEN
        RETURN missing;
    END IF;
    IF NOT pg_try_advisory_xact_lock_shared(@extschema@._steadytext_builder_key(d.relation)) THEN
        RETURN 'an index of the table is being built';
    END IF;
    EXECUTE format('LOCK TABLE %s IN ACCESS EXCLUSIVE MODE', d.relation);
    PERFORM set_config('steadytext.following', 'on', true);
    retired := @extschema@._steadytext_reembed_name(d.destination, 'old', d.id);
    PERFORM @extschema@._steadytext_reembed_swap(d, s, retired);
    PERFORM @extschema@._steadytext_autoembed_forget(d);
    UPDATE @extschema@.steadytext_autoembeddings e
    SET destination = d.destination, replaces = NULL, reason = NULL, retired = retired, retired_seen_at = NULL,
        index_state = CASE WHEN e.index_state = 'built' AND e.chunk_table IS NULL THEN 'wanted' ELSE e.index_state END
    WHERE e.id = s.id RETURNING e.* INTO s;
    PERFORM @extschema@._steadytext_capture_write(s);
    PERFORM set_config('steadytext.following', coalesce(following, ''), true);
    RETURN NULL;
END
$$;

-- Switch now, though some rows cannot be embedded with the new model or its index could not be built.
CREATE FUNCTION @extschema@.steadytext_autoembed_switch(relation regclass, destination text DEFAULT NULL) RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_variable
DECLARE
    d @extschema@.steadytext_autoembeddings;
    second integer;
    missing text;
BEGIN
    d := @extschema@._steadytext_autoembed_find(relation, destination, true);
    second := (SELECT e.id FROM @extschema@.steadytext_autoembeddings e WHERE e.replaces = d.id);
    IF second IS NULL THEN
        PERFORM @extschema@._steadytext_raise('55000', format('table %s is not being embedded anew', relation), 'steadytext_autoembed_reembed() begins it.');
    END IF;
    missing := @extschema@._steadytext_reembed_switch(second, true);
    IF missing IS NOT NULL THEN
        PERFORM @extschema@._steadytext_raise('55000', format('table %s cannot be switched yet: %s', relation, missing), 'steadytext_autoembed_status() shows how far it is.');
    END IF;
END
$$;

-- Drop what held the vectors before, once all transactions that began before the switch are over.
CREATE FUNCTION @extschema@._steadytext_reembed_sweep(d @extschema@.steadytext_autoembeddings, patience text DEFAULT '300ms') RETURNS void
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_variable
DECLARE
    schema name;
BEGIN
    IF d.retired IS NULL THEN
        RETURN;
    END IF;
    SELECT n.nspname INTO schema FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.oid = d.relation;
    IF d.chunk_table IS NULL THEN
        PERFORM @extschema@._steadytext_as_owner_of(d.relation, format('ALTER TABLE %s DROP COLUMN IF EXISTS %I', d.relation, d.retired), NULL, NULL, NULL, patience);
    ELSE
        PERFORM @extschema@._steadytext_as_owner_of(d.relation, format('DROP TABLE IF EXISTS %I.%I', schema, d.retired), NULL, NULL, NULL, patience);
    END IF;
    UPDATE @extschema@.steadytext_autoembeddings e SET retired = NULL, retired_seen_at = NULL WHERE e.id = d.id;
END
$$;

-- For a worker: switch what is ready, drop what is left over. Returns how many tables wait for another look soon.
CREATE FUNCTION @extschema@._steadytext_reembed_advance() RETURNS bigint
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = '300ms' AS $$
#variable_conflict use_variable
DECLARE
    d @extschema@.steadytext_autoembeddings;
    missing text;
BEGIN
    FOR d IN SELECT e.* FROM @extschema@.steadytext_autoembeddings e
             WHERE (e.replaces IS NOT NULL AND e.state = 'active' OR e.retired IS NOT NULL)
               AND EXISTS (SELECT FROM pg_class c WHERE c.oid = e.relation) ORDER BY e.id FOR UPDATE SKIP LOCKED LOOP
        BEGIN
            IF d.replaces IS NOT NULL THEN
                missing := @extschema@._steadytext_reembed_switch(d.id, false);
                UPDATE @extschema@.steadytext_autoembeddings e SET reason = missing WHERE e.id = d.id AND e.reason IS DISTINCT FROM missing;
                EXIT WHEN missing IS NULL;  -- nobody waits for this table longer than for the commit
            ELSIF d.retired_seen_at IS NULL THEN
                UPDATE @extschema@.steadytext_autoembeddings e SET retired_seen_at = clock_timestamp() WHERE e.id = d.id;
            ELSIF NOT EXISTS (SELECT FROM pg_stat_activity a WHERE a.datname = current_database() AND a.xact_start <= d.retired_seen_at
                              AND a.pid <> pg_backend_pid()) THEN
                PERFORM @extschema@._steadytext_reembed_sweep(d);
            END IF;
        EXCEPTION WHEN lock_not_available OR deadlock_detected THEN
            NULL;  -- the next time
        WHEN OTHERS THEN
            UPDATE @extschema@.steadytext_autoembeddings e SET reason = 'the new vectors could not come in their place: ' || SQLERRM
            WHERE e.id = d.id;
        END;
    END LOOP;
    RETURN (SELECT count(*) FROM @extschema@.steadytext_autoembeddings e
            WHERE e.replaces IS NOT NULL AND e.state = 'active' OR e.retired IS NOT NULL);
END
$$;
