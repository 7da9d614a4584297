\ir setup.psql
SELECT plan(56);

CREATE TEMP TABLE note (day integer, body text);
INSERT INTO note VALUES (1, 'The server started.'), (1, NULL), (1, 'The disk is full.'), (2, 'The server stopped.'), (2, ' '), (3, NULL);
SELECT steadytext_config_set('default_max_tokens', '16') \g /dev/null
SELECT '{"max_tokens": 16}' AS short \gset
CREATE FUNCTION pg_temp.misses() RETURNS bigint LANGUAGE sql AS 'SELECT count(*) FROM _steadytext_cache_hits WHERE entry_id = 0';

SELECT isnt(steadytext_summarize(body, :'short' ORDER BY body), '', 'rows have a summary') FROM note WHERE day = 1;
SELECT is(pg_temp.misses(), 1::bigint, 'few rows are one call');
SELECT is(steadytext_summarize(body, :'short' ORDER BY body), st_summarize(body, :'short' ORDER BY body), 'the alias does the same') FROM note WHERE day = 1;
SELECT is(pg_temp.misses(), 1::bigint, 'known summaries come from the cache');
SELECT is(steadytext_summarize(body, :'short' ORDER BY body), steadytext_summarize_text(E'The disk is full.\nThe server started.', :'short'), 'rows are lines') FROM note WHERE day = 1;
SELECT is(steadytext_summarize_text('The server stopped.', :'short', unsafe_mode => false), st_summarize_text('The server stopped.', :'short'), 'a text has a summary');
SELECT is(steadytext_summarize(body, NULL), steadytext_summarize(body, '{}'), 'no metadata is empty metadata') FROM note WHERE day = 2;
SELECT results_eq(format('SELECT day, steadytext_summarize(body, %L ORDER BY body) IS NULL FROM note GROUP BY day ORDER BY day', :'short'),
    $$VALUES (1, false), (2, false), (3, true)$$, 'each group has its own; one of nulls has none');
SELECT is(pg_temp.misses(), 3::bigint, 'null and blank texts ask nothing');
SELECT is(steadytext_summarize(body, '{}'), NULL, 'no rows, no summary') FROM note WHERE false;
SELECT isnt(steadytext_summarize(body, '{"max_tokens": 16, "topic": "ships"}' ORDER BY body), steadytext_summarize(body, :'short' ORDER BY body), 'metadata is part of the question') FROM note WHERE day = 1;
SELECT ok(prompt LIKE '%(topic: ships)' || chr(10) || 'The disk is full.' || chr(10) || 'The server started.', 'written once while it stays the same') FROM steadytext_cache WHERE prompt LIKE '%ships%';
SELECT ok(steadytext_summarize(body, jsonb_build_object('day', day, 'max_tokens', 16) ORDER BY day, body) <> '', 'metadata may change from row to row') FROM note;
SELECT ok(prompt LIKE '%(day: 1)%disk%started%(day: 2)%stopped.', 'and is written where it does') FROM steadytext_cache WHERE prompt LIKE '%(day: 1)%';

-- Partial summaries.
CREATE TEMP TABLE daily AS SELECT day, steadytext_summarize_partial(body, jsonb_build_object('day', day, 'max_tokens', 16) ORDER BY body) AS state FROM note GROUP BY day;
SELECT is(state, NULL, 'nothing leaves nothing') FROM daily WHERE day = 3;
SELECT is(state ->> 'rows', '2', 'a partial summary counts its rows') FROM daily WHERE day = 1;
SELECT is(steadytext_summarize_final(state ORDER BY day), steadytext_summarize_final(state ORDER BY day DESC), 'partial summaries merge in any order') FROM daily;
SELECT is(steadytext_summarize_final(state), st_summarize_final(state), 'the alias does the same') FROM daily;
SELECT is(steadytext_summarize_combine(a.state, b.state), steadytext_summarize_combine(b.state, a.state), 'two states combine to one, either way') FROM daily a, daily b WHERE a.day = 1 AND b.day = 2;
SELECT is(steadytext_summarize_finalize(steadytext_summarize_combine(a.state, b.state)), (SELECT steadytext_summarize_final(state) FROM daily), 'which has their summary') FROM daily a, daily b WHERE a.day = 1 AND b.day = 2;
SELECT is(steadytext_summarize_combine(state, NULL) - 'metadata', state - 'metadata', 'nothing adds nothing') FROM daily WHERE day = 1;
SELECT is(steadytext_summarize_combine(NULL, NULL), NULL, 'nothing and nothing');
SELECT is(steadytext_summarize_final(state), NULL, 'nothing to finish') FROM daily WHERE day = 3;
SELECT is(steadytext_summarize_finalize(NULL), NULL, 'nothing to finish');
SELECT is(steadytext_summarize_finalize(steadytext_summarize_accumulate(steadytext_summarize_accumulate(NULL, 'The disk is full.', :'short'), 'The server started.', :'short')),
    steadytext_summarize(body, :'short' ORDER BY body), 'the state functions make the same summary') FROM note WHERE day = 1;
