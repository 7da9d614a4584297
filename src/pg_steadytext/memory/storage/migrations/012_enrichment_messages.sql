-- What a message broker was told of memories to be described: a note for each that is on its way. The memory's own state
-- stays the truth; a note that is overdue says that its message, or who worked on it, was lost.
CREATE TABLE memory.enrichment_messages (
    user_id   uuid NOT NULL,
    memory_id uuid NOT NULL,
    -- SHA-256 of the text that was pending: a message about another one is stale.
    digest    bytea NOT NULL CHECK (octet_length(digest) = 32),
    state     text NOT NULL CHECK (state IN ('sending', 'sent', 'taken', 'waiting')),
    -- Of the delivery that works on it: another one's outcome does not count.
    token     uuid,
    attempts  integer NOT NULL DEFAULT 0,
    -- From then on it is to be sent again.
    due_at    timestamptz NOT NULL,
    PRIMARY KEY (user_id, memory_id),
    CHECK ((state = 'taken') = (token IS NOT NULL)),
    FOREIGN KEY (user_id, memory_id) REFERENCES memory.memories ON DELETE CASCADE
);
CREATE INDEX enrichment_messages_by_time ON memory.enrichment_messages (due_at);
ALTER TABLE memory.enrichment_messages ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
CREATE POLICY own ON memory.enrichment_messages TO memory_app USING (user_id = memory.me());
GRANT SELECT ON memory.enrichment_messages TO memory_app;
