\ir setup.psql
SELECT plan(28);

SELECT throws_ok($$SELECT steadytext_generate_json('x', NULL)$$, '22004', 'Schema cannot be null');
SELECT throws_ok($$SELECT steadytext_generate_json('x', '{}')$$, '22023', 'Schema cannot be empty');
SELECT throws_ok($$SELECT steadytext_generate_json('x', '[]')$$, '22023', 'Schema must be a JSON object, not array');
SELECT throws_ok(format('SELECT steadytext_generate_json(''x'', %L)', repeat('{"items":', 2000) || '{}' || repeat('}', 2000)), '22023', 'Schema is nested deeper than 300 levels');
SELECT throws_ok($$SELECT steadytext_generate_choice('x', '{{a,b},{c,d}}')$$, '22023', 'Choices must be an array of one dimension');
SELECT throws_ok($$SELECT steadytext_generate_json(NULL, '{"type": "object"}')$$, '22004', 'Prompt cannot be null');
SELECT throws_ok($$SELECT steadytext_generate_json('x', '{"type": "object", "madeUp": 1}')$$, '22023', NULL, 'an unknown keyword is refused');
SELECT throws_ok($$SELECT steadytext_generate_regex('x', '')$$, '22023', 'Pattern cannot be empty');
SELECT throws_ok($$SELECT steadytext_generate_regex('x', '(?=a)b')$$, '22023', NULL, 'lookaround is refused');
SELECT throws_ok($$SELECT steadytext_generate_choice('x', NULL)$$, '22004', 'Choices cannot be null');
SELECT throws_ok($$SELECT steadytext_generate_choice('x', '{}')$$, '22023', 'Choices array cannot be empty');
SELECT throws_ok($$SELECT steadytext_generate_choice('x', '{a}')$$, '22023', 'Choices array must contain at least 2 options');
SELECT throws_ok($$SELECT steadytext_generate_choice('x', '{a,b,a}')$$, '22023', 'Choices array cannot contain duplicates');
SELECT throws_ok($$SELECT steadytext_generate_choice('x', ARRAY['a', NULL])$$, '22004', 'Choices array cannot contain null');
SELECT throws_ok($$SELECT steadytext_generate_json_async('x', '{}')$$, '22023', 'Schema cannot be empty');
SELECT throws_ok($$SELECT steadytext_generate_regex_async('x', NULL)$$, '22004', 'Pattern cannot be null');
SELECT throws_ok($$SELECT steadytext_generate_json_async('x', '{"type": "object", "madeUp": 1}')$$, '22023', NULL, 'an unknown keyword is refused when it is queued');
SELECT throws_ok($$SELECT steadytext_generate_regex_async('x', '(?=a)b')$$, '22023', NULL, 'and so is lookaround');
SELECT throws_ok($$SELECT steadytext_generate_choice_async('x', '{a}')$$, '22023', 'Choices array must contain at least 2 options');

\set schema '{"type": "object", "properties": {"name": {"type": "string", "maxLength": 20}, "age": {"type": "integer", "minimum": 0, "maximum": 120}}, "required": ["name", "age"], "additionalProperties": false}'
SELECT steadytext_generate_json('Invent a person.', :'schema', 64) AS person \gset
SELECT ok((:'person'::jsonb ->> 'age')::integer BETWEEN 0 AND 120, 'the JSON keeps to its schema');
SELECT is((SELECT array_agg(k ORDER BY k) FROM jsonb_object_keys(:'person'::jsonb) k), ARRAY['age', 'name'], 'and has nothing else');
SELECT is(steadytext_generate_json('Invent a person.', :'schema', 64), :'person', 'the same again');
SELECT is((SELECT count(*) FROM steadytext_cache WHERE generation_params ? 'schema'), 1::bigint, 'from the cache, under its schema');
SELECT isnt(steadytext_generate('Invent a person.', 64), :'person', 'free text has a key of its own');
SELECT matches(steadytext_generate_regex('A date:', '\d{4}-\d{2}-\d{2}'), '^\d{4}-\d{2}-\d{2}$', 'a pattern matches whole');
SELECT ok(steadytext_generate_choice('Is the sky blue?', ARRAY['yes', 'no']) IN ('yes', 'no'), 'a choice is one of the list');
SELECT throws_ok(format('SELECT steadytext_generate_json(''Invent a person.'', %L, 3)', :'schema'), '22023', NULL, 'an answer that was cut off is an error');
SELECT steadytext_generate_choice_async('x', ARRAY['a', 'b']) AS queued \gset
SELECT is(params -> 'request' -> 'choices', '["a", "b"]'::jsonb, 'a queued request carries its constraint')
FROM steadytext_queue WHERE request_id = :'queued';

SELECT * FROM finish();
ROLLBACK;
