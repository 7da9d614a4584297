\ir setup.psql
SELECT plan(75);

CREATE TABLE notes (id integer PRIMARY KEY, content text, other integer);
CREATE TABLE words (id text PRIMARY KEY, source_id text, word text, place integer DEFAULT 7);
CREATE FUNCTION cut(key text, content text) RETURNS jsonb LANGUAGE sql AS $$
    SELECT jsonb_agg(jsonb_build_object('word', w, 'place', 100 / length(w))) FROM regexp_split_to_table(content, ' ') w $$;
INSERT INTO notes VALUES (1, 'one two'), (2, NULL), (3, ' ');

SELECT ok(steadytext_layer('notes', 'words', 'nothing', 'cut(text, text)') > 0, 'a layer is declared');
SELECT results_eq($$SELECT layer, source, ask, model, total, completed, pending, processing, failed FROM steadytext_layer_status('words')$$,
    $$VALUES ('public.words', 'public.notes', 'nothing', NULL, 3::bigint, 0::bigint, 3::bigint, 0::bigint, 0::bigint)$$, 'whose source''s rows wait');
SELECT is((SELECT count(*) FROM steadytext_queue WHERE lane = 'layer' AND status = 'pending'), 3::bigint, 'in the queue');
SELECT is(steadytext_layer_run('words'), 3::bigint, 'a call works on them');
SELECT results_eq($$SELECT source_id, word, place FROM words ORDER BY word$$, $$VALUES ('1', 'one', 33), ('1', 'two', 33)$$, 'rows of the function''s');
SELECT is((SELECT count(*) FROM steadytext_queue WHERE lane = 'layer' AND status = 'pending'), 0::bigint, 'a worker finds nothing to do');
SELECT is(steadytext_layer_run('words'), 0::bigint, 'once');
SELECT is(retry_status, 'completed') FROM steadytext_layer_row_status('words', '1');
SELECT is(retry_status, NULL) FROM steadytext_layer_row_status('words', '99');

CREATE TEMPORARY TABLE kept AS SELECT id, word FROM words;
UPDATE notes SET other = 5;
SELECT is(pending, 0::bigint, 'a change of another column is none') FROM steadytext_layer_status('words');
UPDATE notes SET content = 'two three' WHERE id = 1;
SELECT is(pending, 1::bigint, 'a change of the text is one') FROM steadytext_layer_status('words');
SELECT is(retry_status, 'pending') FROM st_layer_row_status('words', '1');
SELECT is(st_layer_run('words'), 1::bigint);
SELECT results_eq($$SELECT word FROM words ORDER BY word$$, $$VALUES ('three'), ('two')$$, 'rows of the old text are gone');
SELECT is((SELECT id FROM words WHERE word = 'two'), (SELECT id FROM kept WHERE word = 'two'), 'what is said again keeps its row');
INSERT INTO notes VALUES (4, 'x'), (5, 'a  b');
SELECT is(steadytext_layer_run('words', 10), 2::bigint);
SELECT results_eq($$SELECT key, error, retry_count FROM steadytext_layer_failures('words')$$, $$VALUES ('5', 'division by zero', 0)$$, 'a row that fails is listed, alone');
SELECT is((SELECT count(*) FROM words WHERE source_id = '4'), 1::bigint, 'the others are done');
SELECT is((SELECT failed FROM steadytext_layer_status('words')), 1::bigint);
SELECT is((SELECT error FROM steadytext_layer_row_status('words', '5')), 'division by zero');
UPDATE notes SET content = 'a b' WHERE id = 5;
SELECT is(steadytext_layer_run('words'), 1::bigint, 'a new text is tried anew');
SELECT is((SELECT failed FROM steadytext_layer_status('words')), 0::bigint);
DELETE FROM notes WHERE id = 5;
SELECT is(steadytext_layer_run('words'), 1::bigint);
SELECT is((SELECT count(*) FROM words WHERE source_id = '5'), 0::bigint, 'a deleted row takes what was made of it along');
SELECT is(total, 4::bigint) FROM steadytext_layer_status('words');
UPDATE notes SET id = 10 WHERE id = 4;
SELECT is(steadytext_layer_run('words'), 2::bigint, 'a new key is a new row, the old one is gone');
SELECT results_eq($$SELECT source_id FROM words WHERE word = 'x'$$, $$VALUES ('10')$$);
SELECT is(steadytext_layer_retry('words'), 0::bigint, 'nothing failed');
SELECT ok(steadytext_layer_wait('words', timeout_seconds => 0), 'nothing to wait for');
INSERT INTO notes VALUES (6, 'six');
SELECT ok(NOT steadytext_layer_wait('words', ARRAY['6'], 0.01), 'a row that waits');
SELECT ok(steadytext_layer_wait('words', ARRAY['1'], 0.01), 'is not another');

