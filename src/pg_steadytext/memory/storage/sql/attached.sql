-- name: take_memory
-- Behind the lock of the user's writes; refused when it is not there. What is written of it next is a change of it.
SELECT memory.touch(%(id)s);

-- name: list_links
SELECT jsonb_build_object('target_id', l.target_id, 'kind', l.kind, 'created_at', memory.iso(l.created_at))::text
FROM memory.links l WHERE l.user_id = %(user)s AND l.memory_id = %(id)s ORDER BY l.created_at, l.target_id;

-- name: put_link
INSERT INTO memory.links AS l (user_id, memory_id, target_id, kind) VALUES (%(user)s, %(id)s, %(target)s, %(link)s)
ON CONFLICT (user_id, memory_id, target_id) DO UPDATE SET kind = excluded.kind
RETURNING jsonb_build_object('target_id', l.target_id, 'kind', l.kind, 'created_at', memory.iso(l.created_at))::text;

-- name: delete_link
DELETE FROM memory.links l WHERE l.user_id = %(user)s AND l.memory_id = %(id)s AND l.target_id = %(target)s
RETURNING l.target_id;

-- name: list_attachments
SELECT jsonb_build_object('name', a.name, 'media_type', a.media_type, 'text', a.text, 'bytes', a.bytes,
                          'created_at', memory.iso(a.created_at), 'updated_at', memory.iso(a.updated_at))::text
FROM memory.attachments a WHERE a.user_id = %(user)s AND a.memory_id = %(id)s ORDER BY a.name;

-- name: attachment_bytes
SELECT a.bytes FROM memory.attachments a
WHERE a.user_id = %(user)s AND a.memory_id = %(id)s AND a.name = %(name)s;

-- name: count_bytes
SELECT memory.count_write(0, %(bytes)s, 0);

-- name: put_attachment
INSERT INTO memory.attachments AS a (user_id, memory_id, name, media_type, text, bytes)
VALUES (%(user)s, %(id)s, %(name)s, %(media_type)s, %(text)s, %(bytes)s)
ON CONFLICT (user_id, memory_id, name) DO UPDATE
SET media_type = excluded.media_type, text = excluded.text, bytes = excluded.bytes, updated_at = now()
RETURNING jsonb_build_object('name', a.name, 'media_type', a.media_type, 'text', a.text, 'bytes', a.bytes,
                             'created_at', memory.iso(a.created_at), 'updated_at', memory.iso(a.updated_at))::text;

-- name: delete_attachment
DELETE FROM memory.attachments a
WHERE a.user_id = %(user)s AND a.memory_id = %(id)s AND a.name = %(name)s RETURNING a.bytes;
