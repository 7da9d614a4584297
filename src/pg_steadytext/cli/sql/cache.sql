-- name: model
-- One whose answers have been kept, or a name or alias of the catalogue's.
SELECT m.name, m.kind, m.digest FROM steadytext_models AS m
 WHERE m.name = %(model)s OR %(model)s = ANY (m.aliases) ORDER BY (m.name = %(model)s) DESC, m.name LIMIT 1

-- name: default_model
SELECT steadytext_config_get('default_' || %(kind)s || '_model') AS name

-- name: import
SELECT i.place, i.outcome FROM _steadytext_cache_import(%(entries)s) AS i ORDER BY i.place

-- name: export
-- What SteadyText can hold of each key comes in the order in which it should win.
SELECT c.prompt, c.response, c.embedding::text AS embedding, c.generation_params::text AS params, c.access_count,
       c.last_accessed, c.created_at, c.generation_time_ms AS took_ms, c.steadytext_cache_hit AS is_foreign,
       c.model_name = %(model)s AND c.scope IS NULL AND NOT c.thinking_mode
           AND NOT c.generation_params ?| ARRAY['schema', 'regex', 'choices'] AS stock,
       c.eos_string, coalesce((c.generation_params ->> 'temperature')::double precision, 0) AS temperature
  FROM steadytext_cache_with_frecency AS c
 WHERE c.operation = %(operation)s AND c.generation_params IS NOT NULL
 ORDER BY (c.seed = 42) DESC,
          (c.generation_params ->> 'max_tokens' = steadytext_config_get('default_max_tokens')) DESC NULLS LAST,
          c.access_count DESC, c.id