CREATE TABLE meanings (id text PRIMARY KEY, source_id text, size integer);
CREATE FUNCTION measured(key text, meaning text) RETURNS jsonb LANGUAGE sql AS $$
    SELECT jsonb_build_array(jsonb_build_object('size', vector_dims(meaning::vector))) $$;
SELECT ok(steadytext_layer('notes', 'meanings', 'embed', 'measured(text,text)') > 0, 'a layer of vectors');
SELECT ok(steadytext_layer_run('meanings') > 0);
SELECT is((SELECT array_agg(DISTINCT size) FROM meanings), '{384}', 'asks for them');
CREATE TABLE names (id text PRIMARY KEY, source_id text, name text);
SELECT ok(steadytext_layer('words', 'names', 'generate', options => '{"prompt": "Names in: {text}", "rows": "names", "max_tokens": 64, "schema":
    {"type": "object", "required": ["names"], "additionalProperties": false, "properties": {"names": {"type": "array", "minItems": 1, "maxItems": 1,
     "items": {"type": "object", "required": ["name"], "additionalProperties": false, "properties": {"name": {"type": "string", "maxLength": 8}}}}}}}',
    column_name => 'word') > 0, 'a layer over a layer, by the model');
SELECT ok(steadytext_layer_run('names') > 0);
SELECT ok((SELECT count(name) = count(DISTINCT source_id) AND count(*) > 0 FROM names), 'with the rows that its schema has');

SELECT steadytext_autoembed('notes', 'content', mode => 'manual') \g /dev/null
SELECT steadytext_autoembed('words', 'word', mode => 'manual') \g /dev/null
SELECT steadytext_autoembed_run('notes'), steadytext_autoembed_run('words') \g /dev/null
SELECT is((SELECT count(DISTINCT relation) FROM steadytext_search_layers(ARRAY['notes', 'words']::regclass[], 'three', 4)), 2::bigint, 'a search over both');
SELECT is((SELECT array_agg(score) FROM steadytext_search_layers(ARRAY['notes', 'words']::regclass[], 'three', 2)),
    ARRAY[1 / 61.0, 1 / 61.0]::double precision[], 'in which the best of each count the same');
SELECT is((SELECT array_agg(rank) FROM st_search_layers(ARRAY['words']::regclass[], 'three', 2, 'vector')), '{1,2}');

SELECT is((SELECT count(*) FROM steadytext_store_stats), 2::bigint, 'statistics of each embedded table');
SELECT is((SELECT coverage_percent FROM steadytext_store_stats WHERE table_name = 'public.words'), 100.00, 'how much of it');
SELECT results_eq($$SELECT table_name, state, pending, processing, failed, oldest_seconds, embedded > 0 FROM steadytext_store_metrics()$$,
    $$VALUES ('public.notes', 'active', 0::bigint, 0::bigint, 0::bigint, 0::double precision, true),
             ('public.words', 'active', 0::bigint, 0::bigint, 0::bigint, 0::double precision, true)$$, 'figures for monitoring');
SELECT is((SELECT count(*) FROM st_store_metrics()), 2::bigint, 'by the short name too');
SELECT ok(daemon_healthy AND queue_size >= 0 AND failed = 0 AND broken = 0 AND tables = 2, 'health') FROM steadytext_store_health;

