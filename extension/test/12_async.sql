\ir setup.psql
SELECT plan(42);

SELECT throws_ok($$SELECT steadytext_generate_async(NULL)$$, '22004', 'Prompt cannot be null');
SELECT throws_ok($$SELECT steadytext_generate_async('  ')$$, '22023', 'Prompt cannot be empty');
SELECT throws_ok($$SELECT steadytext_generate_async('x', 0)$$, '22023', 'max_tokens must be at least 1');
SELECT throws_ok($$SELECT steadytext_generate_async('x', seed => -1)$$, '22023', 'seed must be non-negative');
SELECT throws_ok($$SELECT steadytext_generate_async('x', priority => 11)$$, '22023', 'priority must be between 1 and 10, not 11');
SELECT throws_ok($$SELECT steadytext_generate_async('x', priority => NULL)$$, '22004', 'priority cannot be null');
SELECT throws_ok($$SELECT steadytext_generate_async('x', max_retries => -1)$$, '22023', NULL);
SELECT throws_ok($$SELECT steadytext_generate_async('x', stream => NULL)$$, '22004', 'stream cannot be null');
SELECT throws_ok($$SELECT steadytext_generate_choice_async('x', ARRAY['a', ' '])$$, '22023', 'Choice cannot be empty');
SELECT throws_ok($$SELECT steadytext_rerank_async('q', array_fill('d'::text, ARRAY[20001]))$$, '22023', 'documents may hold at most 20000 texts, not 20001');
SELECT throws_ok($$SELECT steadytext_generate_async('x', dedupe_key => '')$$, '22023', NULL);
SELECT throws_ok($$SELECT steadytext_generate_async('x', not_before => 'infinity')$$, '22023', NULL);
SELECT throws_ok($$SELECT steadytext_generate_async('x', not_before => '20000-12-31')$$, '22023', NULL);
SELECT throws_ok($$SELECT steadytext_generate_async('x', model => 'none such')$$, 'P0002', NULL);
SELECT throws_ok($$SELECT steadytext_generate_async('x', model => 'openai:gpt')$$, '22023', NULL);
SELECT throws_ok($$SELECT steadytext_embed_async('')$$, '22023', 'text_input cannot be empty');
SELECT throws_ok($$SELECT steadytext_embed_async(repeat('x', 100001))$$, '22001', NULL);
SELECT throws_ok($$SELECT steadytext_rerank_async('q', NULL)$$, '22004', 'Documents cannot be null');
SELECT throws_ok($$SELECT steadytext_rerank_async('q', '{}')$$, '22023', 'Documents array cannot be empty');
SELECT throws_ok($$SELECT steadytext_rerank_async('q', ARRAY['a', NULL])$$, '22004', 'Documents cannot contain null elements');
SELECT throws_ok($$SELECT steadytext_embed_batch_async(NULL)$$, '22004', 'texts cannot be null');
SELECT throws_ok($$SELECT steadytext_generate_batch_async(ARRAY['a', ' '])$$, '22023', 'prompts[2] cannot be empty');
SELECT throws_ok($$SELECT steadytext_check_async(NULL)$$, '22004', 'request_id cannot be null');
SELECT throws_ok($$SELECT steadytext_get_async_result(gen_random_uuid(), -1)$$, '22023', 'timeout_seconds must be non-negative');
SELECT throws_ok($$SELECT steadytext_cancel_async(gen_random_uuid())$$, 'P0002', NULL);
SELECT throws_ok($$SELECT * FROM steadytext_check_async_batch(ARRAY[gen_random_uuid()])$$, 'P0002', NULL);
SELECT throws_ok($$SELECT * FROM steadytext_check_async_batch(ARRAY[ARRAY[gen_random_uuid(), NULL]])$$, '22004', 'request_ids cannot be null or contain null');
SELECT is(count(*), 2::bigint, 'ids of any shape') FROM (SELECT array_agg(ARRAY[i]) AS ids
    FROM unnest(steadytext_embed_batch_async('{a,b}')) i) m, LATERAL steadytext_check_async_batch(m.ids);
SELECT steadytext_rerank_async('q', '[0:1][2:3]={{a,b},{c,d}}') AS ranking \gset
SELECT is(prompts, '{a,b,c,d}', 'documents of any shape') FROM steadytext_queue WHERE request_id = :'ranking';

SELECT steadytext_embed_async('second', false) AS uncached \gset
SELECT is(params ? 'cache', false, 'embed_async may take use_cache second') FROM steadytext_queue WHERE request_id = :'uncached';
SELECT is(cardinality(steadytext_embed_batch_async('{}')), 0, 'an empty batch is empty');
SELECT steadytext_embed_batch_async(ARRAY['b one', 'b two', 'b three']) AS batch \gset
SELECT is((SELECT array_agg(prompt ORDER BY i.place) FROM unnest(:'batch'::uuid[]) WITH ORDINALITY i (id, place)
           JOIN steadytext_queue q ON q.request_id = i.id), ARRAY['b one', 'b two', 'b three'], 'ids come in input order');
SELECT steadytext_embed_async('later') AS later \gset
SELECT ok(:'later'::uuid > (:'batch'::uuid[])[3], 'ids come in the order of their requests');
SELECT _steadytext_request_ids(10000) AS many \gset
SELECT is(ARRAY(SELECT DISTINCT i FROM unnest(:'many'::uuid[]) i ORDER BY i), :'many'::uuid[], 'also where they are more than a millisecond has');
SELECT is((SELECT count(*) FROM unnest(:'many'::uuid[]) i WHERE i::text !~ '^[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$'),
    0::bigint, 'each is a UUID of version 7');
SELECT results_eq(format('SELECT total, pending, done FROM steadytext_batch_status((%L::uuid[])[3])', :'batch'),
    $$VALUES (3::bigint, 3::bigint, 0::bigint)$$, 'any request tells how far its batch is');
SELECT steadytext_embed_async('x', dedupe_key => 'k') AS one \gset
SELECT is(steadytext_embed_async('y', dedupe_key => 'k'), :'one'::uuid, 'an unfinished twin stands for a new request');
SELECT steadytext_cancel_async(:'one') \g /dev/null
SELECT isnt(steadytext_embed_async('y', dedupe_key => 'k'), :'one'::uuid, 'a finished one does not');
SELECT throws_ok(format('SELECT steadytext_get_async_result((%L::uuid[])[1], 1)', :'batch'), '55000', NULL,
    'the transaction that queued a request cannot wait for it');
SAVEPOINT inner_one;
SELECT steadytext_embed_async('in a savepoint') AS nested \gset
RELEASE inner_one;
SELECT throws_ok(format('SELECT steadytext_get_async_result(%L, 1)', :'nested'), '55000', NULL, 'nor can one whose savepoint did');
SELECT is((SELECT count(*) FROM steadytext_audit_log WHERE action = 'cancel_async' AND request_id = :'one'), 1::bigint, 'a cancel is in the audit log');
SELECT is(params, jsonb_build_object('request', params -> 'request', 'cache', params -> 'cache'), 'a request carries what its worker needs')
FROM steadytext_queue WHERE request_id = (:'batch'::uuid[])[1];

SELECT * FROM finish();
ROLLBACK;
