\ir setup.psql
SELECT plan(5);

SELECT count(*) FROM steadytext_embed_batch(ARRAY['An oak is a large tree.', 'The bus stops at the station.']) \g /dev/null
SELECT steadytext_generate('An oak is a large tree.', 4) AS answer \gset
SELECT is((SELECT content FROM steadytext_semantic_search('trees and forests', 1, 0)), 'An oak is a large tree.', 'the nearest text comes first');
SELECT is((SELECT generated_text FROM steadytext_semantic_search('trees and forests', 1, 0)), :'answer', 'with the answer cached for it');
SELECT is(count(*), 0::bigint, 'the threshold holds') FROM steadytext_semantic_search('trees and forests', 10, 0.999);
SELECT is(count(*), 2::bigint, 'the query itself is not content') FROM steadytext_semantic_search('trees and forests', 10, -1);
SELECT ok(bool_and(similarity BETWEEN -1.0001 AND 1.0001), 'similarity is a cosine') FROM steadytext_semantic_search('trees', 10, -1);

SELECT * FROM finish();
ROLLBACK;
