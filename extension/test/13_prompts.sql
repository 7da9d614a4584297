\ir setup.psql
SELECT plan(68);

SELECT steadytext_prompt_create('greeting', E'Hello {{ name }}!\nYou are {{ age }}.', 'Greets', '{"team": "a"}') AS prompt \gset
SELECT is(steadytext_prompt_render('greeting', '{"name": "Ada", "age": 36}'), E'Hello Ada!\nYou are 36.', 'a prompt is filled in');
SELECT results_eq($$SELECT prompt_id, description, version_number, required_variables, metadata FROM steadytext_prompt_get('greeting')$$,
    format($$VALUES (%L::uuid, 'Greets', 1, '{age,name}'::text[], '{"team": "a"}'::jsonb)$$, :'prompt'), 'and tells what it needs');
SELECT steadytext_prompt_update('greeting', E'Good day {{ name }}!\nYou are {{ age | default("ageless") }}.') \g /dev/null
SELECT is(steadytext_prompt_render('greeting', '{"name": "Ada"}'), E'Good day Ada!\nYou are ageless.', 'the latest version is used');
SELECT is(steadytext_prompt_render('greeting', '{"name": "Ada", "age": 1}', 1), E'Hello Ada!\nYou are 1.', 'or the one that is named');
SELECT results_eq($$SELECT version, required_variables FROM steadytext_prompt_versions('greeting')$$,
    $$VALUES (1, '{age,name}'::text[]), (2, '{name}')$$, 'every version is kept');
SELECT results_eq($$SELECT slug, latest_version, total_versions FROM steadytext_prompt_list() WHERE slug = 'greeting'$$, $$VALUES ('greeting', 2, 2::bigint)$$, 'the list counts them');
SELECT is(steadytext_prompt_diff('greeting', 1, 2),
    E'--- greeting@1\n+++ greeting@2\n@@ -1,2 +1,2 @@\n-Hello {{ name }}!\n-You are {{ age }}.\n+Good day {{ name }}!\n+You are {{ age | default("ageless") }}.', 'a diff shows what changed');
SELECT is(steadytext_prompt_diff('greeting', 1, 1), '', 'or that nothing did');
SELECT is(st_prompt_render('greeting', version => 1, strict => false), E'Hello !\nYou are .', 'without strict what is missing is empty');
SELECT results_eq($$SELECT version_num, version_number FROM steadytext_prompt_get('greeting', 1)$$, 'VALUES (1, 1)', 'a version''s number has two names');
SELECT results_eq($$SELECT version_num, is_active FROM steadytext_prompt_versions('greeting')$$, 'VALUES (1, false), (2, true)', 'the latest version is the active one');
SELECT is(latest_version_num, 2, 'and its number is in the list') FROM steadytext_prompt_list() WHERE slug = 'greeting';
SELECT is(v.version, 1, 'versions are joined by their prompt''s id') FROM steadytext_prompts p JOIN steadytext_prompt_versions v ON v.prompt_id = p.id
    WHERE p.id = :'prompt' AND v.template LIKE 'Hello%';
SELECT throws_ok($$UPDATE steadytext_prompt_versions SET template = 'x'$$, '55000', 'a prompt''s version never changes');
SELECT throws_ok($$DELETE FROM steadytext_prompt_versions$$, '55000', 'a prompt''s version never changes');

