\ir setup.psql
SELECT plan(20);

SELECT steadytext_generate('What is a tree?', 12) AS answer \gset
SELECT ok(length(:'answer') > 0, 'a real model answers');
SELECT is(steadytext_generate('What is a tree?', 12), :'answer', 'the cache gives the same text');
SELECT is(steadytext_generate('What is a tree?', 12, use_cache => false), :'answer', 'so does the model');
SELECT is(st_generate('What is a tree?', max_tokens => 12), :'answer', 'so does the alias');
SELECT is(steadytext_generate_cached('What is a tree?', 12), :'answer', 'so does generate_cached');
SELECT is((SELECT string_agg(p, '') FROM steadytext_generate_stream('What is a tree?', 12, use_cache => false) p), :'answer', 'so does the stream');
SELECT is((SELECT string_agg(p, '') FROM steadytext_generate_stream('What is a tree?', 12) p), :'answer', 'and the stream from the cache');
SELECT is(count(*), 1::bigint, 'all that is one entry') FROM steadytext_cache;
SELECT is(cache_key, steadytext_cache_key(prompt, generation_params), 'under the key of its parameters') FROM steadytext_cache;
SELECT results_eq('SELECT model_name, model_digest, seed, eos_string, thinking_mode, response_size FROM steadytext_cache',
    format($$VALUES ('smollm2-135m-instruct', 'b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53', 42, '[EOS]', false, %s)$$,
           octet_length(:'answer')), 'the entry tells where it came from');

SELECT length(steadytext_generate('What is a tree?', 5)) \g /dev/null
SELECT is(count(*), 2::bigint, 'other max_tokens, other entry') FROM steadytext_cache;
SELECT length(steadytext_generate('What is a tree?', 5, seed => 7)) \g /dev/null
SELECT is(count(*), 3::bigint, 'other seed, other entry') FROM steadytext_cache;
SELECT length(steadytext_generate('What is a tree?', 5, temperature => 0.5)) \g /dev/null
SELECT is(count(*), 4::bigint, 'other temperature, other entry') FROM steadytext_cache;
SELECT length(steadytext_generate('What is a tree?', 5, eos_string => 'zzz')) \g /dev/null
SELECT is(count(*), 5::bigint, 'other stop string, other entry') FROM steadytext_cache;
SELECT length(steadytext_generate('What is a tree?', 5, thinking_mode => true)) \g /dev/null
SELECT is(count(*), 6::bigint, 'other thinking mode, other entry') FROM steadytext_cache;
SELECT length(steadytext_generate('What is a tree?', 5, model => 'smollm2-135m-instruct')) \g /dev/null
SELECT is(count(*), 6::bigint, 'the default model by its name is the same entry') FROM steadytext_cache;
SELECT is(count(*), 0::bigint, 'every key is that of its parameters') FROM steadytext_cache
    WHERE cache_key <> steadytext_cache_key(prompt, generation_params);
SELECT ok(cache_key <> steadytext_cache_key('What is a tree?', '{}'), 'parameters are part of the key') FROM steadytext_cache LIMIT 1;
SELECT steadytext_config_set('cache_enabled', 'false') \g /dev/null
SELECT length(steadytext_generate('Not kept', 2)) \g /dev/null
SELECT is(count(*), 6::bigint, 'a disabled cache keeps nothing') FROM steadytext_cache;
SELECT steadytext_config_set('cache_enabled', 'true') \g /dev/null
SELECT steadytext_config_set('cache_scope', 'role') \g /dev/null
SELECT length(steadytext_generate('What is a tree?', 5)) \g /dev/null
SELECT is(scope, session_user, 'scope role keeps an entry for the role') FROM steadytext_cache ORDER BY id DESC LIMIT 1;

SELECT * FROM finish();
ROLLBACK;
