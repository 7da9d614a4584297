-- name: enter
SELECT user_id, scopes FROM memory.enter(%(kind)s, %(hash)s, %(scope)s, %(csrf)s);

-- name: whose
-- The user of a token that opens something.
SELECT CASE %(kind)s WHEN 'feed' THEN memory.find_feed(%(hash)s) ELSE (memory.identify(%(kind)s, %(hash)s)).user_id END;

-- name: ready
SELECT max(number) FROM memory.migrations;

-- name: cleanup
SELECT idempotency_keys, web_sessions, trashed, purged FROM memory.cleanup();

-- name: register
SELECT memory.register(%(id)s, %(email)s, %(name)s, %(password_hash)s);

-- name: credentials
SELECT user_id, password_hash FROM memory.credentials(%(email)s);

-- name: open_session
SELECT memory.iso(memory.open_session(%(id)s, %(user)s, %(hash)s, %(csrf)s, make_interval(hours => %(hours)s)));

-- name: close_session
SELECT memory.close_session(%(hash)s);

-- name: get_me
SELECT jsonb_build_object('id', u.id, 'email', u.email, 'name', u.name, 'role', u.role,
                          'time_zone', u.time_zone, 'created_at', memory.iso(u.created_at))::text, u.email
FROM memory.users u WHERE u.id = %(user)s;

-- name: change_me
UPDATE memory.users u SET name = coalesce(%(name)s, u.name), time_zone = coalesce(%(time_zone)s, u.time_zone)
WHERE u.id = %(user)s;

-- name: export_account
SELECT jsonb_build_object('kind', e.kind, 'content', e.content)::text FROM memory.export_rows() e;

-- name: erase
DELETE FROM memory.users u WHERE u.id = %(user)s;

-- name: usage
SELECT memory.usage_json()::text;

-- name: choose_plan
SELECT memory.set_plan(%(user)s, %(plan)s, true);

-- name: give_plan
SELECT memory.set_plan(%(whose)s, %(plan)s, false);

-- name: list_users
SELECT u.created_at, u.id, jsonb_build_object('id', u.id, 'email', u.email, 'name', u.name, 'role', u.role, 'time_zone', u.time_zone, 'plan', g.tier,
                          'memories', g.memories, 'bytes', g.bytes, 'created_at', memory.iso(u.created_at))::text
FROM memory.users u JOIN memory.usage g ON g.user_id = u.id
WHERE %(after)s::timestamptz IS NULL OR (u.created_at, u.id) < (%(after)s::timestamptz, %(after_id)s::uuid)
ORDER BY u.created_at DESC, u.id DESC
LIMIT %(limit)s;
