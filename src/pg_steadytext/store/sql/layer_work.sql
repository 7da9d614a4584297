-- name: read
SELECT ask, request::text, answer, digest FROM _steadytext_layer_read(%(layer)s, %(key)s);

-- name: put
SELECT _steadytext_layer_put(%(layer)s, %(key)s, %(digest)s, %(answer)s, %(request)s::uuid);
