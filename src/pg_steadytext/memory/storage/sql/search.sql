-- name: begin_search
SELECT user_id, headers::text FROM memory.begin_search(%(kind)s, %(hash)s, %(csrf)s);

-- name: look_for_words
SELECT ids::text, shown::text FROM memory.look_for_words(%(kind)s, %(hash)s, %(csrf)s, %(query)s, %(filter)s, %(limit)s);

-- name: search
SELECT memory.search(%(kind)s, %(hash)s, %(csrf)s, %(query)s, %(vector)s, %(mode)s, %(without)s, %(filter)s, %(limit)s,
                     %(floor)s, %(explain)s, %(highlight)s, %(worded)s::uuid[], %(shown)s::tsquery)::text;

-- name: similar
SELECT memory.similar_to(%(kind)s, %(hash)s, %(csrf)s, %(id)s, %(limit)s, %(floor)s)::text;
