\ir setup.psql
SELECT plan(15);

SELECT is_empty($$
    SELECT p.oid::regprocedure FROM pg_proc p, aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) a
    WHERE p.proname ~ '^(_?steadytext|st)_' AND a.grantee = 0 $$, 'PUBLIC may execute nothing');
SELECT is_empty($$
    SELECT c.relname FROM pg_class c, aclexplode(c.relacl) a WHERE c.relname ~ 'steadytext' AND a.grantee = 0 $$, 'PUBLIC may read nothing');
CREATE ROLE steadytext_tap_user LOGIN;
CREATE ROLE steadytext_tap_nobody LOGIN;
GRANT steadytext_user TO steadytext_tap_user;
CREATE SCHEMA tap;
GRANT USAGE ON SCHEMA tap TO PUBLIC;
CREATE FUNCTION tap.denied(role name, query text) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
    EXECUTE format('SET LOCAL ROLE %I', role);
    EXECUTE query;
    RESET ROLE;
    RETURN 'allowed';
EXCEPTION WHEN OTHERS THEN
    RESET ROLE;
    RETURN SQLSTATE;
END
$$;
SELECT is(tap.denied('steadytext_tap_user', query), '42501', 'refused: ' || query) FROM unnest(ARRAY[
    'SELECT * FROM steadytext_cache', 'SELECT * FROM steadytext_cache_with_frecency', 'SELECT steadytext_config_set(''daemon_port'', ''1'')',
    'SELECT steadytext_cache_clear()', 'SELECT steadytext_daemon_stop()',
    'SELECT _steadytext_call(''tcp://1.2.3.4:5'', ''{}'', 1, ''{}'')', 'SELECT steadytext_config_get(''daemon_client_secret_key'')',
    'SELECT * FROM _steadytext_settings', 'SELECT steadytext_generate(''x'', model => ''openai:gpt'', unsafe_mode => true)']) query;
SELECT is(tap.denied('steadytext_tap_user', 'SELECT steadytext_config_get(''daemon_port'')'), 'allowed', 'a user reads the configuration');
SELECT is(tap.denied('steadytext_tap_user', 'SELECT 1 / (NOT EXISTS (SELECT FROM steadytext_config WHERE key LIKE ''%secret%''))::int'), 'allowed',
    'but no secret in its table');
SELECT is(tap.denied('steadytext_tap_user', 'SELECT steadytext_cache_stats()'), 'allowed', 'a user reads the statistics');
SELECT is(tap.denied('steadytext_tap_nobody', 'SELECT steadytext_generate(''x'')'), '42501', 'nobody else generates');

SELECT * FROM finish();
ROLLBACK;
