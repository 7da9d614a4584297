-- What each plan allows, and what each user has used of it.

CREATE TABLE memory.tiers (
    name                text PRIMARY KEY,
    rank                integer NOT NULL UNIQUE,
    memories            bigint NOT NULL CHECK (memories >= 0),
    bytes               bigint NOT NULL CHECK (bytes >= 0),
    saves_a_day         bigint NOT NULL CHECK (saves_a_day >= 0),
    searches_a_day      bigint NOT NULL CHECK (searches_a_day >= 0),
    enrichments_a_day   bigint NOT NULL CHECK (enrichments_a_day >= 0),
    -- Whether users may choose it themselves; administrators may give any.
    is_self_service     boolean NOT NULL
);
INSERT INTO memory.tiers VALUES
    ('free', 1, 2000, 20000000, 500, 1000, 200, true),
    ('pro', 2, 100000, 2000000000, 20000, 50000, 10000, false),
    ('team', 3, 1000000, 20000000000, 200000, 500000, 100000, false);

-- Every write of a user's memories locks this row first: that counts exactly, makes equal texts meet, and lets
-- change numbers become visible in their order.
CREATE TABLE memory.usage (
    user_id     uuid PRIMARY KEY REFERENCES memory.users ON DELETE CASCADE,
    tier        text NOT NULL DEFAULT 'free' REFERENCES memory.tiers,
    memories    bigint NOT NULL DEFAULT 0 CHECK (memories >= 0),
    bytes       bigint NOT NULL DEFAULT 0 CHECK (bytes >= 0),
    saves       bigint NOT NULL DEFAULT 0,
    -- A day is the 24 hours that begin with the first use after the last one ended.
    saves_since timestamptz NOT NULL DEFAULT now()
) WITH (fillfactor = 50);
INSERT INTO memory.usage (user_id, memories, bytes)
SELECT u.id, (SELECT count(*) FROM memory.memories m WHERE m.user_id = u.id),
       (SELECT coalesce(sum(m.bytes), 0) FROM memory.memories m WHERE m.user_id = u.id)
       + (SELECT coalesce(sum(a.bytes), 0) FROM memory.attachments a WHERE a.user_id = u.id)
FROM memory.users u;

-- Apart from memory.usage, so that no search waits for a save.
CREATE TABLE memory.usage_rates (
    user_id uuid NOT NULL REFERENCES memory.users ON DELETE CASCADE,
    kind    text NOT NULL CHECK (kind IN ('searches', 'enrichments')),
    used    bigint NOT NULL,
    since   timestamptz NOT NULL,
    PRIMARY KEY (user_id, kind)
) WITH (fillfactor = 50);

ALTER TABLE memory.usage ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
ALTER TABLE memory.usage_rates ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
CREATE POLICY own ON memory.usage TO memory_app USING (user_id = memory.me()) WITH CHECK (user_id = memory.me());
CREATE POLICY own ON memory.usage_rates TO memory_app USING (user_id = memory.me()) WITH CHECK (user_id = memory.me());
CREATE POLICY administered ON memory.usage TO memory_admin USING (true);
GRANT SELECT ON memory.tiers TO memory_app, memory_admin;
GRANT SELECT, UPDATE ON memory.usage TO memory_app;
GRANT SELECT, UPDATE (tier) ON memory.usage TO memory_admin;
GRANT SELECT, INSERT, UPDATE ON memory.usage_rates TO memory_app;
