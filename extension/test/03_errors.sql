\ir setup.psql
SELECT plan(31);

SELECT throws_ok($$SELECT steadytext_generate(NULL)$$, '22004', 'Prompt cannot be null');
SELECT throws_ok($$SELECT steadytext_generate('')$$, '22023', 'Prompt cannot be empty');
SELECT throws_ok($$SELECT steadytext_generate(E' \t\n')$$, '22023', 'Prompt cannot be empty');
SELECT throws_ok($$SELECT steadytext_generate('x', 0)$$, '22023', 'max_tokens must be at least 1');
SELECT throws_ok($$SELECT steadytext_generate('x', 1000000)$$, '22023', 'max_tokens exceeds system limit');
SELECT throws_ok($$SELECT steadytext_generate('x', seed => -1)$$, '22023', 'seed must be non-negative');
SELECT throws_ok($$SELECT steadytext_generate('x', use_cache => NULL)$$, '22004', 'use_cache cannot be null');
SELECT throws_ok($$SELECT steadytext_generate('x', eos_string => NULL)$$, '22004', 'eos_string cannot be null');
SELECT throws_ok($$SELECT steadytext_generate('x', eos_string => '')$$, '22023', 'eos_string cannot be empty');
SELECT throws_ok($$SELECT steadytext_generate('x', unsafe_mode => NULL)$$, '22004', 'unsafe_mode cannot be null');
SELECT throws_ok($$SELECT steadytext_generate('x', thinking_mode => NULL)$$, '22004', 'thinking_mode cannot be null');
SELECT throws_ok($$SELECT steadytext_generate('x', temperature => NULL)$$, '22004', 'temperature cannot be null');
SELECT throws_ok($$SELECT steadytext_generate('x', temperature => 'NaN')$$, '22023', 'temperature must be between 0 and 2');
SELECT throws_ok($$SELECT steadytext_generate('x', temperature => -0.1)$$, '22023', 'temperature must be between 0 and 2');
SELECT throws_ok($$SELECT steadytext_generate('x', size => 'huge')$$, '22023', 'size must be small, medium or large, not "huge"');
SELECT throws_ok($$SELECT steadytext_generate('x', model => 'nobody')$$, 'P0002', 'there is no generation model "nobody"');
SELECT throws_ok($$SELECT steadytext_generate('x', model => 'all-minilm-l6-v2')$$, '22023',
    'model "all-minilm-l6-v2" is a model for embedding, not for generation');
SELECT throws_ok($$SELECT steadytext_generate('x', model_repo => 'a/b', model_filename => '../../etc/passwd')$$, 'P0002');
SELECT throws_ok($$SELECT steadytext_generate('x', model_repo => 'a/b')$$, '22023', 'model_repo and model_filename must be given together');
SELECT throws_ok($$SELECT steadytext_generate('x', unsafe_mode => true)$$, '22023', 'unsafe_mode=TRUE requires a model parameter');
SELECT throws_ok($$SELECT steadytext_generate('x', model => 'openai:gpt')$$, '22023', 'Remote models (containing '':'' ) require unsafe_mode=TRUE');
SELECT throws_ok($$SELECT steadytext_generate(repeat('x', 1000000))$$, '22001',
    'Prompt of 1000000 characters is longer than max_prompt_chars allows, 100000');
SELECT throws_ok($$SELECT steadytext_generate_stream(NULL)$$, '22004', 'Prompt cannot be null');
SELECT throws_ok($$SELECT steadytext_embed(NULL)$$, '22004', 'text_input cannot be null');
SELECT throws_ok($$SELECT steadytext_embed('  ')$$, '22023', 'text_input cannot be empty');
SELECT throws_ok($$SELECT steadytext_embed('x', seed => -1)$$, '22023', 'seed must be non-negative');
SELECT throws_ok($$SELECT steadytext_embed_batch(NULL)$$, '22004', 'texts cannot be null');
SELECT throws_ok($$SELECT steadytext_embed_batch(ARRAY['a', ''])$$, '22023', 'texts[2] cannot be empty');
SELECT throws_ok($$SELECT steadytext_cache_key(NULL, '{}')$$, '22004');
SELECT throws_ok($$SELECT steadytext_semantic_search('x', 0)$$, '22023', 'limit_results must be between 1 and 10000');
SELECT is(count(*), 0::bigint, 'no refusal left an entry') FROM steadytext_cache;

SELECT * FROM finish();
ROLLBACK;