SELECT throws_ok($$SELECT steadytext_layer('notes', NULL)$$, '22004', 'source, destination, ask, options, column_name and backfill cannot be null');
SELECT throws_ok($$SELECT steadytext_layer('notes', 'kept', 'guess')$$, '22023', 'ask must be nothing, generate or embed, not "guess"');
SELECT throws_ok($$SELECT steadytext_layer('notes', 'notes')$$, '22023', 'a table cannot be a layer over itself');
SELECT throws_ok($$SELECT steadytext_layer('notes', 'words')$$, '23505', 'table public.words is a layer already');
SELECT throws_ok($$SELECT steadytext_layer('notes', 'names', 'generate')$$, '22023', 'options must hold a prompt with {text} in it, and the schema of the answer');
SELECT throws_ok($$SELECT steadytext_layer('notes', 'names', options => '{"x": 1}')$$, '22023', 'options must be an object, and may hold prompt, schema, rows and max_tokens');
SELECT throws_ok($$SELECT steadytext_layer('notes', 'names', options => '[]')$$, '22023', 'options must be an object, and may hold prompt, schema, rows and max_tokens');
SELECT throws_ok($$SELECT steadytext_layer('notes', 'names', options => '{"max_tokens": "x"}')$$, '22023', 'options.max_tokens must be a whole number of at least 1');
SELECT throws_ok($$SELECT steadytext_layer('notes', 'names', function => 'lower(text)')$$, '22023', 'function must take two texts, the row''s key and the answer, which lower(text) does not');
SELECT throws_ok($$SELECT * FROM steadytext_search_layers(NULL, 'x')$$, '22004', 'relations cannot be null');
SELECT throws_ok($$SELECT * FROM steadytext_search_layers('{NULL}', 'x')$$, '22004', 'relations cannot contain null');
SELECT throws_ok($$SELECT * FROM steadytext_search_layers('{}', 'x')$$, '22023', 'relations cannot be empty');
SELECT throws_ok($$SELECT * FROM steadytext_search_layers('{pg_class}', 'x')$$, 'P0002', 'table pg_class has no automatic embedding into "embedding"');
SELECT throws_ok($$SELECT steadytext_layer('names', 'notes', column_name => 'name')$$, '55000', 'table public.notes must have columns id and source_id of type text');
SELECT throws_ok($$SELECT steadytext_layer('meanings', 'names')$$, '42703', 'table public.meanings has no column "content" of type text');
CREATE TABLE parted (id integer PRIMARY KEY, content text) PARTITION BY RANGE (id);
SELECT throws_ok($$SELECT steadytext_layer('parted', 'names')$$, '0A000', 'public.parted is partitioned, and cannot be the source of a layer');
SELECT throws_ok($$SELECT steadytext_layer('pg_class', 'names')$$, '42809');
SELECT throws_ok($$SELECT steadytext_layer_run('notes')$$, 'P0002', 'table public.notes is no layer');
SELECT throws_ok($$SELECT steadytext_layer_run(NULL)$$, '22004', 'destination cannot be null');
SELECT throws_ok($$SELECT steadytext_layer_run('words', 0)$$, '22023', 'batch_size must be at least 1');
SELECT throws_ok($$SELECT steadytext_layer_wait('words', NULL, NULL)$$, '22004', 'timeout_seconds cannot be null');
CREATE ROLE stranger;
GRANT steadytext_user TO stranger;
SET ROLE stranger;
SELECT throws_ok($$SELECT steadytext_layer('notes', 'words')$$, '42501', 'must be owner of table public.notes');
SELECT throws_ok($$SELECT steadytext_layer_drop('words')$$, '42501', 'must be owner of table public.words');
SELECT throws_ok($$SELECT * FROM steadytext_layer_failures('words')$$, '42501', 'must be owner of table public.words');
SELECT is_empty($$SELECT * FROM steadytext_layer_status()$$, 'nobody else''s layers are seen');
SELECT is_empty($$SELECT * FROM steadytext_store_stats$$, 'nor their tables');
SELECT is_empty($$SELECT * FROM steadytext_store_metrics()$$, 'nor their figures');
RESET ROLE;
SELECT lives_ok($$SELECT steadytext_layer_drop('words')$$, 'a layer is dropped');
SELECT is((SELECT count(*) FROM pg_trigger WHERE tgrelid = 'notes'::regclass AND tgname ~ '^steadytext_layer_.*_(insert|update|delete)$'), 3::bigint, 'with its triggers; the other''s stay');
DROP TABLE meanings;
SELECT lives_ok($$INSERT INTO notes VALUES (50, 'after')$$, 'a dropped destination leaves the source usable');

SELECT * FROM finish();
ROLLBACK;
