-- st_* names: the same functions with the same arguments, defaults, results and volatility, written from the catalogue
-- so that the two cannot differ. An update makes them for new functions only. Summaries and facts have their former names too.
DO $$
DECLARE
    original record;
BEGIN
    FOR original IN
        SELECT p.oid, p.proname, a.prefix, p.proretset, p.provolatile, p.prorettype = 'void'::regtype AS is_void,
               pg_catalog.pg_get_function_arguments(p.oid) AS arguments,
               pg_catalog.pg_get_function_result(p.oid) AS result,
               pg_catalog.array_to_string(ARRAY(
                   SELECT '$' || n FROM pg_catalog.generate_series(1, p.pronargs) n), ', ') AS passed,
               'record'::regtype = p.prorettype AS is_record
        FROM pg_catalog.pg_proc p
        JOIN (VALUES ('st_', ''), ('ai_', '_(summarize_text|extract_facts|deduplicate_facts)$')) a (prefix, which)
            ON p.proname ~ a.which
        WHERE p.pronamespace = '@extschema@'::regnamespace AND p.proname LIKE 'steadytext\_%'
          AND p.proname NOT LIKE 'steadytext\_model%' AND p.prokind = 'f'
          AND p.oid <> ALL (coalesce(pg_catalog.current_setting('pg_steadytext.functions_before', true), '{}')::oid[])
    LOOP
        EXECUTE pg_catalog.format(
            'CREATE FUNCTION @extschema@.%I(%s) RETURNS %s LANGUAGE sql %s BEGIN ATOMIC SELECT %s; END',
            original.prefix || pg_catalog.substr(original.proname, 12), original.arguments, original.result,
            CASE original.provolatile WHEN 'i' THEN 'IMMUTABLE' WHEN 's' THEN 'STABLE' ELSE 'VOLATILE' END,
            CASE WHEN original.is_record
                 THEN pg_catalog.format('* FROM @extschema@.%I(%s)', original.proname, original.passed)
                 ELSE pg_catalog.format('@extschema@.%I(%s)', original.proname, original.passed) END);
    END LOOP;
END
$$;

-- Aggregates: the same support functions under the other name.
DO $$
DECLARE
    original record;
BEGIN
    FOR original IN
        SELECT p.proname, n.prefix, pg_catalog.pg_get_function_arguments(p.oid) AS arguments, a.aggtransfn, a.aggfinalfn,
               pg_catalog.format_type(a.aggtranstype, NULL) AS state
        FROM pg_catalog.pg_proc p JOIN pg_catalog.pg_aggregate a ON a.aggfnoid = p.oid
        JOIN (VALUES ('st_', ''), ('ai_', '_summarize')) n (prefix, which) ON p.proname ~ n.which
        WHERE p.pronamespace = '@extschema@'::regnamespace AND p.proname LIKE 'steadytext\_%'
          AND p.oid <> ALL (coalesce(pg_catalog.current_setting('pg_steadytext.functions_before', true), '{}')::oid[])
    LOOP
        EXECUTE pg_catalog.format(
            'CREATE AGGREGATE @extschema@.%I(%s) (SFUNC = %s, STYPE = %s, FINALFUNC = %s)',
            original.prefix || pg_catalog.substr(original.proname, 12), original.arguments, original.aggtransfn, original.state,
            original.aggfinalfn);
    END LOOP;
END
$$;
