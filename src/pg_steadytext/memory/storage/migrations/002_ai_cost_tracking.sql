-- Money for models, in millionths of a US dollar: prices, budgets with what is reserved and spent of them, the ledger,
-- the circuit breaker's shared state, and alerts once each.

CREATE TABLE memory.ai_prices (
    model         text NOT NULL,
    valid_from    timestamptz NOT NULL,
    input_micros  bigint NOT NULL CHECK (input_micros >= 0),   -- a million tokens read
    output_micros bigint NOT NULL CHECK (output_micros >= 0),  -- a million tokens written
    PRIMARY KEY (model, valid_from)
);
-- The models that run here cost no money; half a cent and two cents a million stand for electricity, so that budgets bite.
INSERT INTO memory.ai_prices VALUES
    ('smollm2-135m-instruct', '2020-01-01Z', 5000, 20000),
    ('all-minilm-l6-v2', '2020-01-01Z', 2000, 0);

CREATE TABLE memory.ai_budgets (
    scope        text NOT NULL CHECK (scope IN ('global', 'user')),
    period       text NOT NULL CHECK (period IN ('day', 'month')),
    limit_micros bigint NOT NULL CHECK (limit_micros >= 0),
    PRIMARY KEY (scope, period)
);
INSERT INTO memory.ai_budgets VALUES
    ('global', 'day', 10000000), ('global', 'month', 200000000), ('user', 'day', 500000), ('user', 'month', 5000000);

-- One row a budget and window; the global ones have no user.
CREATE TABLE memory.ai_budget_windows (
    id              bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    scope           text NOT NULL,
    period          text NOT NULL,
    user_id         uuid REFERENCES memory.users ON DELETE CASCADE CHECK ((user_id IS NULL) = (scope = 'global')),
    starts_at       timestamptz NOT NULL,
    reserved_micros bigint NOT NULL DEFAULT 0 CHECK (reserved_micros >= 0),
    spent_micros    bigint NOT NULL DEFAULT 0 CHECK (spent_micros >= 0),
    FOREIGN KEY (scope, period) REFERENCES memory.ai_budgets
) WITH (fillfactor = 50);
CREATE UNIQUE INDEX ai_budget_windows_key ON memory.ai_budget_windows
    (scope, period, starts_at, coalesce(user_id, '00000000-0000-0000-0000-000000000000'));

-- A user's erasure leaves the amounts, without the user.
CREATE TABLE memory.ai_ledger (
    id              uuid PRIMARY KEY,
    user_id         uuid REFERENCES memory.users ON DELETE SET NULL,
    model           text NOT NULL,
    purpose         text NOT NULL,
    state           text NOT NULL DEFAULT 'reserved' CHECK (state IN ('reserved', 'settled', 'released')),
    input_tokens    bigint NOT NULL DEFAULT 0 CHECK (input_tokens >= 0),
    output_tokens   bigint NOT NULL DEFAULT 0 CHECK (output_tokens >= 0),
    reserved_micros bigint NOT NULL CHECK (reserved_micros >= 0),
    cost_micros     bigint NOT NULL DEFAULT 0 CHECK (cost_micros >= 0),
    reserved_at     timestamptz NOT NULL DEFAULT now(),
    settled_at      timestamptz
);
CREATE INDEX ai_ledger_by_user ON memory.ai_ledger (user_id, reserved_at DESC);
CREATE INDEX ai_ledger_by_time ON memory.ai_ledger (reserved_at);
CREATE INDEX ai_ledger_open ON memory.ai_ledger (reserved_at) WHERE state = 'reserved';

CREATE TABLE memory.ai_breakers (
    name       text PRIMARY KEY,
    state      text NOT NULL DEFAULT 'closed' CHECK (state IN ('closed', 'open', 'half_open')),
    reason     text,
    changed_at timestamptz NOT NULL DEFAULT now(),
    retry_at   timestamptz,
    -- Who holds the one probe of the half-open state, and until when it counts as lost.
    probe      uuid,
    probe_ends timestamptz
);

CREATE TABLE memory.ai_breaker_calls (
    name        text NOT NULL REFERENCES memory.ai_breakers ON DELETE CASCADE,
    second      timestamptz NOT NULL,
    calls       bigint NOT NULL DEFAULT 0,
    failures    bigint NOT NULL DEFAULT 0,
    slow        bigint NOT NULL DEFAULT 0,
    cost_micros bigint NOT NULL DEFAULT 0,
    PRIMARY KEY (name, second)
);

CREATE TABLE memory.ai_alerts (
    id         bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    -- What happened, in which window: an alert of the same key is not sent again.
    dedupe_key text NOT NULL UNIQUE,
    kind       text NOT NULL,
    detail     jsonb NOT NULL,
    raised_at  timestamptz NOT NULL DEFAULT now(),
    sent_at    timestamptz
);
CREATE INDEX ai_alerts_unsent ON memory.ai_alerts (id) WHERE sent_at IS NULL;

CREATE MATERIALIZED VIEW memory.ai_cost_by_day AS
SELECT (reserved_at AT TIME ZONE 'UTC')::date AS day, model, purpose, user_id,
       count(*) AS calls, sum(input_tokens) AS input_tokens, sum(output_tokens) AS output_tokens,
       sum(cost_micros) AS cost_micros
FROM memory.ai_ledger WHERE state = 'settled'
GROUP BY 1, 2, 3, 4;
-- Refreshing it beside its readers needs a unique index; users that are gone share one null.
CREATE UNIQUE INDEX ai_cost_by_day_key ON memory.ai_cost_by_day (day, model, purpose, user_id) ;

ALTER TABLE memory.ai_ledger ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
ALTER TABLE memory.ai_budget_windows ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
CREATE POLICY own ON memory.ai_ledger FOR SELECT TO memory_app USING (user_id = memory.me());
CREATE POLICY own ON memory.ai_budget_windows FOR SELECT TO memory_app USING (user_id = memory.me());
CREATE POLICY administered ON memory.ai_ledger FOR SELECT TO memory_admin USING (true);
CREATE POLICY administered ON memory.ai_budget_windows FOR SELECT TO memory_admin USING (true);
GRANT SELECT ON memory.ai_ledger, memory.ai_budget_windows TO memory_app;
GRANT SELECT ON memory.ai_prices, memory.ai_budgets, memory.ai_budget_windows, memory.ai_ledger, memory.ai_breakers,
                memory.ai_breaker_calls, memory.ai_alerts, memory.ai_cost_by_day TO memory_admin;
