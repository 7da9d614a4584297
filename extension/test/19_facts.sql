\ir setup.psql
SELECT plan(29);

SELECT 'PostgreSQL is a database. It was first released in 1996. It is free.' AS body \gset
SELECT steadytext_extract_facts(:'body') AS found \gset
SELECT is(array_agg(k), ARRAY['facts'], 'facts come in an object') FROM jsonb_object_keys(:'found') k;
SELECT ok(jsonb_array_length(:'found'::jsonb -> 'facts') BETWEEN 1 AND 10, 'up to ten by default');
SELECT ok(bool_and(jsonb_typeof(f) = 'string' AND f #>> '{}' ~ '\S'), 'each a text') FROM jsonb_array_elements(:'found'::jsonb -> 'facts') f;
SELECT is(count(*), count(DISTINCT f), 'each once') FROM jsonb_array_elements(:'found'::jsonb -> 'facts') f;
SELECT is(st_extract_facts(:'body'), :'found'::jsonb, 'the alias does the same');
SELECT is((SELECT count(*) FROM steadytext_cache WHERE generation_params ? 'schema'), 1::bigint, 'from the cache');
SELECT ok(jsonb_array_length(steadytext_extract_facts(:'body', 1) -> 'facts') <= 1, 'max_facts holds');

SELECT is(st_extract_facts(:'body', 10, 'smollm2-135m-instruct'), :'found'::jsonb, 'a model may be named');
SELECT is(ai_extract_facts(:'body'), :'found'::jsonb, 'facts have their former names');
SELECT throws_ok($$SELECT steadytext_extract_facts('x', 3, 'nobody')$$, 'P0002', 'there is no generation model "nobody"');
SELECT throws_ok($$SELECT steadytext_extract_facts('x', 3, 'openai:any')$$, '22023', 'Remote models (containing '':'' ) require unsafe_mode=TRUE');
SELECT is(ai_deduplicate_facts('["Tea is hot.", "Ice is cold."]', similarity_threshold => 0.0), '["Tea is hot."]', 'the similarity has its former name, too');
SELECT throws_ok($$SELECT steadytext_extract_facts('x', 0)$$, '22023', 'max_facts must be between 1 and 50');
SELECT throws_ok($$SELECT steadytext_extract_facts('x', 51)$$, '22023', 'max_facts must be between 1 and 50');
SELECT throws_ok($$SELECT steadytext_extract_facts('x', NULL)$$, '22004', 'max_facts cannot be null');
SELECT throws_ok($$SELECT steadytext_extract_facts(NULL)$$, '22004', 'input_text cannot be null');
SELECT throws_ok($$SELECT steadytext_extract_facts(' ')$$, '22023', 'input_text cannot be empty');

SELECT is(steadytext_deduplicate_facts('["A cat is an animal.", "Tea is hot.", "A cat is an animal", "Tea is hot."]'),
    '["A cat is an animal.", "Tea is hot."]', 'the first of those that say the same stays, in order');
SELECT is(steadytext_deduplicate_facts('[{"text": "Tea is hot.", "n": 1}, {"fact": "Tea is hot."}, "Ice is cold."]', 1),
    '[{"text": "Tea is hot.", "n": 1}, "Ice is cold."]', 'facts may be objects; equal texts are the same at any threshold');
SELECT is(st_deduplicate_facts('["Tea is hot.", "Ice is cold."]', similarity => 0), steadytext_deduplicate_facts('["Tea is hot.", "Ice is cold."]', 0), 'the alias does the same');
SELECT is(steadytext_deduplicate_facts('[]'), '[]', 'none of none');
SELECT is(steadytext_deduplicate_facts('["one"]'), '["one"]', 'one of one');
SELECT throws_ok($$SELECT steadytext_deduplicate_facts(NULL)$$, '22004', 'facts_array cannot be null');
SELECT throws_ok($$SELECT steadytext_deduplicate_facts('[]', NULL)$$, '22004', 'similarity cannot be null');
SELECT throws_ok($$SELECT steadytext_deduplicate_facts('{"facts": []}')$$, '22023', 'facts_array must be a JSON array, not object');
SELECT throws_ok($$SELECT steadytext_deduplicate_facts('["a", 1]')$$, '22023', 'facts_array[2] must be a text, or an object with a text in "text" or "fact"');
SELECT throws_ok($$SELECT steadytext_deduplicate_facts('["a", " "]')$$, '22023', 'facts_array[2] cannot be empty');
SELECT throws_ok($$SELECT steadytext_deduplicate_facts('[]', 1.1)$$, '22023', 'similarity must be between 0 and 1');
SELECT throws_ok($$SELECT steadytext_deduplicate_facts('[]', 'NaN')$$, '22023', 'similarity must be between 0 and 1');

SELECT * FROM finish();
ROLLBACK;
