-- Knowledge: statements that facts agree on; what contradicts a later one is superseded by it, and kept.

-- name: m2_table
CREATE TABLE {table} (
    id text PRIMARY KEY,
    source_id text,
    content text NOT NULL,
    category text NOT NULL,
    subject text,
    relation text,
    object text,
    negated boolean NOT NULL,
    confidence double precision NOT NULL,
    support integer NOT NULL DEFAULT 0,
    valid_from timestamptz NOT NULL,
    last_stated timestamptz NOT NULL,
    valid_to timestamptz,
    superseded_by text REFERENCES {table} ON DELETE SET NULL,
    metadata jsonb DEFAULT '{{}}'::jsonb,
    created_at timestamptz DEFAULT CURRENT_TIMESTAMP
);

-- name: m2_sources
CREATE TABLE IF NOT EXISTS {sources} (
    statement_id text NOT NULL REFERENCES {table} ON DELETE CASCADE,
    fact_id text NOT NULL REFERENCES {m1} ON DELETE CASCADE,
    PRIMARY KEY (fact_id, statement_id)
);

-- name: m2_indexes
CREATE INDEX IF NOT EXISTS {by_subject} ON {table} (lower(coalesce(subject, '')));

-- name: m2_sources_index
CREATE INDEX IF NOT EXISTS {by_statement} ON {sources} (statement_id);

-- name: m2_entities
CREATE OR REPLACE VIEW {entities} AS
SELECT min(e.name) AS name, count(*) AS mentions, min(e.valid_from) AS first_seen, max(e.last_stated) AS last_seen
FROM (SELECT subject AS name, valid_from, last_stated FROM {table} WHERE relation IS NOT NULL AND subject IS NOT NULL
      UNION ALL
      SELECT object, valid_from, last_stated FROM {table} WHERE relation IS NOT NULL AND object IS NOT NULL) e
GROUP BY lower(e.name);

-- name: m2_relations
CREATE OR REPLACE VIEW {relations} AS
SELECT subject, relation, object, negated, confidence, support, valid_from, valid_to, superseded_by IS NULL AS is_current, id AS statement_id
FROM {table} WHERE relation IS NOT NULL AND subject IS NOT NULL AND object IS NOT NULL;

