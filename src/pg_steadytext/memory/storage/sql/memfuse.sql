-- name: memfuse_users
SELECT jsonb_build_object('id', p.id, 'name', p.name, 'description', p.description,
                          'created_at', memory.iso(p.created_at), 'updated_at', memory.iso(p.updated_at))
FROM memory.memfuse_users p
WHERE p.user_id = %(user)s AND (%(id)s::uuid IS NULL OR p.id = %(id)s) AND (%(name)s::text IS NULL OR p.name = %(name)s)
ORDER BY p.created_at DESC, p.id DESC;

-- name: memfuse_add_user
INSERT INTO memory.memfuse_users AS p (user_id, id, name, description)
VALUES (%(user)s, %(id)s, %(name)s, %(description)s)
ON CONFLICT (user_id, name) DO NOTHING RETURNING p.id;

-- name: memfuse_change_user
UPDATE memory.memfuse_users p
SET name = coalesce(%(name)s, p.name), description = coalesce(%(description)s, p.description), updated_at = now()
WHERE p.user_id = %(user)s AND p.id = %(id)s RETURNING p.id;

-- name: memfuse_delete_sessions
DELETE FROM memory.sessions s WHERE s.user_id = %(user)s AND s.memfuse_user_id = %(id)s;

-- name: memfuse_delete_user
DELETE FROM memory.memfuse_users p WHERE p.user_id = %(user)s AND p.id = %(id)s RETURNING p.id;

-- name: memfuse_agents
SELECT jsonb_build_object('id', a.id, 'name', a.name, 'description', a.metadata ->> 'description',
                          'created_at', memory.iso(a.created_at), 'updated_at', memory.iso(a.created_at))
FROM memory.agents a
WHERE a.user_id = %(user)s AND (%(id)s::uuid IS NULL OR a.id = %(id)s) AND (%(name)s::text IS NULL OR a.name = %(name)s)
ORDER BY a.created_at DESC, a.id DESC;

-- name: memfuse_change_agent
UPDATE memory.agents a
SET name = coalesce(%(name)s, a.name),
    metadata = a.metadata || jsonb_strip_nulls(jsonb_build_object('description', %(description)s::text))
WHERE a.user_id = %(user)s AND a.id = %(id)s RETURNING a.id;

-- name: memfuse_agent_is_used
SELECT 1 FROM memory.sessions s WHERE s.user_id = %(user)s AND s.agent_id = %(id)s
UNION ALL
SELECT 1 FROM memory.memories m WHERE m.user_id = %(user)s AND m.agent_id = %(id)s
LIMIT 1;

-- name: memfuse_delete_agent
DELETE FROM memory.agents a WHERE a.user_id = %(user)s AND a.id = %(id)s RETURNING a.id;

-- name: memfuse_sessions
SELECT jsonb_build_object('id', s.id, 'user_id', s.memfuse_user_id, 'agent_id', s.agent_id, 'name', s.name,
                          'created_at', memory.iso(s.created_at), 'updated_at', memory.iso(s.created_at))
FROM memory.sessions s
WHERE s.user_id = %(user)s AND s.memfuse_user_id IS NOT NULL
  AND (%(id)s::uuid IS NULL OR s.id = %(id)s) AND (%(name)s::text IS NULL OR s.name = %(name)s)
  AND (%(memfuse_user)s::uuid IS NULL OR s.memfuse_user_id = %(memfuse_user)s)
  AND (%(agent)s::uuid IS NULL OR s.agent_id = %(agent)s)
ORDER BY s.created_at DESC, s.id DESC;

-- name: memfuse_add_session
INSERT INTO memory.sessions AS s (user_id, id, agent_id, memfuse_user_id, name)
VALUES (%(user)s, %(id)s, %(agent)s, %(memfuse_user)s, %(name)s)
ON CONFLICT (user_id, memfuse_user_id, name) WHERE memfuse_user_id IS NOT NULL DO NOTHING RETURNING s.id;

-- name: memfuse_change_session
UPDATE memory.sessions s SET name = coalesce(%(name)s, s.name)
WHERE s.user_id = %(user)s AND s.id = %(id)s AND s.memfuse_user_id IS NOT NULL RETURNING s.id;

-- name: memfuse_delete_session
DELETE FROM memory.sessions s WHERE s.user_id = %(user)s AND s.id = %(id)s RETURNING s.id;

-- name: memfuse_forget
SELECT memory.forget_conversation(%(session)s, %(memfuse_user)s);

-- name: memfuse_session_names
SELECT s.id, s.name FROM memory.sessions s WHERE s.user_id = %(user)s AND s.id = ANY (%(ids)s);

-- name: memfuse_messages
SELECT jsonb_build_object('id', m.id, 'session_id', m.session_id, 'agent_id', m.agent_id,
                          'role', coalesce(m.provenance ->> 'role', 'user'), 'content', m.body,
                          'metadata', m.provenance -> 'metadata',
                          'created_at', memory.iso(m.created_at), 'updated_at', memory.iso(m.updated_at))
FROM memory.memories m
WHERE m.user_id = %(user)s AND m.session_id = %(session)s AND NOT memory.is_away(m)
  AND (%(ids)s::uuid[] IS NULL OR m.id = ANY (%(ids)s))
ORDER BY m.created_at, m.id;

-- name: memfuse_newest_messages
SELECT jsonb_build_object('id', m.id, 'session_id', m.session_id, 'agent_id', m.agent_id,
                          'role', coalesce(m.provenance ->> 'role', 'user'), 'content', m.body,
                          'metadata', m.provenance -> 'metadata',
                          'created_at', memory.iso(m.created_at), 'updated_at', memory.iso(m.updated_at))
FROM memory.memories m
WHERE m.user_id = %(user)s AND m.session_id = %(session)s AND NOT memory.is_away(m)
ORDER BY m.created_at DESC, m.id DESC LIMIT %(limit)s;

-- name: memfuse_oldest_messages
SELECT jsonb_build_object('id', m.id, 'session_id', m.session_id, 'agent_id', m.agent_id,
                          'role', coalesce(m.provenance ->> 'role', 'user'), 'content', m.body,
                          'metadata', m.provenance -> 'metadata',
                          'created_at', memory.iso(m.created_at), 'updated_at', memory.iso(m.updated_at))
FROM memory.memories m
WHERE m.user_id = %(user)s AND m.session_id = %(session)s AND NOT memory.is_away(m)
ORDER BY m.created_at, m.id LIMIT %(limit)s;

-- name: memfuse_knowledge
SELECT jsonb_build_object('id', m.id, 'user_id', m.provenance -> 'memfuse_user', 'content', m.body,
                          'metadata', m.provenance -> 'metadata',
                          'created_at', memory.iso(m.created_at), 'updated_at', memory.iso(m.updated_at))
FROM memory.memories m
WHERE m.user_id = %(user)s AND m.session_id IS NULL AND m.provenance ->> 'memfuse_user' = %(memfuse_user)s
  AND NOT memory.is_away(m) AND (%(ids)s::uuid[] IS NULL OR m.id = ANY (%(ids)s))
  AND (%(hash)s::bytea IS NULL OR m.content_hash = %(hash)s)
ORDER BY m.created_at, m.id;
