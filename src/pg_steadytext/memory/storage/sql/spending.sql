-- name: reserve
SELECT micros, refusal, says, retry_at
FROM memory.reserve(%(id)s, %(user)s, %(model)s, %(purpose)s, %(read)s, %(written)s, make_interval(secs => %(lasts)s));

-- name: settle
SELECT memory.settle(%(id)s, %(read)s, %(written)s, %(outcome)s, %(duration_ms)s);

-- name: sweep
SELECT memory.sweep();

-- name: forget_calls
SELECT memory.forget_calls();

-- name: refresh_costs
SELECT memory.refresh_costs();

-- name: claim_alert
SELECT id, channel, kind, detail, raised_at, attempts
FROM memory.claim_alert(%(channels)s, make_interval(secs => %(lease)s));

-- name: end_delivery
SELECT memory.end_delivery(%(id)s, %(channel)s, %(error)s, make_interval(secs => %(pause)s));

-- name: own_spending
SELECT memory.spending_json()::text;

-- name: costs
SELECT memory.costs_json(%(by)s, %(from)s, %(to)s)::text;

-- name: spent_lately
SELECT month_micros, week_micros, limit_micros, at, starts_at, ends_at, first_at FROM memory.spent_lately();

-- name: breakers
SELECT memory.breakers_json();

-- name: budgets
SELECT memory.budgets_json()::text;

-- name: set_budget
SELECT memory.set_budget(%(scope)s, %(period)s, %(limit)s);

-- name: enrichment_queue
SELECT memory.enrichment_queue_json()::text;
