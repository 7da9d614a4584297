-- name: relation
-- Looked up in the caller's own search_path, before that is set.
SELECT %(table)s::pg_catalog.regclass::pg_catalog.oid;

-- name: begin
SELECT ticket, autoembed, version, model, digest, chunking::text
FROM _steadytext_ranges_begin(%(relation)s::oid::regclass, %(destination)s, pg_catalog.make_interval(secs => %(lease)s));

-- name: keep
SELECT _steadytext_ranges_keep(
    %(ticket)s, %(autoembed)s, %(version)s, pg_catalog.make_interval(secs => %(lease)s), %(done_to)s);

-- name: end
SELECT _steadytext_ranges_end(%(ticket)s, %(autoembed)s, %(version)s, %(complete)s);

-- name: plan
SELECT after_key, last_key, rows FROM _steadytext_ranges_plan(%(autoembed)s, %(version)s, %(range_rows)s);

-- name: read
SELECT key, words, code, error FROM _steadytext_range_read(%(autoembed)s, %(version)s, %(after)s, %(last)s);

-- name: write
SELECT _steadytext_range_write(%(autoembed)s, %(version)s, %(keys)s::text[], %(digests)s::text[], %(vectors)s::text[],
                               %(codes)s::text[], %(errors)s::text[]);
