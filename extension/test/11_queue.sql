\ir setup.psql
SELECT plan(33);

-- what a worker does, by hand
SELECT array_fill('-infinity'::timestamptz, ARRAY[10]) AS front \gset
SELECT _steadytext_worker_register('by hand', '15 s') AS worker \gset
SELECT _steadytext_worker_register('another', '15 s') AS other \gset

SELECT steadytext_embed_async('first', priority => 1) AS low \gset
SELECT steadytext_embed_async('second', priority => 10) AS high \gset
SELECT steadytext_embed_async('later', not_before => now() + interval '1 hour') AS later \gset
SELECT is(status, 'pending', 'a new request waits') FROM steadytext_check_async(:'low');

SELECT id, attempt, request_id FROM _steadytext_queue_claim(:worker, 'embed', 1, 0, :'front') \gset
SELECT is(:'request_id'::uuid, :'high'::uuid, 'the highest priority is claimed first');
SELECT is((SELECT array_agg(request_id) FROM _steadytext_queue_claim(:other, 'embed', 10, 0, :'front')), ARRAY[:'low'::uuid],
    'nobody claims what another holds, or what is not due');
SELECT is_empty(format('SELECT * FROM _steadytext_queue_claim(%s, ''generate'', 10, 0, %L)', :worker, :'front'), 'a lane is for its own requests');
SELECT cmp_ok(_steadytext_queue_next_due(ARRAY['embed']), '<=', 15::double precision, 'the next thing due is the end of a lease');

SELECT is_empty(format('SELECT _steadytext_queue_finish(%s, ARRAY[%s]::bigint[], ARRAY[%s], ARRAY[NULL::text], ARRAY[''[1,0]''], ARRAY[NULL::text], ARRAY[NULL::text], ARRAY[5], ''x'')',
    :other, :id, :attempt), 'a worker that does not hold a request cannot finish it');
SELECT is_empty(format('SELECT _steadytext_queue_finish(%s, ARRAY[%s]::bigint[], ARRAY[%s + 1], ARRAY[NULL::text], ARRAY[''[1,0]''], ARRAY[NULL::text], ARRAY[NULL::text], ARRAY[5], ''x'')',
    :worker, :id, :attempt), 'nor can a claim that has been lost');
SELECT isnt_empty(format('SELECT _steadytext_queue_finish(%s, ARRAY[%s]::bigint[], ARRAY[%s], ARRAY[NULL::text], ARRAY[''[1,0]''], ARRAY[''all-minilm-l6-v2''], ARRAY[NULL::text], ARRAY[5], ''x'')',
    :worker, :id, :attempt), 'who holds it finishes it');
SELECT results_eq(format('SELECT status, embedding::text, processing_time_ms FROM steadytext_check_async(%L)', :'high'),
    $$VALUES ('completed', '[1,0]', 5)$$, 'and its result is there');
SELECT is_empty(format('SELECT _steadytext_queue_finish(%s, ARRAY[%s]::bigint[], ARRAY[%s], ARRAY[NULL::text], ARRAY[''[0,1]''], ARRAY[NULL::text], ARRAY[NULL::text], ARRAY[5], ''x'')',
    :worker, :id, :attempt), 'a result is written once');
SELECT is(steadytext_cancel_async(:'high'), false, 'what has ended cannot be cancelled');

-- retries, history, dead letters
SELECT id, attempt FROM steadytext_queue WHERE request_id = :'low' \gset
SELECT isnt_empty(format('SELECT _steadytext_queue_fail(%s, ARRAY[%s]::bigint[], ARRAY[%s], ARRAY[''58000''], ARRAY[''boom''], ARRAY[true])', :other, :id, :attempt), 'an attempt fails');
SELECT results_eq(format('SELECT status, retry_count, error FROM steadytext_queue WHERE request_id = %L', :'low'),
    $$VALUES ('pending', 1, 'boom')$$, 'and is tried again');
