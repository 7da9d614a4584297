-- What a client that was away needs: what was deleted for good, and what came of the operations it has pushed.

INSERT INTO memory.retention VALUES ('tombstones', '90 days'), ('sync_operations', '30 days');

CREATE TABLE memory.tombstones (
    user_id    uuid NOT NULL REFERENCES memory.users ON DELETE CASCADE,
    memory_id  uuid NOT NULL,
    change_seq bigint NOT NULL,
    deleted_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (user_id, memory_id)
);
CREATE INDEX tombstones_by_change ON memory.tombstones (user_id, change_seq);
CREATE INDEX tombstones_by_age ON memory.tombstones (deleted_at);

-- The newest change number of the tombstones that are no longer kept: who has not read up to it has missed some.
ALTER TABLE memory.usage ADD COLUMN sync_floor bigint NOT NULL DEFAULT 0;

-- Change numbers that a restored backup gives out again mean other changes; a new epoch tells every client to begin anew.
CREATE TABLE memory.sync_epoch (
    is_only boolean PRIMARY KEY DEFAULT true CHECK (is_only),
    epoch   uuid NOT NULL DEFAULT gen_random_uuid()
);
INSERT INTO memory.sync_epoch DEFAULT VALUES;

-- Only what took effect: an operation that was refused may be pushed again.
CREATE TABLE memory.sync_operations (
    user_id     uuid NOT NULL REFERENCES memory.users ON DELETE CASCADE,
    operation   text NOT NULL CHECK (length(operation) BETWEEN 1 AND 255),
    fingerprint bytea NOT NULL CHECK (octet_length(fingerprint) = 32),
    result      jsonb NOT NULL,
    created_at  timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (user_id, operation)
);
CREATE INDEX sync_operations_by_age ON memory.sync_operations (created_at);

ALTER TABLE memory.tombstones ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
ALTER TABLE memory.sync_operations ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
CREATE POLICY own ON memory.tombstones TO memory_app USING (user_id = memory.me()) WITH CHECK (user_id = memory.me());
CREATE POLICY own ON memory.sync_operations TO memory_app
    USING (user_id = memory.me()) WITH CHECK (user_id = memory.me());
GRANT SELECT, INSERT, UPDATE ON memory.tombstones, memory.sync_operations TO memory_app;
GRANT SELECT ON memory.sync_epoch TO memory_app;
