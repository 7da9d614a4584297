\ir setup.psql
SELECT plan(58);

CREATE TABLE articles (id integer PRIMARY KEY, title text, body text);
INSERT INTO articles VALUES (1, 'Trees', 'Roots take up water from the soil.'), (2, 'Food', 'Soup is hot.'), (3, 'Empty', ' ');

SELECT ok(steadytext_autoembed('articles', 'body', mode => 'manual') > 0, 'a column is declared');
SELECT has_column('articles', 'embedding', 'which adds the column for the vectors');
SELECT col_type_is('articles', 'embedding', 'vector(384)', 'of the model''s dimensions');
SELECT is(steadytext_autoembed_run('articles'), 3::bigint, 'rows that were there are embedded by the call');
SELECT is(embedding::text, steadytext_embed(body)::text, 'each with its text''s vector') FROM articles WHERE id = 1;
SELECT is(embedding, NULL, 'and none for a blank text') FROM articles WHERE id = 3;
INSERT INTO articles VALUES (4, 'City', 'The bus stops here.');
SELECT is(pending, 1::bigint, 'a new row is pending') FROM steadytext_autoembed_status('articles');
SELECT is(retry_status, 'pending') FROM steadytext_autoembed_row_status('articles', '4');
SELECT is(st_autoembed_run('articles'), 1::bigint, 'until it is embedded');
SELECT is(retry_status, 'completed') FROM steadytext_autoembed_row_status('articles', '4');
SELECT is(steadytext_autoembed_run('articles'), 0::bigint, 'once');
SELECT results_eq($$SELECT total, embedded, pending, processing, failed, state FROM steadytext_autoembed_status('articles')$$,
    $$VALUES (4::bigint, 3::bigint, 0::bigint, 0::bigint, 0::bigint, 'active')$$, 'the status counts');

SELECT is((SELECT key FROM steadytext_search('articles', 'how do plants drink', 1)), '{"id": 1}'::jsonb, 'found by meaning');
SELECT is((SELECT content FROM steadytext_search('articles', 'bus', 1, 'keyword')), 'The bus stops here.', 'found by word');
SELECT is((SELECT array_agg(key ->> 'id' ORDER BY key ->> 'id') FROM st_search('articles', 'bus or soup', 5, 'keyword')), '{2,4}', 'a web search''s or');
SELECT is((SELECT array_agg(key ->> 'id' ORDER BY key ->> 'id') FROM steadytext_search('articles', 'hot bus', 5, 'keyword')), '{2,4}', 'any word where all find too little');
SELECT is((SELECT count(*) FROM steadytext_search('articles', 'water', 5, 'vector', filter => 'id > 1')), 2::bigint, 'a filter is obeyed');
SELECT is((SELECT score FROM steadytext_search('articles', 'bus', 1)), (1 / 61.0 + 1 / 61.0)::double precision, 'first in both arms: 2 / (60 + 1)');
SELECT ok((SELECT bool_and(score BETWEEN 0 AND 1) FROM steadytext_search('articles', 'soup', 3, rerank => true)), 'reranked scores');
SELECT throws_ok($$SELECT * FROM steadytext_search('articles', NULL)$$, '22004', 'query cannot be null');
SELECT throws_ok($$SELECT * FROM steadytext_search('articles', '')$$, '22023', 'query cannot be empty');
SELECT throws_ok($$SELECT * FROM steadytext_search('articles', 'x', 0)$$, '22023', 'k must be between 1 and 1000');
SELECT throws_ok($$SELECT * FROM steadytext_search('articles', 'x', NULL)$$, '22004', 'k, mode and rerank cannot be null');
SELECT throws_ok($$SELECT * FROM steadytext_search('articles', 'x', 1, 'fuzzy')$$, '22023', 'mode must be hybrid, vector or keyword, not "fuzzy"');
SELECT throws_ok($$SELECT * FROM steadytext_search('articles', 'x', filter => ' ')$$, '22023', 'filter cannot be empty');
SELECT throws_ok($$SELECT * FROM steadytext_search('pg_class', 'x')$$, 'P0002', 'table pg_class has no automatic embedding');

