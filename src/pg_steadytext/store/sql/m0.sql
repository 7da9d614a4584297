-- What a store's own table is made of, each step only where it is missing.

-- name: table
CREATE TABLE {table} (
    id text PRIMARY KEY,
    content text NOT NULL,
    metadata jsonb DEFAULT '{{}}'::jsonb,
    needs_embedding boolean DEFAULT true,
    retry_count integer DEFAULT 0,
    last_retry_at timestamptz,
    retry_status text DEFAULT 'pending',
    created_at timestamptz DEFAULT CURRENT_TIMESTAMP,
    updated_at timestamptz DEFAULT CURRENT_TIMESTAMP,
    embedded_at timestamptz
);

-- name: missing_columns
ALTER TABLE {table}
    ADD COLUMN IF NOT EXISTS metadata jsonb DEFAULT '{{}}'::jsonb,
    ADD COLUMN IF NOT EXISTS needs_embedding boolean DEFAULT true,
    ADD COLUMN IF NOT EXISTS retry_count integer DEFAULT 0,
    ADD COLUMN IF NOT EXISTS last_retry_at timestamptz,
    ADD COLUMN IF NOT EXISTS retry_status text DEFAULT 'pending',
    ADD COLUMN IF NOT EXISTS created_at timestamptz DEFAULT CURRENT_TIMESTAMP,
    ADD COLUMN IF NOT EXISTS updated_at timestamptz DEFAULT CURRENT_TIMESTAMP,
    ADD COLUMN IF NOT EXISTS embedded_at timestamptz;

-- name: keep_function
-- A new text has no vector yet: the old one's must not be found for it. The flags follow the vector, whoever writes it.
CREATE OR REPLACE FUNCTION {keep}() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $keep$
BEGIN
    IF TG_OP = 'UPDATE' THEN
        IF NEW.content IS DISTINCT FROM OLD.content THEN
            NEW.embedding := NULL;
        ELSIF OLD.embedding IS NULL AND NEW.embedding IS NOT NULL THEN
            NEW.embedded_at := clock_timestamp();
        END IF;
        IF (NEW.content, NEW.metadata) IS DISTINCT FROM (OLD.content, OLD.metadata) THEN
            NEW.updated_at := clock_timestamp();
        END IF;
    END IF;
    NEW.needs_embedding := NEW.embedding IS NULL AND NEW.content ~ '\S';
    NEW.retry_status := CASE WHEN NEW.needs_embedding THEN 'pending' ELSE 'completed' END;
    RETURN NEW;
END
$keep$;

-- name: keep_trigger
CREATE OR REPLACE TRIGGER {trigger} BEFORE INSERT OR UPDATE ON {table} FOR EACH ROW EXECUTE FUNCTION {keep}();

-- name: created_index
CREATE INDEX IF NOT EXISTS {created} ON {table} (created_at);

-- name: pending_index
CREATE INDEX IF NOT EXISTS {pending} ON {table} (needs_embedding) WHERE needs_embedding;

-- name: view
-- Each row's state as it is: what is pending, and what has failed with which error.
CREATE OR REPLACE VIEW {view} AS
SELECT t.id, t.content, t.metadata, t.needs_embedding,
       coalesce(f.retry_count, 0) AS retry_count, f.last_retry_at,
       CASE WHEN f.key IS NOT NULL THEN 'failed' ELSE t.retry_status END AS retry_status, f.error, t.created_at, t.updated_at
FROM {table} AS t LEFT JOIN {steadytext}.steadytext_autoembed_failures({name}::regclass, 'embedding') f ON f.key = t.id;

-- name: old_triggers
-- The older schema notified by row: nobody listens to that any more.
SELECT t.tgname FROM pg_catalog.pg_trigger t JOIN pg_catalog.pg_proc p ON p.oid = t.tgfoid
WHERE t.tgrelid = pg_catalog.to_regclass({name}) AND NOT t.tgisinternal AND p.proname = 'notify_embedding_needed';

-- name: drop_trigger
DROP TRIGGER IF EXISTS {trigger} ON {table};

-- name: drop_view
DROP VIEW IF EXISTS {view};

-- name: rename
ALTER TABLE {old} RENAME TO {new};

-- name: forget
SELECT {steadytext}.steadytext_autoembed_drop({name}::regclass, 'embedding');

-- name: old_flags
UPDATE {table} SET needs_embedding = embedding IS NULL, retry_status = CASE WHEN embedding IS NULL THEN 'pending' ELSE 'completed' END
WHERE needs_embedding IS DISTINCT FROM (embedding IS NULL);

-- name: exists
SELECT pg_catalog.to_regclass({name}) IS NOT NULL;
