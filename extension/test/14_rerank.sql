\ir setup.psql
SELECT plan(45);

SELECT ARRAY['The bus stops here.', 'Oaks are large trees.', 'Soup is hot.', 'Oaks are large trees.', 'A pine is a tree.']::text AS docs \gset
CREATE TEMP TABLE ranked AS SELECT row_number() OVER () AS place, r.* FROM steadytext_rerank('trees in a forest', :'docs') r;
SELECT is(count(*), 5::bigint, 'every document is ranked') FROM ranked;
SELECT ok(document ~ 'trees|tree', 'the best is about the query') FROM ranked WHERE place = 1;
SELECT ok(bool_and(score BETWEEN 0 AND 1), 'scores lie between 0 and 1') FROM ranked;
SELECT is_empty('SELECT FROM ranked a JOIN ranked b ON b.place = a.place + 1 WHERE b.score > a.score', 'best first');
SELECT is(count(DISTINCT score), 1::bigint, 'equal documents have equal scores') FROM ranked WHERE document LIKE 'Oaks%';
SELECT results_eq(format('SELECT * FROM steadytext_rerank(''trees in a forest'', %L)', :'docs'), 'SELECT document, score FROM ranked ORDER BY place', 'again the same');
SELECT results_eq(format('SELECT * FROM st_rerank_docs_only(''trees in a forest'', %L)', :'docs'), 'SELECT document FROM ranked ORDER BY place', 'documents only');
SELECT results_eq(format('SELECT * FROM steadytext_rerank_top_k(''trees in a forest'', %L, 2)', :'docs'), 'SELECT document, score FROM ranked WHERE place < 3 ORDER BY place', 'the best two');
SELECT is(count(*), 5::bigint, 'more than there are') FROM steadytext_rerank_top_k('trees', :'docs', 100);
SELECT is(count(score), 0::bigint, 'scores only where they are wanted') FROM steadytext_rerank('trees', :'docs', return_scores => false);
SELECT results_eq(format('SELECT document, score FROM steadytext_rerank_batch(ARRAY[''soup'', ''trees in a forest''], %L) WHERE query_index = 1', :'docs'),
    'SELECT document, score FROM ranked ORDER BY place', 'a batch ranks by each query');
SELECT results_eq(format('SELECT DISTINCT query_index FROM steadytext_rerank_batch(ARRAY[''soup'', ''trees''], %L) ORDER BY 1', :'docs'), ARRAY[0, 1], 'counted from 0');
SELECT is(count(*), 0::bigint, 'no documents, no rows') FROM steadytext_rerank('trees', '{}');

SELECT results_eq(format('SELECT * FROM steadytext_rerank(''trees in a forest'', %L, model => ''all-minilm-l6-v2'')', :'docs'),
    'SELECT document, score FROM ranked ORDER BY place', 'the default is the embeddings'' cosine');
CREATE TEMP TABLE judged AS SELECT row_number() OVER () AS place, r.* FROM steadytext_rerank('trees in a forest', :'docs', model => 'smollm2-135m-instruct') r;
SELECT is(count(*), 5::bigint, 'a text model ranks every document') FROM judged;
SELECT ok(bool_and(score BETWEEN 0 AND 1), 'with scores between 0 and 1') FROM judged;
SELECT is_empty('SELECT FROM judged a JOIN judged b ON b.place = a.place + 1 WHERE b.score > a.score', 'best first too');
SELECT ok(NOT EXISTS (SELECT score FROM judged INTERSECT SELECT score FROM ranked), 'the model decides the scores');
SELECT results_eq('SELECT r.document, r.score FROM judged j, steadytext_rerank(''trees in a forest'', ARRAY[j.document], model => ''smollm2-135m-instruct'') r',
    'SELECT document, score FROM judged', 'alone the same as among others');
SELECT results_eq(format('SELECT document, score FROM steadytext_rerank_batch(ARRAY[''soup'', ''trees in a forest''], %L, model => ''smollm2-135m-instruct'') WHERE query_index = 1', :'docs'),
    'SELECT document, score FROM judged ORDER BY place', 'and in a batch of queries');
SELECT results_ne(format('SELECT * FROM steadytext_rerank(''trees in a forest'', %L, ''Which documents are about food?'', model => ''smollm2-135m-instruct'')', :'docs'),
    'SELECT document, score FROM judged ORDER BY place', 'a text model heeds the task');
SELECT results_eq(format('SELECT * FROM steadytext_rerank(''trees in a forest'', %L, seed => 7, model => ''smollm2-135m-instruct'')', :'docs'),
    'SELECT document, score FROM judged ORDER BY place', 'the seed has no say');
