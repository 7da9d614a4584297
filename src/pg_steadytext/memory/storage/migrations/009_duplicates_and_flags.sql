-- Feature flags, and pairs of memories that may say the same.

-- What a flag gives: the on-variant to those it is on for, and the off-variant to the others. A flag that is not enabled
-- gives nobody anything, and who asks keeps the default.
CREATE TABLE memory.flags (
    key         text PRIMARY KEY CHECK (key ~ '^[a-z0-9][a-z0-9_.-]{0,99}$'),
    description text NOT NULL DEFAULT '',
    enabled     boolean NOT NULL DEFAULT false,
    -- Of users, by a hash of their id.
    percentage  numeric(5, 2) NOT NULL DEFAULT 0 CHECK (percentage BETWEEN 0 AND 100),
    variants    jsonb NOT NULL DEFAULT '{"on": true, "off": false}' CHECK (jsonb_typeof(variants) = 'object'),
    on_variant  text NOT NULL DEFAULT 'on',
    off_variant text NOT NULL DEFAULT 'off',
    updated_at  timestamptz NOT NULL DEFAULT now(),
    CHECK (variants ? on_variant AND variants ? off_variant)
);
INSERT INTO memory.flags (key, description)
VALUES ('near_duplicates', 'Suggest memories that say nearly the same.');

-- Users that a flag is on or off for, whatever the percentage. A table, so that nobody's id stays when the user goes.
CREATE TABLE memory.flag_users (
    user_id uuid NOT NULL REFERENCES memory.users ON DELETE CASCADE,
    key     text NOT NULL REFERENCES memory.flags ON DELETE CASCADE,
    is_on   boolean NOT NULL,
    PRIMARY KEY (user_id, key)
);
CREATE INDEX flag_users_by_key ON memory.flag_users (key);

-- Memories with a vector, still to be compared with the others of their user; attempts are counted before they begin.
CREATE TABLE memory.to_compare (
    user_id   uuid NOT NULL,
    memory_id uuid NOT NULL,
    digest    bytea NOT NULL CHECK (octet_length(digest) = 32),
    attempts  integer NOT NULL DEFAULT 0,
    PRIMARY KEY (user_id, memory_id),
    FOREIGN KEY (user_id, memory_id) REFERENCES memory.memories ON DELETE CASCADE
);
INSERT INTO memory.to_compare (user_id, memory_id, digest) SELECT user_id, memory_id, digest FROM memory.embeddings;

CREATE TABLE memory.duplicate_pairs (
    user_id    uuid NOT NULL,
    id         uuid NOT NULL DEFAULT gen_random_uuid(),
    a          uuid NOT NULL,
    b          uuid NOT NULL,
    -- SHA-256 of the texts that were compared: a pair that was decided comes again only when one says something else.
    a_digest   bytea NOT NULL CHECK (octet_length(a_digest) = 32),
    b_digest   bytea NOT NULL CHECK (octet_length(b_digest) = 32),
    scores     jsonb NOT NULL,
    state      text NOT NULL DEFAULT 'suggested' CHECK (state IN ('suggested', 'merged', 'kept', 'not_duplicate')),
    kept       uuid,
    created_at timestamptz NOT NULL DEFAULT now(),
    decided_at timestamptz,
    decided_by jsonb,
    PRIMARY KEY (user_id, id),
    UNIQUE (user_id, a, b),
    CHECK (a < b),
    CHECK ((state = 'suggested') = (decided_at IS NULL)),
    FOREIGN KEY (user_id, a) REFERENCES memory.memories ON DELETE CASCADE,
    FOREIGN KEY (user_id, b) REFERENCES memory.memories ON DELETE CASCADE
);
CREATE INDEX duplicate_pairs_by_b ON memory.duplicate_pairs (user_id, b);
CREATE INDEX duplicate_pairs_by_time ON memory.duplicate_pairs (user_id, state, created_at DESC, id DESC);

DO $$
DECLARE
    v_table name;
BEGIN
    FOREACH v_table IN ARRAY ARRAY['flag_users', 'to_compare', 'duplicate_pairs'] LOOP
        EXECUTE format('ALTER TABLE memory.%I ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY', v_table);
        EXECUTE format('CREATE POLICY own ON memory.%I TO memory_app USING (user_id = memory.me()) '
                       'WITH CHECK (user_id = memory.me())', v_table);
    END LOOP;
END
$$;
CREATE POLICY administered ON memory.flag_users TO memory_admin USING (true) WITH CHECK (true);
GRANT SELECT ON memory.flag_users TO memory_app;
GRANT SELECT, INSERT, DELETE ON memory.flag_users TO memory_admin;
GRANT SELECT, INSERT, UPDATE ON memory.flags TO memory_admin;
GRANT SELECT, INSERT, UPDATE, DELETE ON memory.to_compare TO memory_app;
GRANT SELECT, INSERT, UPDATE, DELETE ON memory.duplicate_pairs TO memory_app;