CREATE TABLE other (id integer PRIMARY KEY, body text, wide point, embedding text);
CREATE TABLE keyless (body text);
CREATE TABLE pointed (id money PRIMARY KEY, body text);
CREATE VIEW seen AS SELECT * FROM articles;
SELECT throws_ok($$SELECT steadytext_autoembed(NULL, 'body')$$, '22004', 'relation, index, index_params, mode, backfill, language and unsafe_mode cannot be null');
SELECT throws_ok($$SELECT steadytext_autoembed('other', NULL::text)$$, '22004', 'column_name cannot be null');
SELECT throws_ok($$SELECT steadytext_autoembed('other')$$, '22023', 'either columns or a template must be given');
SELECT throws_ok($$SELECT steadytext_autoembed('other', '{}'::text[])$$, '22023', 'columns must name at least one column, and no null');
SELECT throws_ok($$SELECT steadytext_autoembed('other', template => 'x')$$, '22023', 'template must name at least one column in braces, as in ''{title}: {body}''');
SELECT throws_ok($$SELECT steadytext_autoembed('other', 'nothing')$$, '42703', 'table public.other has no column "nothing"');
SELECT throws_ok($$SELECT steadytext_autoembed('other', 'body')$$, '42804', 'column "embedding" of table public.other has type text, but the vectors are of type vector(384)');
SELECT throws_ok($$SELECT steadytext_autoembed('other', 'body', destination => 'v', index => 'b')$$, '22023', 'index must be hnsw, ivfflat or none, not "b"');
SELECT throws_ok($$SELECT steadytext_autoembed('other', 'body', destination => 'v', index_params => '{"x": 1}')$$, '22023', 'index_params may hold m and ef_construction (hnsw) or lists (ivfflat), as whole numbers');
SELECT throws_ok($$SELECT steadytext_autoembed('other', 'body', destination => 'v', mode => 'b')$$, '22023', 'mode must be auto or manual, not "b"');
SELECT throws_ok($$SELECT steadytext_autoembed('other', 'body', destination => 'v', language => 'b')$$, '22023', 'there is no text search configuration "b"');
SELECT throws_ok($$SELECT steadytext_autoembed('other', 'body', destination => 'v', filter => ' ')$$, '22023', 'filter cannot be empty');
SELECT throws_ok($$SELECT steadytext_autoembed('other', 'body', destination => 'v', filter => 'nothing')$$, '22023', NULL, 'a filter must be a condition');
SELECT throws_ok($$SELECT steadytext_autoembed('other', 'body', destination => 'v', model => 'x')$$, 'P0002', 'there is no embedding model "x"');
SELECT throws_ok($$SELECT steadytext_autoembed('keyless', 'body')$$, '55000', 'table public.keyless has no primary key');
SELECT throws_ok($$SELECT steadytext_autoembed('pointed', 'body')$$, '0A000', NULL, 'a key''s type must be one by which rows are found again');
SELECT throws_ok($$SELECT steadytext_autoembed('seen', 'body')$$, '42809', 'public.seen is not a table that can be embedded');
SELECT throws_ok($$SELECT steadytext_autoembed('articles', 'title')$$, '23505', 'table public.articles is embedded into "embedding" already');
SELECT ok(steadytext_autoembed('articles', ARRAY['title', 'body'], destination => 'both', mode => 'manual') > 0, 'a table is embedded twice');
SELECT throws_ok($$SELECT steadytext_autoembed_pause('articles')$$, '22023', 'table public.articles has 2 automatic embeddings');
SELECT lives_ok($$SELECT steadytext_autoembed_pause('articles', 'both')$$, 'the destination says which');
SELECT is(state, 'paused') FROM steadytext_autoembed_status('articles') WHERE destination = 'both';
SELECT lives_ok($$SELECT steadytext_autoembed_resume('articles', 'both')$$);
SELECT lives_ok($$SELECT steadytext_autoembed_drop('articles', 'both', drop_vectors => true)$$);
SELECT hasnt_column('articles', 'both', 'dropped with its vectors');
SELECT throws_ok($$SELECT steadytext_autoembed_drop('articles', 'both')$$, 'P0002', 'table public.articles has no automatic embedding into "both"');
SELECT throws_ok($$SELECT steadytext_autoembed_wait('articles', NULL)$$, '22004', 'timeout_seconds cannot be null');
SELECT throws_ok($$SELECT steadytext_autoembed_run('articles', 0)$$, '22023', 'batch_size must be at least 1');
SELECT throws_ok($$SELECT steadytext_autoembed_alter('articles', ARRAY['body'], '{body}')$$, '22023', 'columns and template cannot both be given');
SELECT throws_ok($$SELECT steadytext_autoembed_alter('articles', backfill_rate => 0)$$, '22023', 'backfill_rate must be at least 1');
SELECT is(steadytext_autoembed_retry('articles'), 0::bigint, 'nothing has failed');
SELECT lives_ok($$SELECT steadytext_autoembed_alter('articles', template => '{title}: {body}')$$, 'a declaration changes');

SELECT * FROM finish();
ROLLBACK;
