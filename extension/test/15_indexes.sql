\ir setup.psql
SELECT plan(38);

SELECT steadytext_index_create('notes', ARRAY['Oaks are large trees.', 'The bus stops here.', 'Oaks are large trees.', 'Soup is hot.']) \g /dev/null
SELECT results_eq($$SELECT index_name, owner, dimension, document_count FROM steadytext_index_list()$$,
    $$VALUES ('notes', session_user::name, 384, 3)$$, 'an index holds each document once');
SELECT is((SELECT document FROM steadytext_index_search('notes', 'a forest', 1)), 'Oaks are large trees.', 'the nearest comes first');
SELECT is(count(*), 3::bigint, 'as many as there are') FROM st_index_search('notes', 'a forest', 10);
SELECT ok(bool_and(similarity BETWEEN -1.0001 AND 1.0001), 'similarity is a cosine') FROM steadytext_index_search('notes', 'a forest');
SELECT is(similarity, (1 - (steadytext_embed('Soup is hot.') <=> steadytext_embed('dinner')))::double precision, 'of the embeddings that SQL makes')
FROM steadytext_index_search('notes', 'dinner', 10) WHERE document = 'Soup is hot.';
SELECT is(steadytext_index_add('notes', ARRAY['Soup is hot.', 'Rivers flow.', 'Rivers flow.', 'Trains are fast.']), 2::bigint, 'adding tells how many are new');
SELECT is(document_count, 5, 'and counts them') FROM steadytext_indexes;
SELECT is(steadytext_index_add('notes', '{}'), 0::bigint, 'adding nothing is nothing');
SELECT steadytext_index_create('empty') \g /dev/null
SELECT is(count(*), 0::bigint, 'an empty index finds nothing') FROM steadytext_index_search('empty', 'anything');
SELECT is(steadytext_index_add('empty', ARRAY['first']), 1::bigint, 'until it has something');
SELECT is((SELECT document FROM steadytext_index_search('empty', 'anything')), 'first', 'which it then finds');

SELECT throws_ok($$SELECT steadytext_index_create('notes')$$, '23505', 'index "notes" exists already');
SELECT throws_ok($$SELECT steadytext_index_create(NULL)$$, '22004', 'index_name cannot be null');
SELECT throws_ok($$SELECT steadytext_index_create(' ')$$, '22023', 'index_name must have 1 to 200 characters');
SELECT throws_ok($$SELECT steadytext_index_create(repeat('x', 201))$$, '22023', 'index_name must have 1 to 200 characters');
SELECT throws_ok($$SELECT steadytext_index_create('x', NULL)$$, '22004', 'documents cannot be null');
SELECT throws_ok($$SELECT steadytext_index_create('x', ARRAY['a', NULL])$$, '22004', 'documents[2] cannot be null');
SELECT throws_ok($$SELECT steadytext_index_create('x', ARRAY['a', ' '])$$, '22023', 'documents[2] cannot be empty');
SELECT throws_ok($$SELECT steadytext_index_add('nothing', ARRAY['a'])$$, 'P0002', 'there is no index "nothing"');
SELECT throws_ok($$SELECT * FROM steadytext_index_search('nothing', 'a')$$, 'P0002', 'there is no index "nothing"');
SELECT throws_ok($$SELECT * FROM steadytext_index_search('notes', NULL)$$, '22004', 'query cannot be null');
SELECT throws_ok($$SELECT * FROM steadytext_index_search('notes', '')$$, '22023', 'query cannot be empty');
SELECT throws_ok($$SELECT * FROM steadytext_index_search('notes', 'a', 0)$$, '22023', 'top_k must be between 1 and 10000');
SELECT throws_ok($$SELECT * FROM steadytext_index_search('notes', 'a', NULL)$$, '22004', 'top_k cannot be null');
SELECT is(steadytext_index_drop('nothing'), false, 'there is nothing to drop');
SELECT throws_ok($$SELECT steadytext_index_drop(NULL)$$, '22004', 'name cannot be null');

-- with an HNSW index
CREATE TEMP TABLE exact AS SELECT row_number() OVER () AS place, f.* FROM steadytext_index_search('notes', 'a forest', 5) f;
SELECT _steadytext_index_build(id, dimension) FROM steadytext_indexes WHERE index_name = 'notes' \g /dev/null
SELECT has_index('_steadytext_index_documents', format('_steadytext_index_%s_hnsw', id), 'a large index has its own HNSW index') FROM steadytext_indexes WHERE index_name = 'notes';
SET LOCAL enable_seqscan = off;
SELECT results_eq($$SELECT document FROM steadytext_index_search('notes', 'a forest', 5)$$, 'SELECT document FROM exact ORDER BY place', 'which finds the same');
SELECT is(steadytext_index_add('notes', ARRAY['A forest is many trees.']), 1::bigint, 'it takes more');
SELECT is((SELECT document FROM steadytext_index_search('notes', 'a forest', 1)), 'A forest is many trees.', 'and finds them');

-- other weights
UPDATE steadytext_indexes SET model_digest = repeat('0', 64), dimension = 1024 WHERE index_name = 'empty';
SELECT throws_ok($$SELECT * FROM steadytext_index_search('empty', 'a')$$, '55000',
    'index "empty" was made by other weights of model "all-minilm-l6-v2": its vectors have 1024 dimensions, new ones have 384');
SELECT throws_ok($$SELECT steadytext_index_add('empty', ARRAY['b'])$$, '55000', NULL, 'nor are other vectors added');

-- other roles
CREATE ROLE steadytext_tap_one LOGIN;
GRANT steadytext_user TO steadytext_tap_one;
SET LOCAL ROLE steadytext_tap_one;
SELECT steadytext_index_create('notes', ARRAY['mine']) \g /dev/null
SELECT string_agg(document, ',') AS seen FROM steadytext_index_search('notes', 'trees', 100) \gset
SELECT count(*) AS listed FROM steadytext_index_list() \gset
SELECT count(*) AS visible FROM steadytext_indexes \gset
RESET ROLE;
SELECT is(:'seen'::text, 'mine', 'an index of the same name is another''s own');
SELECT is(ARRAY[:listed, :visible], ARRAY[1, 1], 'nobody sees others'' indexes');
SELECT is(count(*), 3::bigint, 'except administrators') FROM steadytext_index_list();
SELECT is(has_table_privilege('steadytext_tap_one', '_steadytext_index_documents', 'SELECT'), false, 'documents are read through the functions alone');
SELECT is(steadytext_index_drop('notes', 'steadytext_tap_one'), true, 'an administrator may drop another''s');
SELECT is(steadytext_index_drop('notes'), true, 'and everybody one''s own');

SELECT * FROM finish();
ROLLBACK;
