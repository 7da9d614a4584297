-- name: register
SELECT memory.register(%(id)s, %(email)s, %(name)s, %(password_hash)s);

-- name: give_plan
SELECT memory.set_plan(%(id)s, %(plan)s, false);

-- name: make_admin
UPDATE memory.users SET role = 'admin' WHERE id = %(id)s;

-- name: add_key
INSERT INTO memory.api_keys (user_id, id, name, token_hash, scopes)
SELECT u.id, %(id)s, %(name)s, %(hash)s, %(scopes)s FROM memory.users u WHERE u.email = lower(%(email)s)
RETURNING id;
