\ir setup.psql
SELECT plan(19);

CREATE PROCEDURE fill(n integer) LANGUAGE sql AS $$
    DELETE FROM steadytext_cache;
    INSERT INTO steadytext_cache (cache_key, prompt, response, access_count, last_accessed, created_at)
    SELECT 'key ' || i, 'prompt ' || i, repeat('x', 1000), 1 + i % 7, now() - make_interval(hours => i % 11), now() - make_interval(hours => i % 13)
    FROM generate_series(1, n) i;
$$;
CREATE FUNCTION evicts_its_preview(policy text) RETURNS boolean LANGUAGE plpgsql AS $$
DECLARE
    announced text[];
    kept text[];
BEGIN
    CALL fill(500);
    INSERT INTO _steadytext_cache_hits SELECT id FROM steadytext_cache, generate_series(1, 20) WHERE id % 5 = 0;
    PERFORM steadytext_config_set('cache_policy', policy);
    announced := ARRAY(SELECT cache_key FROM steadytext_cache_preview_eviction(123));
    IF steadytext_cache_evict(377) <> 123 THEN
        RETURN false;
    END IF;
    kept := ARRAY(SELECT cache_key FROM steadytext_cache);
    RETURN NOT announced && kept AND cardinality(kept) = 377;
END
$$;
SELECT ok(evicts_its_preview(policy), policy || ' evicts exactly its preview') FROM unnest(ARRAY['frecency', 'lru', 'lfu']) policy;
SELECT steadytext_config_set('cache_policy', 'frecency') \g /dev/null
SELECT is(steadytext_cache_evict(377), 0, 'at the target nothing goes');

CALL fill(100);
SELECT is(steadytext_cache_evict(max_size_mb => 50 * 1009 / 1048576.0), 50, 'a size target stops at the entry that meets it');
SELECT ok(total_size_mb <= 50 * 1009 / 1048576.0, 'the size is below the target') FROM steadytext_cache_stats();
CALL fill(100);
SELECT results_eq('SELECT evicted_count, remaining_entries FROM steadytext_cache_evict_by_age(60, 1000, min_age_hours => 0)',
    'VALUES (40, 60::bigint)', 'eviction by age reaches its target');
CALL fill(100);
SELECT results_eq('SELECT evicted_count, remaining_entries FROM st_cache_evict_by_age(max_entries => 60, max_size_mb => 1000, min_age_hours => 0)',
    'VALUES (40, 60::bigint)', 'its targets may have the names that cache_evict has for them');
SELECT is(evicted_count, 0, 'and a target that is missing has no type of its own') FROM steadytext_cache_evict_by_age(NULL, 1000);
CALL fill(100);
SELECT ok((SELECT min(created_at) FROM steadytext_cache) >= (SELECT max(created_at) FROM steadytext_cache_preview_eviction(0)) IS NOT FALSE,
    'a preview of nothing is empty');
SELECT results_eq('SELECT evicted_count FROM steadytext_cache_evict_by_age(0, 0, min_age_hours => 12)',
    $$SELECT count(*)::integer FROM generate_series(1, 100) i WHERE i % 13 > 12$$, 'young entries are protected');
CALL fill(100);
SELECT results_eq('SELECT evicted_count FROM steadytext_cache_evict_by_frecency(0, 0, min_access_count => 3, min_age_hours => 0)',
    $$SELECT count(*)::integer FROM generate_series(1, 100) i WHERE 1 + i % 7 < 3 AND i % 13 > 0$$, 'often used entries are protected');
CALL fill(100);
SELECT is((SELECT array_agg(cache_key) FROM steadytext_cache_preview_eviction(9)), (SELECT array_agg(cache_key) FROM st_cache_preview_eviction(9)),
    'a preview is stable');
SELECT steadytext_config_set('cache_max_entries', '30') \g /dev/null
SELECT steadytext_config_set('cache_eviction_enabled', 'false') \g /dev/null
SELECT steadytext_cache_scheduled_eviction() \g /dev/null
SELECT is(count(*), 100::bigint, 'a switched off eviction does nothing') FROM steadytext_cache;
SELECT steadytext_config_set('cache_eviction_enabled', 'true') \g /dev/null
SELECT steadytext_cache_scheduled_eviction() \g /dev/null
SELECT is(count(*), 30::bigint, 'the scheduled eviction keeps cache_max_entries') FROM steadytext_cache;
SELECT throws_ok('SELECT steadytext_cache_evict(-1)', '22023', 'max_entries must be non-negative');
SELECT throws_ok($$SELECT steadytext_cache_evict(max_size_mb => 'NaN')$$, '22023', 'max_size_mb must be a number from 0 to 1000000000');
SELECT throws_ok('SELECT steadytext_cache_evict_by_age(1, 1, 0)', '22023', 'batch_size must be at least 1');
SELECT throws_ok('SELECT steadytext_cache_preview_eviction(-1)', '22023', 'preview_count must be non-negative');

SELECT * FROM finish();
ROLLBACK;