SELECT is(st_summarize_accumulate(NULL, ' '), NULL, 'no state of nothing');
SELECT is((steadytext_summarize_accumulate(steadytext_summarize_combine(state, NULL), 'More.', :'short')) ->> 'rows', '3', 'a combined state takes more rows') FROM daily WHERE day = 1;

-- Instructions.
SELECT ok(steadytext_agg(body, 'What is full?' ORDER BY body) <> '', 'an instruction is followed over rows') FROM note;
SELECT is(steadytext_agg(body, 'What is full?' ORDER BY body), st_agg(body, 'What is full?' ORDER BY body), 'the alias does the same') FROM note;
SELECT ok(prompt LIKE 'Texts:%The disk is full.%What is full?', 'in one prompt') FROM steadytext_cache WHERE prompt LIKE '%What is full%';
SELECT is(steadytext_agg(body, 'What is full?'), NULL, 'nulls are not there') FROM note WHERE day = 3;
SELECT is(steadytext_agg(body, 'What is full?'), NULL, 'no rows, no answer') FROM note WHERE false;

-- More than a context: a small one, so that few rows fill it.
SELECT steadytext_config_set('max_prompt_chars', '1460') \g /dev/null
SELECT pg_temp.misses() AS before \gset
SELECT ok(steadytext_summarize(w, '{"max_tokens": 8}') <> '', 'rows beyond a context') FROM (SELECT 'environmental responsibilities ' || g % 10 AS w FROM generate_series(1, 60) g) t;
SELECT is(pg_temp.misses() - :before, 3::bigint, 'two contexts and one over them');
SELECT ok(steadytext_summarize_text(repeat('Дуб. ', 150), '{"max_tokens": 8}') <> '', 'a text beyond a context');

-- Errors.
SELECT throws_ok($$SELECT steadytext_summarize('x', '[]')$$, '22023', 'metadata must be a JSON object, not array');
SELECT throws_ok($$SELECT steadytext_summarize('x', '{"model": 1}')$$, '22023', 'model in metadata must be a text');
SELECT throws_ok($$SELECT steadytext_summarize('x', '{"unsafe_mode": "yes"}')$$, '22023', 'unsafe_mode in metadata must be true or false');
SELECT throws_ok($$SELECT steadytext_summarize('x', '{"max_tokens": 1.5}')$$, '22023', 'max_tokens in metadata must be a whole number');
SELECT throws_ok($$SELECT steadytext_summarize('x', '{"max_tokens": 0}')$$, '22023', 'max_tokens must be at least 1');
SELECT throws_ok($$SELECT steadytext_summarize('x', '{"model": "none"}')$$, 'P0002', NULL, 'a model that is not there');
SELECT throws_ok($$SELECT steadytext_summarize('x', '{"unsafe_mode": true}')$$, '22023', 'unsafe_mode=TRUE requires a model parameter');
SELECT throws_ok($$SELECT steadytext_summarize('x', jsonb_build_object('max_tokens', g)) FROM generate_series(8, 9) g$$, '22023', 'model, unsafe_mode and max_tokens in metadata must be the same for all rows of a group');
SELECT throws_ok($$SELECT steadytext_summarize('x', jsonb_build_object('topic', repeat('x', 200)))$$, '22001', NULL, 'metadata beyond its share of a context');
SELECT throws_ok($$SELECT steadytext_summarize(repeat('x', 1461), '{}')$$, '22001', NULL, 'a text beyond max_prompt_chars');
SELECT throws_ok($$SELECT steadytext_summarize_text(NULL)$$, '22004', 'input_text cannot be null');
SELECT throws_ok($$SELECT steadytext_summarize_text(' ')$$, '22023', 'input_text cannot be empty');
SELECT throws_ok($$SELECT steadytext_summarize_text('x', unsafe_mode => NULL)$$, '22004', 'unsafe_mode cannot be null');
SELECT throws_ok($$SELECT steadytext_agg('x', NULL)$$, '22004', 'instruction cannot be null');
SELECT throws_ok($$SELECT steadytext_agg('x', repeat('long ', 250))$$, '22001', NULL, 'an instruction that fills the context');
SELECT throws_ok($$SELECT steadytext_agg('x', 'task ' || g) FROM generate_series(1, 2) g$$, '22023', 'instruction must be the same for all rows of a group');
SELECT throws_ok($$SELECT steadytext_summarize_finalize('{"room": "0000"}')$$, '22023', 'state is not a state of a summary');
SELECT throws_ok(format('SELECT steadytext_summarize_combine(NULL, %L)', jsonb_set(state, '{parts,0}', '{}')), '22023', 'state2 is not a state of a summary') FROM daily WHERE day = 1;

-- Other spellings.
SELECT is(steadytext_summarize(body ORDER BY body), steadytext_summarize(body, '{}' ORDER BY body), 'metadata may be left out') FROM note WHERE day = 2;
SELECT is(ai_summarize_final(state), steadytext_summarize_final(state), 'summaries have their former names')
FROM (SELECT ai_summarize_partial(body, :'short' ORDER BY body) AS state FROM note WHERE day = 1) former;
SELECT is(ai_summarize_text('The server stopped.', :'short'), steadytext_summarize_text('The server stopped.', :'short'), 'also that of one text');

SELECT * FROM finish();
ROLLBACK;
