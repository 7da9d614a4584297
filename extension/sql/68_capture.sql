-- Change capture: statement-level triggers with transition tables write the keys of changed rows to the log, and for
-- what replication applies, which fires no such triggers, row-level ones. Each declaration has functions of its own, so
-- that their statements are planned once in a session. They run as the extension's owner, and touch no code of the
-- table's owner, whatever the columns that they name have become: columns are compared as bytes, and keys as the text that is noted.
-- A deleted row needs no trigger: a worker that reads its key finds nothing. Only its chunks do, where replication applies
-- the deletion: foreign keys, which take them along elsewhere, are not looked after there.

-- Tell a worker that sleeps. NOTIFY makes committing transactions wait for each other; so one that is awake is not told:
-- it finds the log by itself. Nor does one go to sleep while a transaction that wrote to the log is under way. A snapshot
-- that a transaction keeps may be older than the worker's sleep.
CREATE FUNCTION @extschema@._steadytext_autoembed_wake() RETURNS void
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF current_setting('transaction_isolation') <> 'read committed'
       OR EXISTS (SELECT FROM @extschema@.steadytext_workers w WHERE w.sleeping IS NULL OR 'autoembed' = ANY (w.sleeping)) THEN
        PERFORM pg_notify('steadytext_queue', '');
    END IF;
END
$$;

-- All columns whose change matters: the source's, and those that the filter may mean. A column is one that it may mean
-- where its name occurs in it, the table's own name means all.
CREATE FUNCTION @extschema@._steadytext_watched_columns(d @extschema@.steadytext_autoembeddings) RETURNS smallint[]
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
BEGIN
    RETURN (
        SELECT ARRAY(
            SELECT a.attnum FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid
            WHERE a.attrelid = $1.relation AND a.attnum > 0 AND NOT a.attisdropped
              AND a.attnum IS DISTINCT FROM $1.destination_column
              AND NOT EXISTS (SELECT FROM @extschema@.steadytext_autoembeddings e  -- where vectors are made anew, neither column is a source
                              WHERE e.destination_column = a.attnum AND (e.replaces = $1.id OR e.id = $1.replaces))
              AND (a.attnum = ANY ($1.columns) OR position(lower(a.attname) IN lower($1.filter)) > 0
                   OR position(lower(c.relname) || '.*' IN lower($1.filter)) > 0
                   OR $1.filter ~* ('[(][[:space:]]*"?' || regexp_replace(c.relname, '([^[:alnum:]_])', E'\\\\\\1', 'g') || '"?[[:space:]]*[)]'))
            ORDER BY a.attnum));
END
$$;

CREATE FUNCTION @extschema@._steadytext_capture_function(d @extschema@.steadytext_autoembeddings, event text) RETURNS text
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
BEGIN
    RETURN (
        SELECT format('_steadytext_autoembed_%s_%s', $1.id, $2));
END
$$;

-- Make one of a declaration's trigger functions, or leave it where it is the same: that it goes with the extension takes a
-- lock which all tables share until the transaction ends.
CREATE FUNCTION @extschema@._steadytext_capture_put(d @extschema@.steadytext_autoembeddings, event text, body text) RETURNS void
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_variable
DECLARE
    name constant text := @extschema@._steadytext_capture_function(d, event);
    -- who makes a partition puts the triggers for single rows on it, and needs the right to do so
    maker constant oid := (SELECT c.relowner FROM pg_class c WHERE c.oid = d.relation AND c.relkind = 'p' AND event = 'row');
    present record;
BEGIN
    SELECT pg_get_userbyid(f.proowner) AS owner, pg_get_userbyid(f.proowner) = current_user AS owned, f.prosrc AS body,
           EXISTS (SELECT FROM pg_depend x WHERE x.classid = 'pg_proc'::regclass AND x.objid = f.oid AND x.deptype = 'x') AS depends,
           maker IS NULL OR has_function_privilege(maker, f.oid, 'EXECUTE') AS granted
    INTO present FROM pg_proc f WHERE f.pronamespace = '@extschema@'::regnamespace AND f.proname = name AND f.pronargs = 0;
    IF present.owned AND present.depends AND present.body = body AND present.granted THEN
        RETURN;
    ELSIF NOT present.owned THEN
        PERFORM @extschema@._steadytext_raise('42723', format('role %s has made a function @extschema@.%I()', present.owner, name),
            'The name is this extension''s own: drop that function, and allow nobody CREATE on its schema.');
    END IF;
    EXECUTE format('CREATE OR REPLACE FUNCTION @extschema@.%I() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER '
                   'SET search_path = pg_catalog, pg_temp AS %L', name, body);
    EXECUTE format('REVOKE ALL ON FUNCTION @extschema@.%I() FROM PUBLIC', name);
    IF maker IS NOT NULL THEN
        EXECUTE format('GRANT EXECUTE ON FUNCTION @extschema@.%I() TO %I', name, pg_get_userbyid(maker));
    END IF;
    EXECUTE format('ALTER FUNCTION @extschema@.%I() DEPENDS ON EXTENSION pg_steadytext', name);
