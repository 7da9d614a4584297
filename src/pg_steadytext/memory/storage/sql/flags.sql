-- name: read_flags
SELECT memory.read_flags();

-- name: get_flag
SELECT memory.flag_json(f)::text FROM memory.flags AS f WHERE f.key = %(key)s;

-- name: list_flags
SELECT memory.flag_json(f)::text FROM memory.flags AS f ORDER BY f.key;

-- name: put_flag
SELECT memory.put_flag(%(key)s, %(flag)s);
