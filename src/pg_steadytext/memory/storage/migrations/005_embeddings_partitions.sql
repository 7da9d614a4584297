-- Embeddings of memories, in partitions by user with an index each: the fewer users share an index, the fewer vectors of
-- others a search walks through.

CREATE EXTENSION IF NOT EXISTS vector;
SELECT pg_catalog.set_config('search_path', pg_catalog.concat_ws(', ', nullif(pg_catalog.current_setting('search_path'), ''),
                             pg_catalog.quote_ident(n.nspname)), true)
FROM pg_catalog.pg_extension e JOIN pg_catalog.pg_namespace n ON n.oid = e.extnamespace WHERE e.extname = 'vector';

DO $$
BEGIN
    -- The worker's role, as the extension makes it: either may be there first.
    CREATE ROLE steadytext_worker NOLOGIN;
EXCEPTION WHEN duplicate_object OR unique_violation THEN
    NULL;
END
$$;
GRANT USAGE ON SCHEMA memory TO steadytext_worker;

CREATE TABLE memory.embeddings (
    user_id     uuid NOT NULL,
    memory_id   uuid NOT NULL,
    -- SHA-256 of the text that was embedded.
    digest      bytea NOT NULL CHECK (octet_length(digest) = 32),
    model       text NOT NULL,
    embedding   vector(384) NOT NULL,
    embedded_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (user_id, memory_id),
    FOREIGN KEY (user_id, memory_id) REFERENCES memory.memories ON DELETE CASCADE
) PARTITION BY HASH (user_id);

DO $$
BEGIN
    FOR part IN 0 .. 7 LOOP
        EXECUTE format('CREATE TABLE memory.embeddings_%s PARTITION OF memory.embeddings '
                       'FOR VALUES WITH (MODULUS 8, REMAINDER %s)', part, part);
        EXECUTE format('ALTER TABLE memory.embeddings_%s ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY', part);
    END LOOP;
END
$$;
CREATE INDEX embeddings_by_meaning ON memory.embeddings USING hnsw (embedding vector_cosine_ops)
    WITH (m = 24, ef_construction = 128);

ALTER TABLE memory.embeddings ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
CREATE POLICY own ON memory.embeddings TO memory_app USING (user_id = memory.me()) WITH CHECK (user_id = memory.me());
GRANT SELECT, DELETE ON memory.embeddings TO memory_app;

ALTER TABLE memory.memories ADD COLUMN embedding_error text, ADD COLUMN embedding_retry_at timestamptz;
-- What is still to be embedded, or could not be.
CREATE INDEX memories_to_embed ON memory.memories (user_id, id)
    WHERE embedding_status IN ('pending', 'paused', 'failed');

-- Until when a worker that has fallen asleep wants to be told of a save. NOTIFY makes committing transactions wait for
-- each other, so nobody is told who looks by himself, or is gone.
CREATE TABLE memory.embedding_lane (
    is_the_only_one boolean PRIMARY KEY DEFAULT true CHECK (is_the_only_one),
    asleep_until    timestamptz NOT NULL DEFAULT '-infinity'
) WITH (fillfactor = 10);
INSERT INTO memory.embedding_lane DEFAULT VALUES;
GRANT SELECT ON memory.embedding_lane TO memory_app;
