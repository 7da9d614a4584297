-- What standing between callers and models needs beside 002: which calls the plan counts, when a reservation counts as
-- lost, the breaker's rules and revisions, whose an alert is, and its way to each channel.

-- A purpose that is not here counts as an enrichment of the plan's day.
CREATE TABLE memory.ai_purposes (
    name          text PRIMARY KEY,
    is_enrichment boolean NOT NULL
);
INSERT INTO memory.ai_purposes VALUES ('embedding', false), ('search', false), ('enrichment', true);

ALTER TABLE memory.ai_ledger
    ADD COLUMN expires_at  timestamptz,
    ADD COLUMN outcome     text CHECK (outcome IN ('ok', 'failed', 'cancelled', 'lost')),
    ADD COLUMN duration_ms bigint CHECK (duration_ms >= 0);

-- The row '*' is for every model that has none of its own.
CREATE TABLE memory.ai_breaker_rules (
    name           text PRIMARY KEY,
    window_seconds integer NOT NULL CHECK (window_seconds BETWEEN 1 AND 3600),
    least_calls    integer NOT NULL CHECK (least_calls >= 1),
    failure_rate   double precision NOT NULL CHECK (failure_rate > 0 AND failure_rate <= 1),
    slow_rate      double precision NOT NULL CHECK (slow_rate > 0 AND slow_rate <= 1),
    slow_ms        bigint NOT NULL CHECK (slow_ms > 0),
    cost_micros    bigint NOT NULL CHECK (cost_micros > 0),  -- in one window
    open_seconds   integer NOT NULL CHECK (open_seconds >= 1),
    probe_seconds  integer NOT NULL CHECK (probe_seconds >= 1)
);
INSERT INTO memory.ai_breaker_rules VALUES ('*', 60, 10, 0.5, 0.8, 10000, 1000000, 30, 180);

-- Each change of state is a revision: who has an older one knows less. retry_at is null while an administrator holds it open.
ALTER TABLE memory.ai_breakers ADD COLUMN revision bigint NOT NULL DEFAULT 0;

CREATE TABLE memory.ai_alert_levels (
    percent integer PRIMARY KEY CHECK (percent BETWEEN 1 AND 100)
);
INSERT INTO memory.ai_alert_levels VALUES (50), (80), (100);

-- An alert about a user's budget is the user's, and goes with the user.
ALTER TABLE memory.ai_alerts ADD COLUMN user_id uuid REFERENCES memory.users ON DELETE CASCADE;
CREATE INDEX ai_alerts_by_user ON memory.ai_alerts (user_id) WHERE user_id IS NOT NULL;
ALTER TABLE memory.ai_alerts ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
CREATE POLICY own ON memory.ai_alerts FOR SELECT TO memory_app USING (user_id = memory.me());
CREATE POLICY administered ON memory.ai_alerts FOR SELECT TO memory_admin USING (true);
GRANT SELECT ON memory.ai_alerts TO memory_app;

CREATE TABLE memory.ai_alert_deliveries (
    alert_id   bigint NOT NULL REFERENCES memory.ai_alerts ON DELETE CASCADE,
    channel    text NOT NULL,
    attempts   integer NOT NULL DEFAULT 0,
    -- Nobody takes it before then: it is being sent, or waits after a failure.
    next_at    timestamptz NOT NULL DEFAULT now(),
    sent_at    timestamptz,
    last_error text,
    PRIMARY KEY (alert_id, channel)
);
CREATE INDEX ai_alert_deliveries_due ON memory.ai_alert_deliveries (next_at) WHERE sent_at IS NULL;

-- Null equals nothing, so rows without a user had no partner under the former index and every refresh wrote them anew;
-- refreshing beside readers takes an index on plain columns alone, hence the nil UUID.
DROP MATERIALIZED VIEW memory.ai_cost_by_day;
CREATE MATERIALIZED VIEW memory.ai_cost_by_day AS
SELECT (reserved_at AT TIME ZONE 'UTC')::date AS day, model, purpose,
       coalesce(user_id, '00000000-0000-0000-0000-000000000000') AS user_id,
       count(*) AS calls, sum(input_tokens)::bigint AS input_tokens, sum(output_tokens)::bigint AS output_tokens,
       sum(cost_micros)::bigint AS cost_micros
FROM memory.ai_ledger WHERE state = 'settled'
GROUP BY 1, 2, 3, 4;
CREATE UNIQUE INDEX ai_cost_by_day_key ON memory.ai_cost_by_day (day, model, purpose, user_id);
CREATE TABLE memory.ai_cost_refreshed (at timestamptz NOT NULL);
INSERT INTO memory.ai_cost_refreshed VALUES ('-infinity');

-- How long enrichment is behind is asked often, over all users.
CREATE INDEX memories_to_enrich ON memory.memories (updated_at)
    WHERE enrichment_status IN ('pending', 'paused') AND deleted_at IS NULL;

GRANT SELECT ON memory.ai_cost_by_day, memory.ai_purposes, memory.ai_breaker_rules, memory.ai_alert_levels,
                memory.ai_alert_deliveries, memory.ai_cost_refreshed TO memory_admin;
GRANT SELECT ON memory.ai_budgets TO memory_app;
GRANT UPDATE (limit_micros) ON memory.ai_budgets TO memory_admin;
GRANT SELECT, INSERT, UPDATE ON memory.ai_breakers TO memory_service;
GRANT SELECT, DELETE ON memory.ai_breaker_calls TO memory_service;
GRANT SELECT ON memory.ai_breaker_rules TO memory_service;
