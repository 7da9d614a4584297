-- name: work_for
SELECT memory.work_for(%(user)s);

-- name: has_comparisons
SELECT pg_catalog.to_regprocedure('memory.queue_comparisons(uuid[])') IS NOT NULL;

-- name: users_to_compare
SELECT u FROM memory.users_to_compare(%(after)s, %(most)s) u;

-- name: queue_comparisons
SELECT memory.queue_comparisons(%(users)s::uuid[]);

-- name: begin_comparing
SELECT id, words, digest, content_hash FROM memory.begin_comparing(%(most)s);

-- name: duplicate_candidates
SELECT id, words, digest, content_hash, cosine FROM memory.duplicate_candidates(%(id)s, %(each)s);

-- name: end_comparing
SELECT memory.end_comparing(%(id)s, %(digest)s, %(others)s::uuid[], %(digests)s::bytea[], %(scores)s::jsonb[]);

-- name: list_pairs
SELECT p.created_at, p.id, memory.pair_json(p)::text
FROM memory.duplicate_pairs p
JOIN memory.memories x ON x.user_id = %(user)s AND x.id = p.a
JOIN memory.memories y ON y.user_id = %(user)s AND y.id = p.b
WHERE p.user_id = %(user)s AND p.state = %(state)s
  AND (p.state <> 'suggested' OR NOT memory.is_away(x) AND NOT memory.is_away(y))
  AND (%(after)s::timestamptz IS NULL OR (p.created_at, p.id) < (%(after)s::timestamptz, %(after_id)s::uuid))
ORDER BY p.created_at DESC, p.id DESC
LIMIT %(limit)s;

-- name: get_pair
SELECT memory.pair_json(p)::text FROM memory.duplicate_pairs p WHERE p.user_id = %(user)s AND p.id = %(id)s;

-- name: take_pair
SELECT (t.pair).state, to_jsonb(t.a)::text, to_jsonb(t.b)::text
FROM (SELECT o.* FROM memory.take_pair(%(id)s, %(etags)s::text[]) o OFFSET 0) t;

-- name: decide_pair
SELECT memory.decide_pair(%(id)s, %(state)s, NULL);

-- name: merge_pair
SELECT memory.merge_pair(%(id)s, %(kept)s, %(gone)s, %(patch)s);
