-- name: is_sending_there
SELECT pg_catalog.to_regprocedure('memory.until_next_send()') IS NOT NULL;

-- name: choose_to_send
SELECT user_id, memory_id, digest FROM memory.choose_to_send(%(most)s, %(seconds)s);

-- name: until_next_send
SELECT memory.until_next_send();

-- name: note_sent
SELECT memory.note_sent(%(users)s, %(ids)s, %(digests)s, %(seconds)s);

-- name: take_enrichment
SELECT memory.take_enrichment(%(user)s, %(id)s, %(digest)s, %(token)s, %(seconds)s);

-- name: keep_enrichment
SELECT memory.keep_enrichment(%(user)s, %(id)s, %(token)s, %(seconds)s);

-- name: end_enrichment
SELECT memory.end_enrichment(%(user)s, %(id)s, %(token)s, %(again)s::double precision, %(counts)s);
