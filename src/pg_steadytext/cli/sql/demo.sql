-- name: create
CREATE SCHEMA IF NOT EXISTS steadytext_demo;
CREATE TABLE IF NOT EXISTS steadytext_demo.notes (
    id        integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    body      text NOT NULL UNIQUE,
    embedding public.vector(384) NOT NULL
);
CREATE INDEX IF NOT EXISTS notes_embedding ON steadytext_demo.notes USING hnsw (embedding public.vector_cosine_ops);
COMMENT ON SCHEMA steadytext_demo IS 'What `pg-steadytext up` shows; drop it as you like.';

-- name: count
SELECT pg_catalog.count(*) FROM steadytext_demo.notes;

-- name: fill
INSERT INTO steadytext_demo.notes (body, embedding)
SELECT made.text, made.embedding FROM steadytext_embed_batch(ARRAY[
    'The invoice of March is still unpaid.',
    'Our cat sleeps on the radiator all winter.',
    'Restart the server after changing shared_buffers.',
    'Whisk the eggs before you add the flour.',
    'The train to Lyon leaves at seven from platform four.',
    'A vaccine teaches the immune system what to look for.',
    'She tuned the piano before the concert.',
    'The goalkeeper saved the penalty in the last minute.',
    'Tomatoes need six hours of sun a day.',
    'The glacier has lost a third of its ice since 1980.',
    'Back up the database before you upgrade it.',
    'The bakery opens at six and sells out by nine.'
]) AS made
ON CONFLICT (body) DO NOTHING;

-- name: generate
SELECT steadytext_generate(%(prompt)s, max_tokens => 48, use_cache => %(cached)s);

-- name: search
SELECT body
  FROM steadytext_demo.notes
 ORDER BY embedding <=> steadytext_embed(%(query)s, use_cache => %(cached)s)
 LIMIT 3;

-- name: prefer_the_index
-- Twelve rows fit one page, so the planner would rather read the table; a real one is larger.
SET enable_seqscan = off;

-- name: explain_search
EXPLAIN (COSTS off)
SELECT body FROM steadytext_demo.notes ORDER BY embedding <=> steadytext_embed(%(query)s) LIMIT 3;