END
$$;

-- (Re)create a declaration's trigger functions.
CREATE FUNCTION @extschema@._steadytext_capture_write(d @extschema@.steadytext_autoembeddings) RETURNS void
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_variable
DECLARE
    watched constant smallint[] := @extschema@._steadytext_watched_columns(d);
    fresh constant text := @extschema@._steadytext_key_text(d.relation, d.key_columns, 'n');
    sleeps constant text := 'current_setting(''transaction_isolation'') <> ''read committed'' OR EXISTS '
        '(SELECT FROM @extschema@.steadytext_workers w WHERE w.sleeping IS NULL OR ''autoembed'' = ANY (w.sleeping))';
    parts constant text :=
        'INSERT INTO @extschema@._steadytext_autoembed_log (autoembed_id, keys) SELECT %1$s, array_agg(c.k) '
        'FROM (SELECT r.k, (row_number() OVER () - 1) / 200000 AS part FROM (SELECT %2$s AS k FROM steadytext_new n %3$s) r) c GROUP BY c.part; ';
    wake constant text := 'IF sleeps THEN PERFORM pg_notify(''steadytext_queue'', ''''); END IF; RETURN NULL; END';
    -- One statement, since each costs a single row microseconds. A transition table is read in the same order each time.
    added constant text := 'DECLARE is_full boolean; sleeps boolean; BEGIN '
        'INSERT INTO @extschema@._steadytext_autoembed_log (autoembed_id, keys) SELECT %1$s, array_agg(c.k) '
        'FROM (SELECT %2$s AS k FROM steadytext_new n LIMIT 200000) c HAVING array_agg(c.k) IS NOT NULL '
        'RETURNING cardinality(keys) = 200000, ' || sleeps || ' INTO is_full, sleeps; '
        'IF is_full THEN ' || format(parts, '%1$s', '%2$s', 'OFFSET 200000') || 'END IF; ' || wake;
    changed constant text := 'DECLARE sleeps boolean; BEGIN '
        'IF EXISTS (SELECT FROM steadytext_new OFFSET 200000) THEN ' || parts || 'sleeps := FOUND AND (' || sleeps || '); '
        'ELSE INSERT INTO @extschema@._steadytext_autoembed_log (autoembed_id, keys) SELECT %1$s, array_agg(%2$s) '
        'FROM steadytext_new n %3$s HAVING count(*) > 0 RETURNING ' || sleeps || ' INTO sleeps; END IF; ' || wake;
    former constant text := @extschema@._steadytext_key_text(d.relation, d.key_columns, 'o');
    note constant text := format('INSERT INTO @extschema@._steadytext_autoembed_log (autoembed_id, keys) VALUES (%s, ARRAY[%%s]); ', d.id);
    gone constant text := format(note, former);
    unchanged text;
BEGIN
    unchanged := format('record_image_eq(ROW(%s), ROW(%s))', @extschema@._steadytext_key_list(d.relation, watched, 'o'),
                        @extschema@._steadytext_key_list(d.relation, watched, 'n'));
    IF d.chunk_table IS NULL THEN  -- who writes all columns of a row that they read before it was embedded takes its vector away
        unchanged := unchanged || format(' AND (n.%1$I IS NOT NULL OR o.%1$I IS NULL)',
            (@extschema@._steadytext_column_names(d.relation, ARRAY[d.destination_column]))[1]);
    END IF;
    PERFORM @extschema@._steadytext_capture_put(d, 'insert', format(added, d.id, fresh));
    PERFORM @extschema@._steadytext_capture_put(d, 'update', format(changed, d.id, fresh,
               format('WHERE NOT EXISTS (SELECT FROM steadytext_old o WHERE (%s) = (%s) AND %s)', former, fresh, unchanged)));
    PERFORM @extschema@._steadytext_capture_put(d, 'row',
        format('DECLARE o record; n record := NEW; BEGIN '
               'IF TG_OP = ''DELETE'' THEN o := OLD; %1$sPERFORM @extschema@._steadytext_autoembed_wake(); RETURN NULL; END IF; '
               'IF TG_OP = ''UPDATE'' THEN o := OLD; IF (%2$s) IS NOT DISTINCT FROM (%3$s) THEN IF %4$s THEN RETURN NULL; END IF; '
               'ELSE %5$s END IF; END IF; '
               '%6$sPERFORM @extschema@._steadytext_autoembed_wake(); RETURN NULL; END',
               gone, former, fresh, unchanged, CASE WHEN d.chunk_table IS NULL THEN 'NULL; ' ELSE gone END,
               format(note, fresh)));
END
$$;

-- A table and, where it is partitioned, all its partitions: each is written to directly by somebody.
CREATE FUNCTION @extschema@._steadytext_partitions(relation regclass) RETURNS SETOF regclass
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RETURN NEXT relation;
    RETURN QUERY SELECT t.relid::regclass FROM pg_partition_tree(relation) t WHERE t.relid <> relation ORDER BY t.level;
END
$$;

-- Put the triggers on the table and on those of its partitions that have none yet; returns the latter.
CREATE FUNCTION @extschema@._steadytext_capture_attach(d @extschema@.steadytext_autoembeddings) RETURNS regclass[]
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_variable
DECLARE
    part regclass;
    name text;
    event text;
    made regclass[] := '{}'::regclass[];
    following constant text := current_setting('steadytext.following', true);
BEGIN
    PERFORM set_config('steadytext.following', 'on', true);
    FOR part IN SELECT p FROM @extschema@._steadytext_partitions(d.relation) p
                WHERE NOT EXISTS (SELECT FROM pg_trigger t WHERE t.tgrelid = p AND NOT t.tgisinternal
                                  AND t.tgname = @extschema@._steadytext_capture_function(d, 'insert')) LOOP
        name := @extschema@._steadytext_relation_name(part);
        EXECUTE format('CREATE TRIGGER %1$I AFTER INSERT ON %2$s REFERENCING NEW TABLE AS steadytext_new '
                       'FOR EACH STATEMENT EXECUTE FUNCTION @extschema@.%1$I()',
                       @extschema@._steadytext_capture_function(d, 'insert'), name);
        EXECUTE format('CREATE TRIGGER %1$I AFTER UPDATE ON %2$s REFERENCING OLD TABLE AS steadytext_old NEW TABLE AS steadytext_new '
                       'FOR EACH STATEMENT EXECUTE FUNCTION @extschema@.%1$I()',
                       @extschema@._steadytext_capture_function(d, 'update'), name);
        IF NOT EXISTS (SELECT FROM pg_trigger t WHERE t.tgrelid = part
                       AND t.tgname = @extschema@._steadytext_capture_function(d, 'row')) THEN
            EXECUTE format('CREATE TRIGGER %1$I AFTER INSERT OR UPDATE%3$s ON %2$s FOR EACH ROW EXECUTE FUNCTION @extschema@.%1$I()',
                           @extschema@._steadytext_capture_function(d, 'row'), name,
                           CASE WHEN d.chunk_table IS NOT NULL THEN ' OR DELETE' ELSE '' END);
        END IF;
        EXECUTE format('ALTER TABLE %s ENABLE REPLICA TRIGGER %I', name, @extschema@._steadytext_capture_function(d, 'row'));
        FOREACH event IN ARRAY ARRAY['insert', 'update', 'row'] LOOP
            EXECUTE format('ALTER TRIGGER %I ON %s DEPENDS ON EXTENSION pg_steadytext', @extschema@._steadytext_capture_function(d, event), name);
        END LOOP;
        made := made || part;
    END LOOP;
    PERFORM set_config('steadytext.following', coalesce(following, ''), true);
    RETURN made;
END
$$;

-- Take the triggers off tables that were partitions: they would note keys of rows that are not there. Everybody's commands
-- come here, and none waits for a table that somebody else has locked: then it is done the next time.
CREATE FUNCTION @extschema@._steadytext_capture_detach(d @extschema@.steadytext_autoembeddings) RETURNS void
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp SET lock_timeout = '100ms' AS $$
#variable_conflict use_variable
DECLARE
    part regclass;
    name text;
BEGIN
    FOR part, name IN
        SELECT t.tgrelid::regclass, t.tgname FROM pg_trigger t JOIN pg_proc f ON f.oid = t.tgfoid
        WHERE NOT t.tgisinternal AND f.proname = t.tgname AND f.pronamespace = '@extschema@'::regnamespace
          AND t.tgname IN (@extschema@._steadytext_capture_function(d, 'insert'), @extschema@._steadytext_capture_function(d, 'update'),
                           @extschema@._steadytext_capture_function(d, 'row'))
          AND t.tgrelid NOT IN (SELECT p FROM @extschema@._steadytext_partitions(d.relation) p)
    LOOP
        EXECUTE format('DROP TRIGGER %I ON %s', name, @extschema@._steadytext_relation_name(part));
    END LOOP;
EXCEPTION WHEN lock_not_available THEN
    NULL;
END
$$;

-- Remove a declaration's triggers and their functions from wherever they are.
CREATE FUNCTION @extschema@._steadytext_capture_drop(d @extschema@.steadytext_autoembeddings) RETURNS void
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_variable
DECLARE
    event text;
    name text;
BEGIN
    FOREACH event IN ARRAY ARRAY['insert', 'update', 'row'] LOOP
        name := @extschema@._steadytext_capture_function(d, event);
        EXECUTE format('DROP FUNCTION IF EXISTS @extschema@.%I() CASCADE', name);
    END LOOP;
END
$$;
