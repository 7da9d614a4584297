-- Searches go on in an index until enough is found that satisfies a filter: pgvector can do that since 0.8.
DO $$
DECLARE
    found constant text := (SELECT e.extversion FROM pg_catalog.pg_extension e WHERE e.extname OPERATOR(pg_catalog.=) 'vector');
BEGIN
    IF pg_catalog.string_to_array(pg_catalog.substring(found, '^[0-9]+[.][0-9]+'), '.')::integer[] OPERATOR(pg_catalog.<) ARRAY[0, 8] THEN
        RAISE EXCEPTION 'pgvector % is too old: pg_steadytext needs 0.8 or later', found
            USING ERRCODE = '0A000', HINT = 'Install a newer pgvector, then ALTER EXTENSION vector UPDATE.';
    END IF;
END
$$;

