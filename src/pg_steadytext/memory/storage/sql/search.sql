-- name: begin_search
SELECT user_id, headers::text FROM memory.begin_search(%(kind)s, %(hash)s, %(csrf)s);

-- name: search
SELECT memory.search(%(kind)s, %(hash)s, %(csrf)s, %(query)s, %(vector)s, %(mode)s, %(without)s, %(filter)s, %(limit)s,
                     %(floor)s, %(explain)s, %(highlight)s)::text;

-- name: similar
SELECT memory.similar_to(%(kind)s, %(hash)s, %(csrf)s, %(id)s, %(limit)s, %(floor)s)::text;
