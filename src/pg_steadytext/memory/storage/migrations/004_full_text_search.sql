-- Words of memories: a text search vector kept beside each, in one index with its owner.

CREATE EXTENSION IF NOT EXISTS btree_gin;
CREATE EXTENSION IF NOT EXISTS pg_trgm;

-- A text search vector holds a megabyte at most; no text, however odd its words, may fail to be saved for that.
CREATE FUNCTION memory.document(p_title text, p_body text) RETURNS tsvector
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF octet_length(p_body) > 100000 THEN
        BEGIN
            RETURN setweight(to_tsvector('english', coalesce(p_title, '')), 'A')
                   || setweight(to_tsvector('english', p_body), 'B');
        EXCEPTION WHEN program_limit_exceeded THEN
            p_body := left(p_body, 20000);
        END;
    END IF;
    IF p_title IS NULL THEN
        RETURN setweight(to_tsvector('english', p_body), 'B');
    END IF;
    RETURN setweight(to_tsvector('english', p_title), 'A') || setweight(to_tsvector('english', p_body), 'B');
END
$$;
REVOKE ALL ON FUNCTION memory.document(text, text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION memory.document(text, text) TO memory_app;

ALTER TABLE memory.memories ADD COLUMN document tsvector GENERATED ALWAYS AS (memory.document(title, body)) STORED;
CREATE INDEX memories_by_word ON memory.memories USING gin (user_id, document);
