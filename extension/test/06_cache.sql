\ir setup.psql
SELECT plan(15);

SELECT is((SELECT (total_entries, total_size_mb, cache_hit_rate, avg_access_count)::text FROM steadytext_cache_stats()), '(0,0,0,0)', 'an empty cache');
SELECT length(steadytext_generate('stats', 2)) FROM generate_series(1, 4) \g /dev/null
SELECT is(cache_hit_rate, 0.75::double precision, 'three of four were hits') FROM steadytext_cache_stats();
SELECT is(avg_access_count, 4::double precision, 'hits count before they are folded') FROM steadytext_cache_stats();
SELECT is(access_count, 4::bigint, 'in the view too') FROM steadytext_cache_with_frecency;
SELECT is(access_count, 1, 'the table still has the folded count') FROM steadytext_cache;
SELECT is(_steadytext_cache_fold(), 4::bigint, 'a fold takes hits and misses');
SELECT is(access_count, 4, 'and adds them to the entry') FROM steadytext_cache;
SELECT is((SELECT (cache_hit_rate, avg_access_count)::text FROM steadytext_cache_stats()), '(0.75,4)', 'the statistics stay what they were');
SELECT is(_steadytext_cache_fold(), 0::bigint, 'a second fold finds nothing');
SELECT ok(abs(_steadytext_frecency(6, now() - interval '2 hours', now()) - 2) < 1e-9, 'frecency is accesses / (1 + hours)');
SELECT ok(total_size_mb > 0, 'the size is the entries'' own') FROM steadytext_cache_stats();
SELECT is(entry_count, 1::bigint, 'the analysis puts it in the youngest bucket') FROM steadytext_cache_analyze_usage() WHERE age_bucket = '< 1 hour';
SELECT is(steadytext_cache_clear(), 1::bigint, 'clear returns how many there were');
SELECT is(count(*), 0::bigint, 'and empties the cache') FROM steadytext_cache;
SELECT isnt(steadytext_cache_key('ab', '{"c": 1}'), steadytext_cache_key('a', '{"b": 1}'), 'keys differ');

SELECT * FROM finish();
ROLLBACK;
