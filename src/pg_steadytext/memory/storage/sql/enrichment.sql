-- name: is_enrichment_there
SELECT pg_catalog.to_regprocedure('memory.queue_enrichments()') IS NOT NULL;

-- name: queue_enrichments
SELECT queued, pause FROM memory.queue_enrichments();

-- name: categories
SELECT name, coalesce(nullif(description, ''), name) FROM memory.categories ORDER BY rank, name;

-- name: read_to_enrich
SELECT body, digest, category FROM memory.read_to_enrich(%(user)s, %(id)s) WHERE body IS NOT NULL;

-- name: write_category
SELECT memory.write_category(%(user)s, %(id)s, %(digest)s, %(model)s, %(category)s);

-- name: write_enrichment
SELECT memory.write_enrichment(%(user)s, %(id)s, %(digest)s, %(model)s, %(found)s::jsonb);

-- name: note_enrichment
SELECT memory.note_enrichment(%(user)s, %(id)s, %(digest)s, %(status)s, %(error)s, %(retry_at)s::timestamptz);