UPDATE steadytext_queue SET due_at = now() - interval '1 s', retry_count = max_retries WHERE request_id = :'low';
SELECT id, attempt FROM _steadytext_queue_claim(:worker, 'embed', 1, 0, :'front') \gset
SELECT isnt_empty(format('SELECT _steadytext_queue_fail(%s, ARRAY[%s]::bigint[], ARRAY[%s], ARRAY[''58000''], ARRAY[''boom again''], ARRAY[true])', :worker, :id, :attempt), 'the last attempt fails');
SELECT results_eq(format('SELECT error, jsonb_array_length(history) FROM steadytext_dead_letters WHERE request_id = %L', :'low'),
    $$VALUES ('boom again', 2)$$, 'a dead letter tells its whole history');
SELECT throws_ok(format('SELECT steadytext_get_async_result(%L, 1)', :'low'), '58000', format('request %s failed: boom again', :'low'), 'waiting for it raises its error');
SELECT is(steadytext_queue_requeue_dead('embed'), 1::bigint, 'dead letters go back by one call');
SELECT is(steadytext_queue_requeue_dead('embed'), 0::bigint, 'once');
SELECT throws_ok($$SELECT steadytext_queue_requeue_dead(older_than => '-1 day')$$, '22023', 'older_than must be non-negative');
SELECT throws_ok($$SELECT steadytext_queue_purge('-1 day')$$, '22023', 'older_than must be non-negative');

-- giving back
SELECT id, attempt FROM _steadytext_queue_claim(:worker, 'embed', 1, 0, :'front') \gset
SELECT is(_steadytext_queue_release(:worker, ARRAY[:id]::bigint[], ARRAY[:attempt]), 1::bigint, 'a request is given back');
SELECT is(retry_count, 0, 'which costs no retry') FROM steadytext_queue WHERE id = :id;

-- cancelling what runs
SELECT id, attempt FROM _steadytext_queue_claim(:worker, 'embed', 1, 0, :'front') \gset
SELECT is(steadytext_cancel_async(:'low'), true, 'what runs can be cancelled');
SELECT results_eq(format('SELECT _steadytext_queue_lost(%s, ARRAY[%s]::bigint[])', :worker, :id), ARRAY[:id::bigint], 'its worker learns of it');
SELECT is_empty(format('SELECT _steadytext_queue_finish(%s, ARRAY[%s]::bigint[], ARRAY[%s], ARRAY[NULL::text], ARRAY[''[1,0]''], ARRAY[NULL::text], ARRAY[NULL::text], ARRAY[5], ''x'')',
    :worker, :id, :attempt), 'and it is never completed');
SELECT throws_ok(format('SELECT steadytext_get_async_result(%L, 1)', :'low'), '55000', NULL, 'waiting for it says so');
SELECT is(steadytext_queue_retry(:'low'), true, 'until it is asked for anew');

-- a lost worker
SELECT id, attempt FROM _steadytext_queue_claim(:worker, 'embed', 1, 0, :'front') \gset
SELECT is(_steadytext_queue_recover(), 0::bigint, 'nothing is taken from a worker whose lease holds');
UPDATE steadytext_workers SET lease_expires_at = now() - interval '1 s' WHERE worker_id = :worker;
SELECT is(_steadytext_queue_recover(), 1::bigint, 'what a lost worker held goes back');
SELECT is(_steadytext_worker_renew(:worker, '15 s'), false, 'it cannot renew its lease');
SELECT throws_ok(format('SELECT * FROM _steadytext_queue_claim(%s, ''embed'', 1, 0, %L)', :worker, :'front'), 'P0002', NULL, 'nor claim');
SELECT results_eq(format('SELECT status, retry_count FROM steadytext_queue WHERE id = %s', :id), $$VALUES ('pending', 1)$$, 'the request has used a retry');

-- ageing
UPDATE steadytext_queue SET priority = 1, due_at = now() - interval '2 minutes' WHERE request_id = :'low';
SELECT count(steadytext_embed_async('flood ' || i, priority => 10)) FROM generate_series(1, 20) i \g /dev/null
SELECT ok(:'low'::uuid IN (SELECT request_id FROM _steadytext_queue_claim(:other, 'embed', 4, 1, :'front')), 'an overdue request of low priority has its share under a flood');

SELECT * FROM finish();
ROLLBACK;
