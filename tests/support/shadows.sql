-- Plants, in schema hostile and in pg_temp, a like-named object for each function, operator, type and relation that a
-- body of the extension's functions names or might mean. Meeting one is recorded by a sequence, which no rollback takes
-- back, and raised.
CREATE SEQUENCE hostile.met;

CREATE FUNCTION hostile.meet(what pg_catalog.text) RETURNS pg_catalog.bool LANGUAGE plpgsql VOLATILE AS $$
BEGIN
    PERFORM pg_catalog.nextval('hostile.met'::pg_catalog.regclass);
    RAISE EXCEPTION 'met %', what USING ERRCODE = 'XX000';
END
$$;

DO $plant$
DECLARE
    object record;
    planted integer := 0;
BEGIN
    CREATE TEMP TABLE named AS
        SELECT DISTINCT m.found[1] AS word
        FROM pg_proc p, regexp_matches(lower(p.prosrc), '[a-z_][a-z0-9_]*|[-+*/<>=~!@#%^&|`?]+', 'g') AS m (found)
        WHERE p.pronamespace = 'public'::regnamespace AND p.proname ~ '^(_?steadytext|st)_';
    FOR object IN
        SELECT p.oid::regprocedure AS signature, p.proname, pg_get_function_arguments(p.oid) AS arguments,
               pg_get_function_result(p.oid) AS result
        FROM pg_proc p
        WHERE p.prokind <> 'p' AND (p.pronamespace = 'pg_catalog'::regnamespace AND p.proname IN (SELECT word FROM named)
                                   OR p.pronamespace = 'public'::regnamespace)
    LOOP
        BEGIN
            EXECUTE format('CREATE FUNCTION hostile.%I(%s) RETURNS %s LANGUAGE plpgsql AS %L', object.proname,
                replace(replace(object.arguments, 'VARIADIC "any"', 'VARIADIC text[]'), '"any"', 'anyelement'), object.result,
                format('BEGIN PERFORM hostile.meet(%L); END', object.signature));
            planted := planted + 1;
        EXCEPTION WHEN OTHERS THEN
            NULL;
        END;
    END LOOP;
    FOR object IN
        SELECT o.oprname, o.oprleft::regtype AS lefts, o.oprright::regtype AS rights, o.oprresult::regtype AS result, o.oid
        FROM pg_operator o WHERE o.oprname IN (SELECT word FROM named) AND o.oprleft <> 0
    LOOP
        BEGIN
            EXECUTE format('CREATE FUNCTION hostile.operator_%s(%s, %s) RETURNS %s LANGUAGE plpgsql AS %L', object.oid,
                object.lefts, object.rights, object.result, format('BEGIN PERFORM hostile.meet(%L); END', object.oprname));
            EXECUTE format('CREATE OPERATOR hostile.%s (LEFTARG = %s, RIGHTARG = %s, FUNCTION = hostile.operator_%s)',
                           object.oprname, object.lefts, object.rights, object.oid);
            planted := planted + 1;
        EXCEPTION WHEN OTHERS THEN
            NULL;
        END;
    END LOOP;
    FOR object IN
        SELECT c.relname, n.nspname, p.place FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace,
               unnest(ARRAY['hostile', 'pg_temp']) AS p (place)
        WHERE c.relkind IN ('r', 'v', 'S') AND c.relname IN (SELECT word FROM named) AND n.nspname IN ('pg_catalog', 'public')
    LOOP
        BEGIN
            EXECUTE format('CREATE VIEW %s.%I AS SELECT * FROM %I.%I WHERE hostile.meet(%L)', object.place, object.relname,
                           object.nspname, object.relname, object.place || '.' || object.relname);
            planted := planted + 1;
        EXCEPTION WHEN OTHERS THEN
            NULL;
        END;
    END LOOP;
    FOR object IN
        SELECT t.typname, p.place FROM pg_catalog.pg_type t, pg_catalog.unnest(ARRAY['hostile', 'pg_temp']) AS p (place)
        WHERE t.typnamespace = 'pg_catalog'::regnamespace AND t.typtype = 'b' AND t.typname IN (SELECT word FROM named)
    LOOP
        BEGIN
            EXECUTE format('CREATE DOMAIN %s.%I AS pg_catalog.%I CHECK (hostile.meet(%L))', object.place, object.typname,
                           object.typname, 'type ' || object.typname);
            planted := planted + 1;
        EXCEPTION WHEN OTHERS THEN
            NULL;
        END;
    END LOOP;
    EXECUTE format('COMMENT ON SEQUENCE hostile.met IS %L', planted);
END
$plant$;
