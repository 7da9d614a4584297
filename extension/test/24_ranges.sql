\ir setup.psql
SELECT plan(22);

CREATE TABLE pages (book text, number integer, body text, PRIMARY KEY (book, number));
INSERT INTO pages SELECT 'b' || n % 2, n, CASE WHEN n <> 3 THEN 'page ' || n END FROM generate_series(1, 5) n;
SELECT steadytext_autoembed('pages', 'body', mode => 'manual');
CREATE TEMP TABLE t AS SELECT * FROM _steadytext_ranges_begin('pages', NULL, '1 min');

SELECT is(model, 'all-minilm-l6-v2', 'a ticket tells the model') FROM t;
SELECT throws_ok($$SELECT _steadytext_ranges_begin('pages', NULL, '1 min')$$, '55006', 'another backfill of public.pages is under way');
SELECT throws_ok($$SELECT _steadytext_ranges_begin(NULL, NULL, '1 min')$$, '22004', 'relation cannot be null');
SELECT throws_ok($$SELECT _steadytext_ranges_begin('pg_class', NULL, '1 min')$$, 'P0002', 'table pg_class has no automatic embedding');
SELECT is(steadytext_autoembed_run('pages'), 0::bigint, 'while somebody has it, nothing is backfilled elsewhere');

SELECT results_eq($$SELECT p.* FROM t, _steadytext_ranges_plan(t.autoembed, t.version, 2) p$$,
    $$VALUES (NULL, '["b0", "4"]', 2::bigint), ('["b0", "4"]', '["b1", "3"]', 2), ('["b1", "3"]', '["b1", "5"]', 1)$$, 'ranges of two rows');
SELECT throws_ok($$SELECT _steadytext_ranges_plan(t.autoembed, t.version, 0) FROM t$$, '22023', 'range_rows must be at least 1');
SELECT throws_ok($$SELECT _steadytext_ranges_plan(t.autoembed, t.version, NULL) FROM t$$, '22023', 'range_rows must be at least 1');
SELECT results_eq($$SELECT r.key, r.words FROM t, _steadytext_range_read(t.autoembed, t.version, '["b0", "4"]', '["b1", "3"]') r ORDER BY r.key$$,
    $$VALUES ('["b1", "1"]', 'page 1'), ('["b1", "3"]', NULL)$$, 'the rows of one');
SELECT throws_ok($$SELECT _steadytext_range_read(t.autoembed, t.version, NULL, NULL) FROM t$$, '22004', 'last_key cannot be null');

CREATE TEMP TABLE v AS SELECT '[1' || repeat(',0', 383) || ']' AS vector;
UPDATE pages SET body = 'other' WHERE number = 2;
SELECT is(_steadytext_range_write(t.autoembed, t.version, ARRAY['["b0", "2"]', '["b0", "4"]', '["b9", "9"]'],
    ARRAY(SELECT encode(sha256(convert_to('page ' || n, 'UTF8')), 'hex') FROM unnest(ARRAY[2, 4, 9]) n),
    ARRAY[v.vector, v.vector, v.vector], ARRAY[NULL, NULL, NULL]::text[], ARRAY[NULL, NULL, NULL]::text[]), 1::bigint,
    'only a row whose text is still the same is written') FROM t, v;
SELECT results_eq('SELECT number FROM pages WHERE embedding IS NOT NULL', 'VALUES (4)');
SELECT is(_steadytext_range_write(t.autoembed, t.version, '{}', '{}', '{}', '{}', '{}'), 0::bigint, 'nothing is nothing') FROM t;
SELECT is(_steadytext_range_write(t.autoembed, t.version, ARRAY['["b1", "5"]'], ARRAY['x'], ARRAY[NULL]::text[], ARRAY['22001'], ARRAY['too long']),
    0::bigint, 'what failed') FROM t;
SELECT results_eq($$SELECT key, error FROM steadytext_autoembed_failures('pages')$$, $$VALUES ('["b1", "5"]', 'too long')$$, 'is listed');

SELECT lives_ok($$SELECT _steadytext_ranges_keep(t.ticket, t.autoembed, t.version, '1 min', '["b0", "4"]') FROM t$$, 'a lease is renewed');
SELECT is((SELECT count(*) FROM t, _steadytext_ranges_plan(t.autoembed, t.version, 2)), 2::bigint, 'and what is done is planned no more');
SELECT throws_ok($$SELECT _steadytext_ranges_keep(t.ticket + 1000, t.autoembed, t.version, '1 min', NULL) FROM t$$, '55000',
    'this backfill''s lease has ended, and its workers go on with it');
SELECT throws_ok($$SELECT _steadytext_ranges_plan(t.autoembed, t.version + 1, 2) FROM t$$, '55000',
    'the declaration was changed, paused or dropped during its backfill');
SELECT _steadytext_ranges_end(t.ticket, t.autoembed, t.version, true) FROM t;
SELECT results_eq('SELECT backfill_done, backfill_cursor FROM steadytext_autoembeddings', $$VALUES (true, '["b0", "4"]')$$, 'the end is noted');
SELECT steadytext_autoembed_pause('pages');
SELECT throws_ok($$SELECT _steadytext_ranges_begin('pages', NULL, '1 min')$$, '55000', 'the automatic embedding of public.pages is paused');
UPDATE steadytext_autoembeddings SET remote = true, state = 'active';
SELECT throws_ok($$SELECT _steadytext_ranges_begin('pages', NULL, '1 min')$$, '0A000', 'the embedding model of public.pages is a remote one: all-minilm-l6-v2');

SELECT * FROM finish();
ROLLBACK;
