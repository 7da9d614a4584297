-- name: list_memory_facts
SELECT memory.fact_json(f)::text
FROM memory.facts f
WHERE f.user_id = %(user)s AND f.memory_id = %(id)s
ORDER BY f.place;

-- name: list_facts
SELECT f.created_at, f.id, memory.fact_json(f)::text
FROM memory.facts f JOIN memory.memories m ON m.user_id = f.user_id AND m.id = f.memory_id
WHERE f.user_id = %(user)s AND NOT memory.is_away(m)
  AND (%(after)s::timestamptz IS NULL OR (f.created_at, f.id) < (%(after)s::timestamptz, %(after_id)s::uuid))
  AND (%(category)s::text IS NULL OR f.category = %(category)s)
  AND (%(least)s::double precision IS NULL OR f.confidence >= %(least)s)
  AND (%(from)s::timestamptz IS NULL OR f.created_at >= %(from)s)
  AND (%(to)s::timestamptz IS NULL OR f.created_at < %(to)s)
ORDER BY f.created_at DESC, f.id DESC
LIMIT %(limit)s;

-- name: ask_enrichment
SELECT (a.it).version, memory.memory_json(a.it)::text
FROM (SELECT memory.ask_enrichment(%(id)s) AS it OFFSET 0) a;
