-- name: list_keys
SELECT jsonb_build_object('id', k.id, 'name', k.name, 'scopes', k.scopes, 'created_at', memory.iso(k.created_at),
                          'expires_at', memory.iso(k.expires_at), 'revoked_at', memory.iso(k.revoked_at),
                          'last_used_at', memory.iso(k.last_used_at))::text
FROM memory.api_keys k WHERE k.user_id = %(user)s ORDER BY k.created_at DESC, k.id DESC;

-- name: end_of_my_key
-- When the key that the caller came with ends; nothing for one that does not, and for a web session.
SELECT k.expires_at FROM memory.api_keys k
WHERE k.user_id = %(user)s AND k.id = (current_setting('memory.actor')::jsonb ->> 'id')::uuid AND k.expires_at IS NOT NULL;

-- name: add_key
INSERT INTO memory.api_keys AS k (user_id, id, name, token_hash, scopes, expires_at)
VALUES (%(user)s, %(id)s, %(name)s, %(hash)s, %(scopes)s, %(expires_at)s)
RETURNING jsonb_build_object('id', k.id, 'name', k.name, 'scopes', k.scopes, 'created_at', memory.iso(k.created_at),
                             'expires_at', memory.iso(k.expires_at), 'revoked_at', NULL, 'last_used_at', NULL);

-- name: revoke_key
UPDATE memory.api_keys k SET revoked_at = coalesce(k.revoked_at, now())
WHERE k.user_id = %(user)s AND k.id = %(id)s RETURNING k.id;

-- name: list_agents
SELECT jsonb_build_object('id', a.id, 'name', a.name, 'metadata', a.metadata,
                          'created_at', memory.iso(a.created_at))::text
FROM memory.agents a WHERE a.user_id = %(user)s ORDER BY a.created_at DESC, a.id DESC;

-- name: add_agent
-- None when the name is taken.
INSERT INTO memory.agents AS a (user_id, id, name, metadata) VALUES (%(user)s, %(id)s, %(name)s, %(metadata)s)
ON CONFLICT (user_id, name) DO NOTHING
RETURNING jsonb_build_object('id', a.id, 'name', a.name, 'metadata', a.metadata,
                             'created_at', memory.iso(a.created_at))::text;

-- name: has_agent
SELECT 1 FROM memory.agents a WHERE a.user_id = %(user)s AND a.id = %(id)s;

-- name: list_sessions
SELECT jsonb_build_object('id', s.id, 'agent_id', s.agent_id, 'name', s.name, 'metadata', s.metadata,
                          'created_at', memory.iso(s.created_at))::text
FROM memory.sessions s WHERE s.user_id = %(user)s ORDER BY s.created_at DESC, s.id DESC;

-- name: add_session
INSERT INTO memory.sessions AS s (user_id, id, agent_id, name, metadata)
VALUES (%(user)s, %(id)s, %(agent_id)s, %(name)s, %(metadata)s)
RETURNING jsonb_build_object('id', s.id, 'agent_id', s.agent_id, 'name', s.name, 'metadata', s.metadata,
                             'created_at', memory.iso(s.created_at))::text;
