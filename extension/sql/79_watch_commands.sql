-- Event triggers: what commands do to tables is followed in the same transaction. Only partitions that are attached are
-- found later, by a worker: while a dump is restored, the triggers that are missing are still to come.

CREATE FUNCTION @extschema@._steadytext_on_ddl() RETURNS event_trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    changed integer;
BEGIN
    IF current_setting('steadytext.following', true) = 'on' THEN
        RETURN;
    END IF;
    PERFORM set_config('steadytext.following', 'on', true);
    FOR changed IN
        SELECT DISTINCT d.id FROM pg_event_trigger_ddl_commands() c
        CROSS JOIN @extschema@.steadytext_autoembeddings d
        WHERE tg_tag <> 'CREATE TABLE'
          AND (c.classid = 'pg_class'::regclass AND c.objid IN (d.relation, d.chunk_table)
               -- a column of a parent, or of a type, is renamed in the tables that are made of it: by who holds those too
               OR @extschema@._steadytext_autoembed_renamed(d) AND EXISTS (
                   SELECT FROM pg_locks l JOIN pg_database b ON b.oid = l.database
                   WHERE b.datname = current_database() AND l.pid = pg_backend_pid() AND l.relation = d.relation AND l.mode = 'AccessExclusiveLock'))
        ORDER BY d.id
    LOOP
        PERFORM @extschema@._steadytext_autoembed_follow(changed, false);
    END LOOP;
    FOR changed IN
        SELECT DISTINCT d.id FROM pg_event_trigger_ddl_commands() c
        CROSS JOIN LATERAL pg_partition_ancestors(c.objid::regclass) a (relid)
        JOIN @extschema@.steadytext_autoembeddings d ON a.relid = d.relation
        WHERE tg_tag = 'CREATE TABLE' AND c.classid = 'pg_class'::regclass AND c.object_type = 'table'
        ORDER BY d.id
    LOOP
        PERFORM @extschema@._steadytext_autoembed_follow(changed, true);
    END LOOP;
    IF tg_tag = 'ALTER TABLE' THEN
        PERFORM @extschema@._steadytext_capture_detach(d) FROM @extschema@.steadytext_autoembeddings d
        JOIN pg_class c ON c.oid = d.relation AND c.relkind = 'p';
    END IF;
    PERFORM @extschema@._steadytext_layers_follow();
    PERFORM set_config('steadytext.following', 'off', true);
END
$$;

CREATE FUNCTION @extschema@._steadytext_on_drop() RETURNS event_trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    changed integer;
BEGIN
    IF to_regclass('@extschema@.steadytext_autoembeddings') IS NULL OR current_setting('steadytext.following', true) = 'on' THEN
        RETURN;
    END IF;
    PERFORM set_config('steadytext.following', 'on', true);
    FOR changed IN
        SELECT DISTINCT d.id FROM pg_event_trigger_dropped_objects() o
        JOIN @extschema@.steadytext_autoembeddings d ON o.classid = 'pg_class'::regclass AND o.objid IN (d.relation, d.chunk_table)
        ORDER BY d.id
    LOOP
        PERFORM @extschema@._steadytext_autoembed_follow(changed, false);
    END LOOP;
    PERFORM @extschema@._steadytext_layers_follow();
    PERFORM set_config('steadytext.following', 'off', true);
END
$$;

CREATE EVENT TRIGGER _steadytext_on_ddl ON ddl_command_end WHEN TAG IN ('ALTER TABLE', 'CREATE TABLE', 'ALTER TYPE')
    EXECUTE FUNCTION @extschema@._steadytext_on_ddl();
CREATE EVENT TRIGGER _steadytext_on_drop ON sql_drop EXECUTE FUNCTION @extschema@._steadytext_on_drop();
