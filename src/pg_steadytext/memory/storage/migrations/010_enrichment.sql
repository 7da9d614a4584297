-- What models make of memories: the categories they choose from, facts, and which fields a model wrote.

CREATE TABLE memory.categories (
    name text PRIMARY KEY CHECK (length(name) BETWEEN 1 AND 100),
    rank integer NOT NULL
);
INSERT INTO memory.categories VALUES
    ('note', 1), ('task', 2), ('event', 3), ('person', 4), ('place', 5), ('preference', 6), ('idea', 7), ('reference', 8),
    ('work', 9), ('finance', 10), ('health', 11), ('home', 12), ('travel', 13);

ALTER TABLE memory.memories
    ADD COLUMN enrichment_error    text,
    ADD COLUMN enrichment_retry_at timestamptz,
    -- Fields as a model wrote them: what still stands so is not a person's.
    ADD COLUMN enriched            jsonb NOT NULL DEFAULT '{}';
CREATE INDEX memories_to_describe ON memory.memories (user_id, id) WHERE enrichment_status IN ('pending', 'paused');

CREATE TABLE memory.facts (
    user_id    uuid NOT NULL,
    id         uuid NOT NULL DEFAULT gen_random_uuid(),
    memory_id  uuid NOT NULL,
    place      integer NOT NULL,
    text       text NOT NULL,
    category   text NOT NULL,
    confidence double precision NOT NULL CHECK (confidence BETWEEN 0 AND 1),
    model      text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (user_id, id),
    UNIQUE (user_id, memory_id, place),
    FOREIGN KEY (user_id, memory_id) REFERENCES memory.memories ON DELETE CASCADE
);
CREATE INDEX facts_by_time ON memory.facts (user_id, created_at DESC, id DESC);
ALTER TABLE memory.facts ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
CREATE POLICY own ON memory.facts TO memory_app USING (user_id = memory.me()) WITH CHECK (user_id = memory.me());

-- Writing takes a model far longer than reading, on a busy machine most of a minute.
INSERT INTO memory.ai_breaker_rules
SELECT 'smollm2-135m-instruct', r.window_seconds, r.least_calls, r.failure_rate, r.slow_rate, 60000, r.cost_micros,
       r.open_seconds, r.probe_seconds
FROM memory.ai_breaker_rules r WHERE r.name = '*'
ON CONFLICT (name) DO NOTHING;

GRANT SELECT ON memory.categories TO memory_app, steadytext_worker;
GRANT SELECT, DELETE ON memory.facts TO memory_app;
