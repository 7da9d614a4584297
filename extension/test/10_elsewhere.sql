-- The extension in a schema of its own, vector in another, neither in the search_path.
\ir setup.psql
SELECT plan(6);

SET LOCAL search_path = pg_catalog;
SELECT nspname AS tap FROM pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace WHERE extname = 'pgtap' \gset
DROP EXTENSION pg_steadytext;
DROP EXTENSION vector CASCADE;
CREATE SCHEMA steady;
CREATE SCHEMA vectors;
CREATE EXTENSION vector SCHEMA vectors;
CREATE EXTENSION pg_steadytext SCHEMA steady;
SELECT steady.steadytext_config_set('daemon_host', :'host') WHERE :'host' <> '' \g /dev/null
SELECT steady.steadytext_config_set('daemon_port', :'port') WHERE :'port' <> '' \g /dev/null
SET LOCAL search_path = pg_catalog, :tap;
SELECT ok(length(steady.steadytext_generate('elsewhere', 3)) > 0, 'generate');
SELECT is(steady.st_generate('elsewhere', 3), steady.steadytext_generate('elsewhere', 3), 'alias');
SELECT is((SELECT string_agg(p, '') FROM steady.steadytext_generate_stream('elsewhere', 3) p), steady.steadytext_generate('elsewhere', 3), 'stream');
SELECT is(vectors.vector_dims(steady.steadytext_embed('elsewhere')), 384, 'embed');
SELECT is(count(*), 2::bigint, 'batch') FROM steady.steadytext_embed_batch(ARRAY['elsewhere', 'here']);
SELECT is(count(*), 1::bigint, 'search') FROM steady.steadytext_semantic_search('elsewhere', 1, 0);

SELECT * FROM finish();
ROLLBACK;
