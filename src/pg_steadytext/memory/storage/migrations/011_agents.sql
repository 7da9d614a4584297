-- Those whom an application of the account speaks with, by the names that it gives them. They sign in nowhere: the
-- account's keys open all of them.
CREATE TABLE memory.memfuse_users (
    user_id     uuid NOT NULL REFERENCES memory.users ON DELETE CASCADE,
    id          uuid NOT NULL,
    name        text NOT NULL CHECK (length(name) BETWEEN 1 AND 200),
    description text,
    created_at  timestamptz NOT NULL DEFAULT now(),
    updated_at  timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (user_id, id),
    UNIQUE (user_id, name)
);
ALTER TABLE memory.memfuse_users ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
CREATE POLICY own ON memory.memfuse_users TO memory_app
    USING (user_id = memory.me()) WITH CHECK (user_id = memory.me());
GRANT SELECT, INSERT, UPDATE, DELETE ON memory.memfuse_users TO memory_app;

ALTER TABLE memory.sessions ADD COLUMN memfuse_user_id uuid;
ALTER TABLE memory.sessions ADD FOREIGN KEY (user_id, memfuse_user_id) REFERENCES memory.memfuse_users
    DEFERRABLE INITIALLY DEFERRED;
CREATE UNIQUE INDEX sessions_by_name ON memory.sessions (user_id, memfuse_user_id, name)
    WHERE memfuse_user_id IS NOT NULL;
GRANT UPDATE (name, metadata), DELETE ON memory.agents, memory.sessions TO memory_app;

CREATE INDEX memories_by_session ON memory.memories (user_id, session_id, created_at, id) WHERE session_id IS NOT NULL;
