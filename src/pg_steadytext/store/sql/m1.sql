-- Facts: what rows of the first layer say, each by itself, with its source and when it holds.

-- name: m1_table
CREATE TABLE {table} (
    id text PRIMARY KEY,
    source_id text NOT NULL REFERENCES {m0} ON DELETE CASCADE,
    content text NOT NULL,
    category text NOT NULL DEFAULT 'statement',
    subject text,
    relation text,
    object text,
    negated boolean NOT NULL DEFAULT false,
    confidence double precision NOT NULL DEFAULT 0.5 CHECK (confidence BETWEEN 0 AND 1),
    valid_from timestamptz NOT NULL DEFAULT CURRENT_TIMESTAMP,
    valid_to timestamptz,
    metadata jsonb DEFAULT '{{}}'::jsonb,
    created_at timestamptz DEFAULT CURRENT_TIMESTAMP
);

-- name: m1_index
CREATE INDEX IF NOT EXISTS {index} ON {table} (source_id);

-- name: m1_rules
-- Facts by rules: sentences of the form subject, known relation, object; any other sentence that states something is a
-- fact without parts. No model is asked.
CREATE OR REPLACE FUNCTION {rules}(key text, words text) RETURNS jsonb LANGUAGE sql STABLE SET search_path FROM CURRENT AS $rules$
    WITH known (said, relation, category) AS (VALUES
        ('lives? in', 'lives in', 'location'), ('moved to', 'lives in', 'location'), ('(?:was|were) born in', 'was born in', 'location'),
        ('works? (?:at|for)', 'works at', 'work'), ('works? as', 'works as', 'work'), ('(?:is|am) (?:named|called)', 'is named', 'identity'),
        ('likes?', 'likes', 'preference'), ('loves?', 'likes', 'preference'), ('enjoys?', 'likes', 'preference'),
        ('hates?', 'dislikes', 'preference'), ('dislikes?', 'dislikes', 'preference'), ('prefers?', 'prefers', 'preference'),
        ('uses?', 'uses', 'habit'), ('knows?', 'knows', 'skill'), ('speaks?', 'speaks', 'skill'), ('wants?', 'wants', 'goal'),
        ('owns?', 'has', 'possession'), ('has|have', 'has', 'possession'), ('is|am|are', 'is', 'attribute')
    ), pattern AS (
        SELECT '^([[:alpha:]][^,]{{0,80}}?)\s+(' || string_agg(said, '|') || ')\s+(.+)$' AS whole
        FROM known
    ), sentence AS (
        SELECT btrim(s.said) AS said, btrim(s.said, E' \n\t.!') AS bare, s.place
        FROM regexp_split_to_table(words, '(?<=[.!?])\s+|\n+') WITH ORDINALITY s (said, place)
        WHERE s.said ~ '\S\s+\S' AND btrim(s.said) !~ '\?$'
    ), parts AS (
        SELECT e.said, e.place, regexp_match(e.bare, p.whole, 'i') AS m FROM sentence e, pattern p
    ), trimmed AS (
        SELECT p.said, p.place, p.m[2] AS verb, p.m[1] ~* '\s(do(es)? not|don''t|doesn''t)$' OR p.m[3] ~* '^not\s' AS negated,
               regexp_replace(regexp_replace(p.m[1], '\s+(do(es)? not|don''t|doesn''t)$', '', 'i'), '^my ', 'user''s ', 'i') AS subject,
               regexp_replace(p.m[3], '^not\s+', '', 'i') AS object
        FROM parts p
    )
    SELECT coalesce(jsonb_agg(jsonb_build_object(
               'content', t.said, 'category', coalesce(k.category, 'statement'),
               'subject', CASE WHEN k.relation IS NOT NULL THEN CASE WHEN lower(t.subject) = 'i' THEN 'user' ELSE t.subject END END,
               'relation', k.relation, 'object', CASE WHEN k.relation IS NOT NULL THEN t.object END,
               'negated', k.relation IS NOT NULL AND t.negated, 'confidence', CASE WHEN k.relation IS NULL THEN 0.5 ELSE 0.9 END,
               'metadata', jsonb_build_object('extractor', 'rules'), 'valid_from', s.created_at) ORDER BY t.place), '[]')
    FROM trimmed t LEFT JOIN known k ON t.verb ~* ('^(?:' || k.said || ')$') JOIN {m0} s ON s.id = key
$rules$;

-- name: m1_model
-- Facts by the model: its answer is of the schema, so that only what it leaves blank has to be passed over.
CREATE OR REPLACE FUNCTION {model}(key text, answer text) RETURNS jsonb LANGUAGE sql STABLE SET search_path FROM CURRENT AS $model$
    SELECT coalesce(jsonb_agg(jsonb_build_object(
               'content', btrim(f.content), 'category', coalesce(nullif(lower(btrim(f.category)), ''), 'statement'),
               'subject', nullif(btrim(f.subject), ''), 'relation', nullif(lower(btrim(f.relation)), ''), 'object', nullif(btrim(f.object), ''),
               'negated', false, 'confidence', least(1, greatest(0, coalesce(f.confidence, 0.5))),
               'metadata', jsonb_build_object('extractor', 'model'), 'valid_from', s.created_at) ORDER BY f.place), '[]')
    FROM {m0} s, LATERAL (
        SELECT DISTINCT ON (lower(btrim(e.value ->> 'content'))) e.value ->> 'content' AS content, e.value ->> 'category' AS category,
               e.value ->> 'subject' AS subject, e.value ->> 'relation' AS relation, e.value ->> 'object' AS object,
               (e.value ->> 'confidence')::double precision AS confidence, e.ordinality AS place
        FROM jsonb_array_elements(answer::jsonb -> 'facts') WITH ORDINALITY e
        WHERE e.value ->> 'content' ~ '\S' ORDER BY lower(btrim(e.value ->> 'content')), e.ordinality) f
    WHERE s.id = key
$model$;

-- name: fact_ids
SELECT t.id FROM {table} AS t WHERE t.source_id = ANY (%(ids)s::text[]) ORDER BY t.source_id, t.id;

-- name: is_layer
SELECT count(*) = 1 FROM {steadytext}.steadytext_layers l WHERE l.destination = pg_catalog.to_regclass({name});

-- name: layer
SELECT {steadytext}.steadytext_layer({source}::regclass, {name}::regclass, {ask}, {function}::regprocedure, {options}::jsonb, {model});

-- name: layer_run
SELECT {steadytext}.steadytext_layer_run({name}::regclass);

-- name: layer_wait
SELECT {steadytext}.steadytext_layer_wait({name}::regclass, %(keys)s::text[], %(seconds)s);

-- name: layer_row_status
SELECT r.retry_status, r.retry_count, r.max_retries, r.last_retry_at, r.error
FROM {steadytext}.steadytext_layer_row_status({name}::regclass, %(key)s) r;

-- name: layer_status
SELECT s.total, s.completed, s.pending, s.processing, s.failed FROM {steadytext}.steadytext_layer_status({name}::regclass) s;

-- name: search_layers
SELECT s.key ->> 'id', s.content, s.score, s.similarity,
       array_position({relations}::regclass[], s.relation)
FROM {steadytext}.steadytext_search_layers({relations}::regclass[], %(query)s, %(k)s, %(mode)s) s;
