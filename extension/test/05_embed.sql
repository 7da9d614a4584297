\ir setup.psql
SELECT plan(14);

SELECT steadytext_embed('A tree is a plant.')::text AS vector \gset
SELECT is(vector_dims(:'vector'::vector), 384, 'the default model has 384 dimensions');
SELECT ok(abs(vector_norm(:'vector'::vector) - 1) < 1e-5, 'an embedding has unit length');
SELECT is(steadytext_embed('A tree is a plant.')::text, :'vector', 'the cache gives the same bits');
SELECT is(steadytext_embed('A tree is a plant.', use_cache => false)::text, :'vector', 'so does the model');
SELECT is(steadytext_embed_cached('A tree is a plant.')::text, :'vector', 'so does embed_cached');
SELECT is(st_embed('A tree is a plant.', seed => 7)::text, :'vector', 'the seed decides nothing');
SELECT is(steadytext_embed('A tree is a plant.', unsafe_mode => true)::text, :'vector', 'unsafe_mode without a model means nothing');
SELECT results_eq($$SELECT text FROM steadytext_embed_batch(ARRAY['b', NULL, 'a', 'b', 'A tree is a plant.'])$$,
    $$VALUES ('b'), (NULL), ('a'), ('b'), ('A tree is a plant.')$$, 'a batch keeps the order and duplicates');
SELECT results_eq($$SELECT embedding IS NULL FROM steadytext_embed_batch(ARRAY['b', NULL])$$, 'VALUES (false), (true)', 'NULL embeds to NULL');
SELECT is((SELECT embedding::text FROM steadytext_embed_batch(ARRAY['z', 'A tree is a plant.']) WHERE text <> 'z'), :'vector',
    'in a batch the bits are the same');
SELECT is(count(*), 0::bigint, 'an empty batch is empty') FROM steadytext_embed_batch('{}');
SELECT is((SELECT embedding::text FROM steadytext_embed_batch(ARRAY['a'])), steadytext_embed('a')::text, 'both ways share the cache');
SELECT is(count(*), 0::bigint, 'every key is that of its parameters') FROM steadytext_cache
    WHERE cache_key <> steadytext_cache_key(prompt, generation_params);

CREATE TABLE items (content text, embedding vector(384));
INSERT INTO items SELECT text, embedding FROM steadytext_embed_batch(ARRAY['oak', 'car', 'river', 'pine', 'bus']);
CREATE INDEX ON items USING hnsw (embedding vector_cosine_ops);
SET LOCAL enable_seqscan = off;
CREATE FUNCTION plan_of(query text) RETURNS SETOF text LANGUAGE plpgsql AS $$
BEGIN RETURN QUERY EXECUTE 'EXPLAIN (COSTS OFF) ' || query; END $$;
SELECT matches((SELECT string_agg(line, E'\n') FROM plan_of(
    $$SELECT content FROM items ORDER BY embedding <=> steadytext_embed('a tree') LIMIT 2$$) line),
    'Index Scan using items_embedding_idx', 'a search by meaning is an index scan');

SELECT * FROM finish();
ROLLBACK;
