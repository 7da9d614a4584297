\ir setup.psql
SELECT plan(31);

CREATE TABLE articles (id integer PRIMARY KEY, body text);
INSERT INTO articles VALUES (1, 'Roots take up water from the soil.'), (2, 'Soup is hot.');
SELECT ok(steadytext_autoembed('articles', 'body', mode => 'manual', backfill => false) > 0, 'declared without a backfill');
SELECT results_eq($$SELECT backfill, backfill_rows, backfill_total, backfill_rate, replaces, outdated FROM steadytext_autoembed_status('articles')$$,
    $$VALUES ('done', 0::bigint, 0::bigint, NULL::integer, NULL::name, false)$$, 'there is none to do');
SELECT lives_ok($$SELECT steadytext_autoembed_backfill('articles', rate => 1000)$$, 'one can be had later');
SELECT results_eq($$SELECT backfill, backfill_rate FROM steadytext_autoembed_status('articles')$$, $$VALUES ('running', 1000)$$);
SELECT lives_ok($$SELECT st_autoembed_backfill('articles', rate => 0)$$, 'and be let go');
SELECT is(backfill_rate, NULL) FROM steadytext_autoembed_status('articles');
SELECT is(steadytext_autoembed_run('articles'), 2::bigint, 'it embeds what has no vector');
SELECT results_eq($$SELECT backfill, backfill_rows, backfill_total FROM steadytext_autoembed_status('articles')$$,
    $$VALUES ('done', 2::bigint, 2::bigint)$$, 'and counts it');
SELECT throws_ok($$SELECT steadytext_autoembed_backfill('articles', NULL)$$, '22004', 'everything cannot be null');
SELECT throws_ok($$SELECT steadytext_autoembed_backfill('articles', rate => -1)$$, '22023', 'rate must be rows a second, or 0 for no limit');
SELECT throws_ok($$SELECT steadytext_autoembed_backfill(NULL)$$, '22004', 'relation cannot be null');

SELECT throws_ok($$SELECT steadytext_autoembed_switch('articles')$$, '55000', 'table public.articles is not being embedded anew');
SELECT is(steadytext_autoembed_reembed_cancel('articles'), false, 'nothing to give up');
SELECT throws_ok($$SELECT steadytext_autoembed_reembed('articles', 'x')$$, 'P0002', 'there is no embedding model "x"');
SELECT throws_ok($$SELECT steadytext_autoembed_alter('articles', model => 'x')$$, 'P0002', 'there is no embedding model "x"');
CREATE VIEW shown AS SELECT id, embedding FROM articles;
SELECT throws_ok($$SELECT steadytext_autoembed_reembed('articles')$$, '2BP01', NULL, 'a view would not follow');
DROP VIEW shown;
SELECT ok(steadytext_autoembed_reembed('articles') > 0, 'a table is embedded anew');
SELECT throws_ok($$SELECT steadytext_autoembed_reembed('articles')$$, '55000', 'table public.articles is being embedded anew already');
SELECT is((SELECT count(*) FROM steadytext_autoembed_status('articles') WHERE replaces = 'embedding'), 1::bigint, 'the status shows it');
SELECT throws_ok($$SELECT steadytext_autoembed_switch('articles')$$, '55000', 'table public.articles cannot be switched yet: rows are being embedded');
SELECT throws_ok(format('SELECT steadytext_autoembed_pause(''articles'', %L)', destination), '55000', NULL, 'the one that is searched is paused')
    FROM steadytext_autoembed_status('articles') WHERE replaces IS NOT NULL;
SELECT is((SELECT key FROM steadytext_search('articles', 'how do plants drink', 1)), '{"id": 1}'::jsonb, 'searches go on');
SELECT is(st_autoembed_reembed_cancel('articles'), true, 'it can be given up');
SELECT is((SELECT count(*) FROM pg_attribute WHERE attrelid = 'articles'::regclass AND attnum > 0 AND NOT attisdropped), 3::bigint, 'which leaves nothing');

UPDATE steadytext_models SET digest = repeat('1', 64) WHERE name = (SELECT model FROM steadytext_autoembed_status('articles'));
SELECT ok(steadytext_autoembed_reembed('articles') > 0, 'once more');
SELECT is(steadytext_autoembed_run('articles', destination => destination), 2::bigint, 'by hand')
    FROM steadytext_autoembed_status('articles') WHERE replaces IS NOT NULL;
SELECT lives_ok($$SELECT steadytext_autoembed_switch('articles')$$, 'and switched');
SELECT is(embedding::text, steadytext_embed(body)::text) FROM articles WHERE id = 1;
SELECT is((SELECT count(*) FROM steadytext_autoembed_status('articles')), 1::bigint, 'one is left');
UPDATE steadytext_models SET digest = repeat('0', 64) WHERE name = (SELECT model FROM steadytext_autoembed_status('articles'));
SELECT is(outdated, true, 'a changed file is seen') FROM steadytext_autoembed_status('articles');
SELECT matches(reason, 'has changed since the table was embedded') FROM steadytext_autoembed_status('articles');

SELECT * FROM finish();
ROLLBACK;