SELECT throws_ok($$SELECT steadytext_prompt_render('greeting', '{"age": 1}', 1)$$, '22023', 'missing variables: name');
SELECT throws_ok(format('SELECT steadytext_prompt_render(''greeting'', %L)', repeat('{"a":', 5000) || '1' || repeat('}', 5000)), '22023', 'variables are nested deeper than 300 levels');
SELECT throws_ok($$SELECT steadytext_prompt_render('greeting', '[]')$$, '22023', 'variables must be a JSON object');
SELECT throws_ok($$SELECT steadytext_prompt_render('greeting', NULL)$$, '22004', 'variables cannot be null');
SELECT throws_ok($$SELECT steadytext_prompt_render('greeting', '{}', NULL, NULL)$$, '22004', 'strict cannot be null');
SELECT throws_ok($$SELECT steadytext_prompt_render('greeting', '{}', 9)$$, 'P0002', 'prompt "greeting" has no version 9');
SELECT throws_ok($$SELECT steadytext_prompt_render('nobody', '{}')$$, 'P0002', 'there is no prompt "nobody"');
SELECT throws_ok($$SELECT steadytext_prompt_render(NULL, '{}')$$, '22004', 'slug cannot be null');
SELECT throws_ok($$SELECT * FROM steadytext_prompt_get('nobody')$$, 'P0002', 'there is no prompt "nobody"');
SELECT throws_ok($$SELECT * FROM steadytext_prompt_versions('nobody')$$, 'P0002', 'there is no prompt "nobody"');
SELECT throws_ok($$SELECT steadytext_prompt_update('nobody', 'x')$$, 'P0002', 'there is no prompt "nobody"');
SELECT throws_ok($$SELECT steadytext_prompt_diff('greeting', 1, 9)$$, 'P0002', 'prompt "greeting" has no version 9');
SELECT throws_ok($$SELECT steadytext_prompt_diff('greeting', 1, NULL)$$, '22004', 'to_version cannot be null');
SELECT throws_ok($$SELECT steadytext_prompt_create('greeting', 'x')$$, '23505', 'prompt "greeting" exists already');
SELECT throws_ok(format('SELECT steadytext_prompt_create(%L, ''x'')', slug), '22P02', NULL, 'no slug: ' || slug)
FROM unnest(ARRAY['', 'A', 'a b', '-a', 'a-', 'ä', E'a\n', '../x']) slug;
SELECT throws_ok(format('SELECT steadytext_prompt_create(%L, ''x'')', repeat('a', 101)), '22P02', NULL, 'no slug: one too long');
SELECT throws_ok($$SELECT steadytext_prompt_create('a', NULL)$$, '22004', 'Template cannot be null');
SELECT throws_ok($$SELECT steadytext_prompt_create('a', ' ')$$, '22023', 'Template cannot be empty');
SELECT throws_ok($$SELECT steadytext_prompt_create('a', repeat('x', 100001))$$, '22001', NULL, 'a template has a greatest length');
SELECT throws_ok($$SELECT steadytext_prompt_create('a', 'x', metadata => '[]')$$, '22023', 'metadata must be a JSON object');
SELECT throws_ok($$SELECT steadytext_prompt_create('a', 'x', metadata => NULL)$$, '22004', 'metadata cannot be null');
SELECT throws_like($$SELECT steadytext_prompt_create('a', E'one\n{{ two')$$, 'line 2 of the template: %', 'a syntax error names its line');
SELECT throws_ok(format('SELECT steadytext_prompt_create(''a'', %L)', template), '42601', NULL, 'refused: ' || template)
FROM unnest(ARRAY['{{ x', '{% if %}', '{{ x|attr("y") }}', '{% include "x" %}', '{% import "x" as y %}', '{% extends "x" %}']) template;
SELECT steadytext_prompt_create('bill', $${% for item in order.items %}{{ "%-6s|%6.2f"|format(item.name, item.price) }};{% endfor %}$$) \g /dev/null
SELECT is(steadytext_prompt_render('bill', '{"order": {"items": [{"name": "tea", "price": 2.5}, {"name": "cake", "price": 3}]}}'), 'tea   |  2.50;cake  |  3.00;', 'numbers are formatted; an object''s key goes before its method');
SELECT steadytext_prompt_create('pairs', $${% for k, v in order.items() %}{{ "%(k)s=%(v)s %%"|format(k=k, v=v) }};{% endfor %}$$) \g /dev/null
SELECT is(steadytext_prompt_render('pairs', '{"order": {"items": 1, "n": 2}}'), 'n=2 %;items=1 %;', 'unless it is called');
SELECT steadytext_prompt_create('wide', '{{ "%301d"|format(1) }}') \g /dev/null
SELECT throws_ok($$SELECT steadytext_prompt_render('wide')$$, '22023', 'the template formats a value wider than 300 characters');
SELECT steadytext_prompt_create('shown', '{{ "%r"|format(1) }}') \g /dev/null
SELECT throws_ok($$SELECT steadytext_prompt_render('shown')$$, '42501', NULL, 'representations are not written');
SELECT steadytext_prompt_create('got', '{{ order.get("items", 0) }} {{ order.keys }}') \g /dev/null
SELECT is(steadytext_prompt_render('got', '{"order": {"get": 1, "items": 2, "keys": 3}}'), '2 3', 'whatever the keys are');
SELECT steadytext_prompt_create('long', '{% for i in range(10000) %}{{ word }}{% endfor %}') \g /dev/null
SELECT throws_ok($$SELECT steadytext_prompt_render('long', '{"word": "0123456789abcdef"}')$$, '22001', NULL, 'a rendered prompt has a greatest length');