-- name: m2_settle
-- What statements about these subjects are, by the facts behind them, in whatever order those came: their support; which is
-- the later of two that contradict each other; and none is left that no fact supports.
CREATE OR REPLACE FUNCTION {settle}(subjects text[]) RETURNS void LANGUAGE sql VOLATILE SET search_path FROM CURRENT AS $settle$
    DELETE FROM {table} s WHERE lower(coalesce(s.subject, '')) = ANY (subjects)
        AND NOT EXISTS (SELECT FROM {sources} f WHERE f.statement_id = s.id);
    UPDATE {table} s SET support = f.support, confidence = f.confidence, valid_from = f.first, last_stated = f.last
    FROM (SELECT o.statement_id, count(*) AS support, 1 - exp(greatest(-700, sum(ln(greatest(1e-9, 1 - m.confidence))))) AS confidence,
                 min(m.valid_from) AS first, max(m.valid_from) AS last
          FROM {sources} o JOIN {m1} m ON m.id = o.fact_id JOIN {table} t ON t.id = o.statement_id
          WHERE lower(coalesce(t.subject, '')) = ANY (subjects) GROUP BY o.statement_id) f
    WHERE s.id = f.statement_id AND (s.support, s.confidence, s.valid_from, s.last_stated) IS DISTINCT FROM
                                    (f.support::integer, f.confidence, f.first, f.last);
    UPDATE {table} s SET superseded_by = n.later, valid_to = n.moment
    FROM (SELECT o.id, l.id AS later, l.last_stated AS moment FROM {table} o LEFT JOIN LATERAL (
              SELECT t.id, t.last_stated FROM {table} t
              WHERE lower(coalesce(t.subject, '')) = lower(coalesce(o.subject, '')) AND t.relation = o.relation
                AND (t.last_stated, t.id) > (o.last_stated, o.id)
                AND CASE WHEN lower(t.object) = lower(o.object) THEN t.negated <> o.negated
                         ELSE NOT t.negated AND NOT o.negated AND (o.relation IN ('lives in', 'was born in', 'works at', 'works as', 'is named', 'prefers')
                              OR o.relation = 'is' AND o.subject ~ '''s ') END
              ORDER BY t.last_stated, t.id LIMIT 1) l ON true
          WHERE lower(coalesce(o.subject, '')) = ANY (subjects)) n
    WHERE s.id = n.id AND (s.superseded_by, s.valid_to) IS DISTINCT FROM (n.later, n.moment)
$settle$;

-- name: m2_merge
-- A fact is one more source of the statement that it agrees with: the same words, the same parts, or nearly the same meaning
-- about the same subject and no other object; else it is a statement of its own.
CREATE OR REPLACE FUNCTION {merge}(key text, meaning text) RETURNS jsonb LANGUAGE plpgsql VOLATILE SET search_path FROM CURRENT AS $merge$
DECLARE
    f {m1};
    same text;
BEGIN
    SELECT m.* INTO f FROM {m1} m WHERE m.id = key;
    IF f.id IS NULL THEN
        RETURN NULL;
    END IF;
    PERFORM pg_advisory_xact_lock(hashtextextended({name} || lower(coalesce(f.subject, '')), 0));
    SELECT s.id INTO same FROM {table} s
    WHERE lower(coalesce(s.subject, '')) = lower(coalesce(f.subject, '')) AND s.negated = f.negated
      AND (lower(s.content) = lower(f.content) OR s.relation = f.relation AND lower(s.object) = lower(f.object)
           OR s.relation IS NOT DISTINCT FROM f.relation AND (f.relation IS NULL OR f.relation NOT IN ('lives in', 'was born in', 'works at', 'works as', 'is named', 'prefers', 'is'))
              AND 1 - (s.embedding OPERATOR({vector}.<=>) meaning::{vector}.vector) >= {similarity})
    ORDER BY lower(s.content) = lower(f.content) DESC, s.relation = f.relation AND lower(s.object) = lower(f.object) DESC NULLS LAST,
             s.embedding OPERATOR({vector}.<=>) meaning::{vector}.vector, s.id LIMIT 1;
    IF same IS NULL THEN
        same := f.id;
        INSERT INTO {table} (id, content, category, subject, relation, object, negated, confidence, valid_from, last_stated, embedding)
        VALUES (f.id, f.content, f.category, f.subject, f.relation, f.object, f.negated, f.confidence, f.valid_from, f.valid_from,
                meaning::{vector}.vector) ON CONFLICT (id) DO NOTHING;
    END IF;
    DELETE FROM {sources} o WHERE o.fact_id = f.id AND o.statement_id <> same;
    INSERT INTO {sources} (statement_id, fact_id) VALUES (same, f.id) ON CONFLICT DO NOTHING;
    PERFORM {settle}(ARRAY[lower(coalesce(f.subject, ''))]);
    RETURN NULL;
END
$merge$;

-- name: m2_gone
CREATE OR REPLACE FUNCTION {gone}() RETURNS trigger LANGUAGE plpgsql SET search_path FROM CURRENT AS $gone$
DECLARE
    subjects text[] := ARRAY(SELECT DISTINCT lower(coalesce(s.subject, '')) FROM facts_gone g JOIN {table} s ON s.id = g.statement_id ORDER BY 1);
BEGIN
    PERFORM pg_advisory_xact_lock(hashtextextended({name} || u, 0)) FROM unnest(subjects) u;
    PERFORM {settle}(subjects);
    RETURN NULL;
END
$gone$;

-- name: m2_gone_trigger
CREATE OR REPLACE TRIGGER {trigger} AFTER DELETE ON {sources} REFERENCING OLD TABLE AS facts_gone
    FOR EACH STATEMENT EXECUTE FUNCTION {gone}();

-- name: vector_schema
SELECT n.nspname FROM pg_catalog.pg_extension e JOIN pg_catalog.pg_namespace n ON n.oid = e.extnamespace WHERE e.extname = 'vector';
