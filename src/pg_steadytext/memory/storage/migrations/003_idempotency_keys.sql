-- The answer to a request that carried an Idempotency-Key, written in the transaction of its effect.

CREATE TABLE memory.idempotency_keys (
    user_id     uuid NOT NULL REFERENCES memory.users ON DELETE CASCADE,
    method      text NOT NULL,
    path        text NOT NULL,
    key         text NOT NULL CHECK (length(key) BETWEEN 1 AND 255),
    fingerprint bytea NOT NULL CHECK (octet_length(fingerprint) = 32),
    status      integer NOT NULL,
    headers     jsonb NOT NULL,
    body        text NOT NULL,
    created_at  timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (user_id, key, path, method)
);
CREATE INDEX idempotency_keys_by_age ON memory.idempotency_keys (created_at);

ALTER TABLE memory.idempotency_keys ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
CREATE POLICY own ON memory.idempotency_keys TO memory_app
    USING (user_id = memory.me()) WITH CHECK (user_id = memory.me());
GRANT SELECT, INSERT, UPDATE ON memory.idempotency_keys TO memory_app;
