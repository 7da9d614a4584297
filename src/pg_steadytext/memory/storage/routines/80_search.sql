-- Search. Row-level security lets no condition on words reach an index, since text search operators might leak what they
-- see; so memories are nominated past it, by memory.nominate, and every one is read under it.

-- Names of operators and functions in bodies of the standard's form are looked up when they are made.
SELECT pg_catalog.set_config('search_path', pg_catalog.concat_ws(', ', nullif(pg_catalog.current_setting('search_path'), ''),
                             pg_catalog.string_agg(pg_catalog.quote_ident(n.nspname), ', ')), true)
FROM pg_catalog.pg_extension e JOIN pg_catalog.pg_namespace n ON n.oid = e.extnamespace
WHERE e.extname IN ('vector', 'pg_trgm');

CREATE OR REPLACE FUNCTION memory.vector_schema() RETURNS text
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RETURN (SELECT quote_ident(n.nspname) FROM pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace
            WHERE e.extname = 'vector');
END
$$;

-- What a filter means for a memory m, as a condition with every value quoted.
CREATE OR REPLACE FUNCTION memory.search_condition(p_filter jsonb) RETURNS text
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RETURN concat(
        'm.deleted_at IS NULL AND (m.expires_at IS NULL OR m.expires_at > now())',
        (SELECT string_agg(CASE f.key
            WHEN 'tags_any' THEN format(' AND m.tags && %L::text[]', ARRAY(SELECT jsonb_array_elements_text(f.value)))
            WHEN 'tags_all' THEN format(' AND m.tags @> %L::text[]', ARRAY(SELECT jsonb_array_elements_text(f.value)))
            WHEN 'category' THEN format(' AND m.category = %L', f.value #>> '{}')
            WHEN 'source' THEN format(' AND m.source = %L', f.value #>> '{}')
            WHEN 'agent_id' THEN format(' AND m.agent_id = %L', f.value #>> '{}')
            WHEN 'agent_or_none' THEN format(' AND (m.agent_id = %L OR m.agent_id IS NULL)', f.value #>> '{}')
            WHEN 'memfuse_user' THEN format(' AND m.provenance ->> ''memfuse_user'' = %L', f.value #>> '{}')
            WHEN 'session_id' THEN format(' AND m.session_id = %L', f.value #>> '{}')
            WHEN 'from' THEN format(' AND m.created_at >= %L', f.value #>> '{}')
            WHEN 'to' THEN format(' AND m.created_at < %L', f.value #>> '{}')
            WHEN 'pinned' THEN format(' AND m.pinned = %L', f.value #>> '{}')
            WHEN 'not_id' THEN format(' AND m.id <> %L', f.value #>> '{}')
            END, '' ORDER BY f.key)
         FROM jsonb_each(p_filter) f));
END
$$;

-- The caller's memories in which words are and others are not, the best first: ids and nothing else. A memory's rank is the
-- sum of its ranks for each word of p_rank (words joined by "or"), weighted by how rare the word is, as BM25 has it: without
-- that a memory full of the query's common words comes before the one that has its only telling word.
DROP FUNCTION IF EXISTS memory.nominate(tsquery, tsquery, jsonb, integer);
CREATE OR REPLACE FUNCTION memory.nominate(
    p_words tsquery, p_without tsquery, p_rank tsquery, p_filter jsonb, p_most integer)
RETURNS SETOF uuid LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_most_words CONSTANT integer := 32;
    v_ranks text;
    v_weights text;
    v_score text;
BEGIN
    SELECT string_agg(format('ts_rank(d.document, %L::tsquery, 1) AS r%s', w.word, w.place), ', '),
           string_agg(format('ln(1 + (greatest(count(*), $5) - count(*) FILTER (WHERE r%1$s > 0) + float8 ''0.5'') '
                             '/ (count(*) FILTER (WHERE r%1$s > 0) + float8 ''0.5'')) AS w%1$s', w.place), ', '),
           string_agg(format('h.r%1$s * k.w%1$s', w.place), ' + ')
    INTO v_ranks, v_weights, v_score
    FROM (SELECT o.word, row_number() OVER (ORDER BY length(o.word) DESC, o.word) AS place
          FROM (SELECT DISTINCT u.word FROM unnest(string_to_array(p_rank::text, ' | ')) u (word)) o) w
    WHERE w.place <= v_most_words;
    -- The document is copied, so that one that is stored apart is fetched once and not for every word.
    RETURN QUERY EXECUTE format(
        'WITH held AS MATERIALIZED ('
        'SELECT d.id, d.created_at, %1$s FROM (SELECT m.id, m.created_at, m.document || '''' AS document FROM memory.memories m '
        'WHERE m.user_id = $1 AND m.document @@ $2 AND ($3 IS NULL OR NOT m.document @@ $3) AND %2$s OFFSET 0) d) '
        'SELECT h.id FROM held h, (SELECT %3$s FROM held) k '
        'ORDER BY %4$s DESC, h.created_at DESC, h.id DESC LIMIT $4',
        v_ranks, memory.search_condition(p_filter), v_weights, v_score)
    USING memory.me(), p_words, p_without, p_most,
          (SELECT u.memories FROM memory.usage u WHERE u.user_id = memory.me());
END
$$;

-- The words of a query that the caller's newest memories do not have, replaced by the most similar ones that they have;
-- any of them will do. Null where nothing is similar.
CREATE OR REPLACE FUNCTION memory.corrected(p_query text) RETURNS tsquery
LANGUAGE sql STABLE
BEGIN ATOMIC
    WITH known AS (
        SELECT DISTINCT w.word
        FROM (SELECT m.document FROM memory.memories m WHERE m.user_id = memory.me() AND m.deleted_at IS NULL
              ORDER BY m.created_at DESC, m.id DESC LIMIT 2000) newest,
             unnest(tsvector_to_array(newest.document)) w (word)
    ), asked AS (
        SELECT a.word FROM unnest(tsvector_to_array(to_tsvector('english', p_query))) a (word)
    )
    SELECT string_agg('''' || replace(replace(near.word, '\', '\\'), '''', '''''') || '''', ' | ')::tsquery
    FROM asked, LATERAL (
        SELECT k.word FROM known k WHERE similarity(k.word, asked.word) >= 0.25
        ORDER BY similarity(k.word, asked.word) DESC, k.word LIMIT 2) near;
END;

-- Text that may be put into a page as it is: what was in it is escaped, and only the marks of words found are tags.
CREATE OR REPLACE FUNCTION memory.highlight(p_text text, p_words tsquery) RETURNS text
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    -- Angle brackets go by in disguise: what looks like a tag would be left out of the passage.
    v_text text := left(translate(p_text, E'<>\x02\x03\x04\x05', E'\x04\x05'), 50000);
BEGIN
    v_text := ts_headline('english', v_text, coalesce(p_words, ''::tsquery),
                          E'StartSel=\x02, StopSel=\x03, MaxFragments=2, MaxWords=30, MinWords=10');
    v_text := replace(replace(replace(v_text, '&', '&amp;'), '"', '&quot;'), '''', '&#39;');
    v_text := replace(replace(v_text, E'\x04', '&lt;'), E'\x05', '&gt;');
    RETURN replace(replace(v_text, E'\x02', '<mark>'), E'\x03', '</mark>');
END
$$;

GRANT EXECUTE ON FUNCTION
    memory.vector_schema(), memory.search_condition(jsonb), memory.nominate(tsquery, tsquery, tsquery, jsonb, integer),
    memory.corrected(text), memory.highlight(text, tsquery)
TO memory_app;
