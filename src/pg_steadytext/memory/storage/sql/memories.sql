-- name: save
SELECT status, headers::text, body, is_replay, failure, message, detail FROM memory.save_group(%(saves)s, %(patience)s);

-- name: add
SELECT a.is_new, (a.kept).id FROM memory.add(%(note)s, %(force)s) a;

-- name: get_memory
SELECT m.version, memory.memory_json(m)::text
FROM memory.memories m
WHERE m.user_id = %(user)s AND m.id = %(id)s AND (%(trash)s OR NOT memory.is_away(m));

-- name: list_memories
SELECT m.created_at, m.id, memory.memory_json(m)::text
FROM memory.memories m
WHERE m.user_id = %(user)s
  AND memory.is_away(m) = %(trash)s
  AND (%(after)s::timestamptz IS NULL OR (m.created_at, m.id) < (%(after)s::timestamptz, %(after_id)s::uuid))
  AND (%(tag)s::text IS NULL OR %(tag)s = ANY (m.tags))
  AND (%(category)s::text IS NULL OR m.category = %(category)s)
  AND (%(source)s::text IS NULL OR m.source = %(source)s)
  AND (%(from)s::timestamptz IS NULL OR m.created_at >= %(from)s)
  AND (%(to)s::timestamptz IS NULL OR m.created_at < %(to)s)
  AND (%(pinned)s::boolean IS NULL OR m.pinned = %(pinned)s)
  AND (%(embedding)s::text IS NULL OR m.embedding_status = %(embedding)s)
  AND (%(enrichment)s::text IS NULL OR m.enrichment_status = %(enrichment)s)
ORDER BY m.created_at DESC, m.id DESC
LIMIT %(limit)s;

-- name: export_memories
SELECT memory.memory_json(m)::text
FROM memory.memories m
WHERE m.user_id = %(user)s AND NOT memory.is_away(m)
ORDER BY m.created_at, m.id;

-- name: change_memory
SELECT (c.it).version, memory.memory_json(c.it)::text
FROM (SELECT memory.change(%(id)s, %(versions)s::bigint[], %(patch)s) AS it OFFSET 0) c;

-- name: trash_memory
SELECT (c.it).version, memory.memory_json(c.it)::text
FROM (SELECT memory.trash(%(id)s, %(versions)s::bigint[]) AS it OFFSET 0) c;

-- name: restore_memory
SELECT (c.it).version, memory.memory_json(c.it)::text
FROM (SELECT memory.restore(%(id)s) AS it OFFSET 0) c;

-- name: purge_memory
SELECT memory.purge(%(id)s, %(versions)s::bigint[]);

-- name: list_history
SELECT jsonb_build_object('version', h.version, 'action', h.action, 'actor', h.actor, 'changes', h.changes,
                          'at', memory.iso(h.at))::text
FROM memory.memory_history h
WHERE h.user_id = %(user)s AND h.memory_id = %(id)s AND h.version < %(before)s
ORDER BY h.version DESC
LIMIT %(limit)s;

-- name: idempotency_begin
SELECT (a).status, (a).headers::text, (a).body
FROM memory.idempotency_begin(%(method)s, %(path)s, %(key)s, %(fingerprint)s) a
WHERE (a).key IS NOT NULL;

-- name: idempotency_end
SELECT memory.idempotency_end(%(method)s, %(path)s, %(key)s, %(fingerprint)s, %(status)s, %(headers)s, %(body)s);
