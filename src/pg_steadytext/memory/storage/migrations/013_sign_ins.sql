-- How often an address was tried in vain, be there an account or not: the SHA-256 of the address alone. An hour later
-- it is gone.
CREATE TABLE memory.sign_in_attempts (
    email_hash bytea PRIMARY KEY CHECK (octet_length(email_hash) = 32),
    attempts   integer NOT NULL,
    since      timestamptz NOT NULL
);
CREATE INDEX sign_in_attempts_by_time ON memory.sign_in_attempts (since);
ALTER TABLE memory.sign_in_attempts ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