SELECT steadytext_prompt_create('ends', E'a\r\nb\r{{ x }}\n') \g /dev/null
SELECT is(steadytext_prompt_render('ends', jsonb_build_object('x', E'c\r\nd')), E'a\nb\nc\r\nd\n', 'line ends become \n, but those of variables');
SELECT is(steadytext_generate_prompt('greeting', '{"name": "Ada"}', max_tokens => 6),
    steadytext_generate(E'Good day Ada!\nYou are ageless.', 6), 'generating from a prompt is generating its text');
SELECT is(st_generate_prompt('greeting', '{"name": "Ada", "age": 1}', 1, 6), steadytext_generate(E'Hello Ada!\nYou are 1.', 6), 'of the version named');
SELECT throws_ok($$SELECT steadytext_generate_prompt('greeting', '{}')$$, '22023', 'missing variables: name');

CREATE ROLE steadytext_tap_one LOGIN;
CREATE ROLE steadytext_tap_two LOGIN;
GRANT steadytext_user TO steadytext_tap_one, steadytext_tap_two;
CREATE FUNCTION pg_temp.as_role(role name, query text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    answer text;
BEGIN
    EXECUTE format('SET LOCAL ROLE %I', role);
    EXECUTE query INTO answer;
    RESET ROLE;
    RETURN answer;
EXCEPTION WHEN OTHERS THEN
    RESET ROLE;
    RETURN SQLSTATE;
END
$$;
SELECT pg_temp.as_role('steadytext_tap_one', $$SELECT steadytext_prompt_create('mine', 'one {{ x }}')$$) \g /dev/null
SELECT is(pg_temp.as_role('steadytext_tap_two', $$SELECT steadytext_prompt_render('mine', '{"x": 1}')$$), 'one 1', 'prompts are everybody''s to use');
SELECT is(pg_temp.as_role('steadytext_tap_two', query), '42501', 'and their makers'' to change: ' || query) FROM unnest(ARRAY[
    'SELECT steadytext_prompt_update(''mine'', ''two'')', 'SELECT steadytext_prompt_delete(''mine'')',
    'INSERT INTO steadytext_prompts (slug, created_by) VALUES (''x'', ''x'')']) query;
SELECT is(steadytext_prompt_delete('mine'), true, 'an administrator may delete');
SELECT is(steadytext_prompt_delete('mine'), false, 'once');
SELECT is(count(*), 0::bigint, 'versions go with their prompt') FROM steadytext_prompt_versions v
    WHERE NOT EXISTS (SELECT FROM steadytext_prompts p WHERE p.id = v.prompt_id);
SELECT is((SELECT array_agg(action ORDER BY id) FROM steadytext_audit_log WHERE details ->> 'slug' = 'mine'),
    ARRAY['prompt_create', 'prompt_delete'], 'the audit log tells who did it');

SELECT * FROM finish();
ROLLBACK;
