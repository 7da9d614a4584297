\ir setup.psql
SELECT plan(18);

SELECT steadytext_config_set('cache_enabled', 'false') \g /dev/null
SELECT is(steadytext_config_get('cache_enabled'), 'false');
SELECT is((SELECT jsonb_typeof(value) FROM steadytext_config WHERE key = 'cache_enabled'), 'boolean', '''false'' is a boolean');
SELECT steadytext_config_set('daemon_port', '8080') \g /dev/null
SELECT is((SELECT value FROM steadytext_config WHERE key = 'daemon_port'), '8080'::jsonb, '''8080'' is a number');
SELECT is(steadytext_config_get('cache_policy'), 'frecency');
SELECT is(steadytext_config_get('max_prompt_chars'), '100000');
SELECT throws_ok($$SELECT steadytext_config_set('no_such_key', '1')$$, '22023', 'unknown configuration key "no_such_key"');
SELECT throws_ok($$SELECT steadytext_config_get('no_such_key')$$, '22023', 'unknown configuration key "no_such_key"');
SELECT throws_ok($$SELECT steadytext_config_get(NULL)$$, '22004', 'key cannot be null');
SELECT throws_ok($$SELECT steadytext_config_set('daemon_port', NULL)$$, '22004', 'value cannot be null');
SELECT throws_ok($$SELECT steadytext_config_set('daemon_port', '70000')$$, '22023', 'daemon_port must be between 1 and 65535, not 70000');
SELECT throws_ok($$SELECT steadytext_config_set('daemon_port', 'abc')$$, '22023', 'daemon_port must be a whole number, not "abc"');
SELECT throws_ok($$SELECT steadytext_config_set('cache_enabled', 'perhaps')$$, '22023', 'cache_enabled must be true or false, not "perhaps"');
SELECT throws_ok($$SELECT steadytext_config_set('cache_policy', 'random')$$, '22023');
SELECT throws_ok($$SELECT steadytext_config_set('default_embedding_model', 'smollm2-135m-instruct')$$, 'P0002');
SELECT throws_ok($$UPDATE steadytext_config SET value = '"x"' WHERE key = 'daemon_port'$$, '22023',
    'daemon_port must be a whole number, not "x"', 'also a direct UPDATE is held to the type');
SELECT lives_ok($$INSERT INTO steadytext_config (key, value) VALUES ('daemon_port', '5556')$$, 'a restored row replaces the default');
SELECT is(steadytext_config_get('daemon_port'), '5556');
SELECT is((SELECT endpoint FROM _steadytext_settings), 'tcp://' || steadytext_config_get('daemon_host') || ':5556',
    'the settings row follows');

SELECT * FROM finish();
ROLLBACK;
