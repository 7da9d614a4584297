-- name: is_there
SELECT pg_catalog.to_regprocedure('memory.queue_embeddings(boolean)') IS NOT NULL;

-- name: queue
SELECT queued, pause FROM memory.queue_embeddings(%(sleeps)s);

-- name: read
SELECT user_id, id, words, digest FROM memory.read_texts(%(users)s::uuid[], %(ids)s::uuid[]);

-- name: write
SELECT w FROM memory.write_embeddings(
    %(users)s::uuid[], %(ids)s::uuid[], %(digests)s::bytea[], %(vectors)s::text[], %(model)s) w;

-- name: note
SELECT memory.note_embedding(
    %(users)s::uuid[], %(ids)s::uuid[], %(digests)s::bytea[], %(status)s, %(error)s, %(retry_at)s::timestamptz);