SELECT is(steadytext_config_set('default_rerank_model', 'smollm2-135m-instruct')::text, '', 'a text model can be the default');
SELECT results_eq(format('SELECT * FROM steadytext_rerank_top_k(''trees in a forest'', %L, 2)', :'docs'), 'SELECT document, score FROM judged WHERE place < 3 ORDER BY place', 'and then it ranks');
SELECT steadytext_rerank_async('trees', ARRAY['oaks']) AS queued \gset
SELECT is(params -> 'request' ->> 'model', 'smollm2-135m-instruct', 'a queued request carries its model')
FROM steadytext_queue WHERE request_id = :'queued';

SELECT throws_ok($$SELECT steadytext_config_set('default_rerank_model', 'nobody')$$, 'P0002', 'default_rerank_model: there is no rerank model "nobody"');
SELECT throws_ok($$SELECT * FROM steadytext_rerank('q', ARRAY['a'], model => 'nobody')$$, 'P0002', 'there is no rerank model "nobody"');
SELECT throws_ok($$SELECT * FROM steadytext_rerank('q', ARRAY['a'], model => 'openai:any')$$, '22023', 'Remote models (containing '':'' ) require unsafe_mode=TRUE');
SELECT throws_ok($$SELECT * FROM steadytext_rerank('q', ARRAY['a'], unsafe_mode => true)$$, '22023', 'unsafe_mode=TRUE requires a model parameter');
SELECT throws_ok($$SELECT * FROM steadytext_rerank('q', ARRAY['b', repeat('a ', 20000)], model => 'smollm2-135m-instruct')$$, '22001', NULL, 'a document beyond the context');
SELECT throws_ok($$SELECT * FROM steadytext_rerank(NULL, ARRAY['a'])$$, '22004', 'Query cannot be null');
SELECT throws_ok($$SELECT * FROM steadytext_rerank(' ', '{}')$$, '22023', 'Query cannot be empty');
SELECT throws_ok($$SELECT * FROM steadytext_rerank('q', NULL)$$, '22004', 'Documents cannot be null');
SELECT throws_ok($$SELECT * FROM steadytext_rerank('q', ARRAY['a', NULL])$$, '22004', 'Documents cannot contain null elements');
SELECT throws_ok($$SELECT * FROM steadytext_rerank('q', ARRAY['a'], return_scores => NULL)$$, '22004', 'return_scores cannot be null');
SELECT throws_ok($$SELECT * FROM steadytext_rerank('q', ARRAY['a'], seed => -1)$$, '22023', 'seed must be non-negative');
SELECT throws_ok($$SELECT * FROM steadytext_rerank('q', ARRAY['a'], task => NULL)$$, '22004', 'task cannot be null');
SELECT throws_ok($$SELECT * FROM steadytext_rerank_top_k('q', ARRAY['a'], 0)$$, '22023', 'top_k must be greater than 0');
SELECT throws_ok($$SELECT * FROM steadytext_rerank_top_k('q', ARRAY['a'], NULL)$$, '22004', 'top_k cannot be null');
SELECT results_eq($$SELECT * FROM steadytext_rerank_batch('[4:5]={soup,trees}', '[3:4]={broth,oak}')$$,
    $$SELECT * FROM steadytext_rerank_batch('{soup,trees}', '{broth,oak}')$$, 'arrays that count from anywhere');
SELECT results_eq($$SELECT * FROM steadytext_rerank_batch('{{soup},{trees}}', '{{broth,oak},{car,tea}}')$$,
    $$SELECT * FROM steadytext_rerank_batch('{soup,trees}', '{broth,oak,car,tea}')$$, 'arrays of two dimensions');
SELECT results_eq($$SELECT * FROM steadytext_rerank('soup', '{{broth,oak},{car,tea}}')$$,
    $$SELECT * FROM steadytext_rerank('soup', '{broth,oak,car,tea}')$$, 'in the order that they are stored in');
SELECT throws_ok($$SELECT * FROM steadytext_rerank('soup', '{{broth,oak},{NULL,tea}}')$$, '22004', 'Documents cannot contain null elements');
SELECT throws_ok($$SELECT * FROM steadytext_rerank_batch('{}', ARRAY['a'])$$, '22023', 'queries cannot be empty');
SELECT throws_ok($$SELECT * FROM steadytext_rerank_batch(ARRAY['q', NULL], ARRAY['a'])$$, '22004', 'queries[2] cannot be null');

SELECT * FROM finish();
ROLLBACK;
