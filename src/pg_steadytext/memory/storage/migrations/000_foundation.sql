-- Accounts, memories and what hangs on them. Every table that belongs to somebody has a column user_id, and row-level
-- security that its owner obeys too; export and erasure go by that column and its foreign key.

DO $$
DECLARE
    v_role text;
BEGIN
    FOREACH v_role IN ARRAY ARRAY['memory_app', 'memory_admin', 'memory_service'] LOOP
        BEGIN
            -- Roles belong to the whole server: another database's service may have made them.
            EXECUTE format('CREATE ROLE %I NOLOGIN NOINHERIT', v_role);
        EXCEPTION WHEN duplicate_object OR unique_violation THEN
            NULL;
        END;
    END LOOP;
END
$$;

GRANT memory_app, memory_admin TO memory_service;
REVOKE ALL ON SCHEMA memory FROM PUBLIC;
GRANT USAGE ON SCHEMA memory TO memory_app, memory_admin, memory_service;

CREATE FUNCTION memory.me() RETURNS uuid
LANGUAGE sql STABLE PARALLEL SAFE
-- A setting that a transaction set for itself is an empty text afterwards, not absent.
RETURN nullif(pg_catalog.current_setting('memory.user_id', true), '')::uuid;

CREATE SEQUENCE memory.change_seq AS bigint;

-- How long what nobody needs any more is kept.
CREATE TABLE memory.retention (
    kind text PRIMARY KEY,
    keep interval NOT NULL CHECK (keep > interval '0')
);
INSERT INTO memory.retention VALUES ('trash', '30 days'), ('idempotency_keys', '24 hours');
GRANT SELECT ON memory.retention TO memory_app;

CREATE TABLE memory.users (
    id            uuid PRIMARY KEY,
    email         text NOT NULL UNIQUE CHECK (email = lower(email) AND length(email) BETWEEN 3 AND 254),
    name          text NOT NULL CHECK (length(name) BETWEEN 1 AND 200),
    role          text NOT NULL DEFAULT 'user' CHECK (role IN ('user', 'admin')),
    password_hash text,
    created_at    timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE memory.agents (
    user_id    uuid NOT NULL REFERENCES memory.users ON DELETE CASCADE,
    id         uuid NOT NULL,
    name       text NOT NULL CHECK (length(name) BETWEEN 1 AND 200),
    metadata   jsonb NOT NULL DEFAULT '{}',
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (user_id, id),
    UNIQUE (user_id, name)
);

CREATE TABLE memory.sessions (
    user_id    uuid NOT NULL REFERENCES memory.users ON DELETE CASCADE,
    id         uuid NOT NULL,
    agent_id   uuid,
    name       text NOT NULL CHECK (length(name) BETWEEN 1 AND 200),
    metadata   jsonb NOT NULL DEFAULT '{}',
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (user_id, id),
    FOREIGN KEY (user_id, agent_id) REFERENCES memory.agents DEFERRABLE INITIALLY DEFERRED
);

CREATE TABLE memory.api_keys (
    user_id      uuid NOT NULL REFERENCES memory.users ON DELETE CASCADE,
    id           uuid NOT NULL,
    name         text NOT NULL CHECK (length(name) BETWEEN 1 AND 200),
    token_hash   bytea NOT NULL UNIQUE CHECK (octet_length(token_hash) = 32),
    scopes       text[] NOT NULL CHECK (scopes <@ ARRAY['memories:read', 'memories:write', 'admin'] AND scopes <> '{}'),
    created_at   timestamptz NOT NULL DEFAULT now(),
    expires_at   timestamptz,
    revoked_at   timestamptz,
    last_used_at timestamptz,
    PRIMARY KEY (user_id, id)
);

CREATE TABLE memory.web_sessions (
    user_id    uuid NOT NULL REFERENCES memory.users ON DELETE CASCADE,
    id         uuid NOT NULL,
    token_hash bytea NOT NULL UNIQUE CHECK (octet_length(token_hash) = 32),
    csrf_hash  bytea NOT NULL CHECK (octet_length(csrf_hash) = 32),
    created_at timestamptz NOT NULL DEFAULT now(),
    expires_at timestamptz NOT NULL,
    PRIMARY KEY (user_id, id)
);
CREATE INDEX web_sessions_by_end ON memory.web_sessions (expires_at);

CREATE TABLE memory.memories (
    user_id           uuid NOT NULL REFERENCES memory.users ON DELETE CASCADE,
    id                uuid NOT NULL,
    body              text NOT NULL,
    title             text,
    category          text,
    tags              text[] NOT NULL DEFAULT '{}',
    source            text,
    provenance        jsonb NOT NULL DEFAULT '{}',
    pinned            boolean NOT NULL DEFAULT false,
    is_recalled       boolean NOT NULL DEFAULT false,
    agent_id          uuid,
    session_id        uuid,
    content_hash      bytea NOT NULL CHECK (octet_length(content_hash) = 32),
    duplicate_of      uuid,
    bytes             bigint NOT NULL,
    version           bigint NOT NULL DEFAULT 1,
    change_seq        bigint NOT NULL,
    enrichment_status text NOT NULL CHECK (enrichment_status IN ('pending', 'done', 'failed', 'paused', 'none')),
    embedding_status  text NOT NULL CHECK (embedding_status IN ('pending', 'done', 'failed', 'paused', 'none')),
    expires_at        timestamptz,
    deleted_at        timestamptz,
    created_at        timestamptz NOT NULL DEFAULT now(),
    updated_at        timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (user_id, id),
    FOREIGN KEY (user_id, agent_id) REFERENCES memory.agents DEFERRABLE INITIALLY DEFERRED,
    FOREIGN KEY (user_id, session_id) REFERENCES memory.sessions DEFERRABLE INITIALLY DEFERRED
);
CREATE INDEX memories_by_time ON memory.memories (user_id, created_at DESC, id DESC);
CREATE INDEX memories_by_change ON memory.memories (user_id, change_seq);
-- The last line against a second row of the same text; a copy made on purpose says what it is a copy of.
CREATE UNIQUE INDEX memories_by_content ON memory.memories (user_id, content_hash)
    WHERE deleted_at IS NULL AND duplicate_of IS NULL;
CREATE INDEX memories_by_original ON memory.memories (user_id, duplicate_of) WHERE duplicate_of IS NOT NULL;
CREATE INDEX memories_in_trash ON memory.memories (deleted_at) WHERE deleted_at IS NOT NULL;
CREATE INDEX memories_that_expire ON memory.memories (expires_at) WHERE expires_at IS NOT NULL AND deleted_at IS NULL;

-- What each version changed, as {"field": [before, after]}: walked back from the memory it gives every former version.
-- No foreign key to the memory: it would cost every save a look at what the same transaction has just written.
CREATE TABLE memory.memory_history (
    user_id   uuid NOT NULL REFERENCES memory.users ON DELETE CASCADE,
    memory_id uuid NOT NULL,
    version   bigint NOT NULL,
    action    text NOT NULL CHECK (action IN ('created', 'changed', 'trashed', 'restored')),
    actor     jsonb NOT NULL,
    changes   jsonb NOT NULL DEFAULT '{}',
    at        timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (user_id, memory_id, version)
);

CREATE TABLE memory.links (
    user_id    uuid NOT NULL,
    memory_id  uuid NOT NULL,
    target_id  uuid NOT NULL CHECK (target_id <> memory_id),
    kind       text NOT NULL CHECK (length(kind) BETWEEN 1 AND 50),
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (user_id, memory_id, target_id),
    FOREIGN KEY (user_id, memory_id) REFERENCES memory.memories ON DELETE CASCADE,
    FOREIGN KEY (user_id, target_id) REFERENCES memory.memories ON DELETE CASCADE
);
CREATE INDEX links_by_target ON memory.links (user_id, target_id);

CREATE TABLE memory.attachments (
    user_id    uuid NOT NULL,
    memory_id  uuid NOT NULL,
    name       text NOT NULL CHECK (length(name) BETWEEN 1 AND 200),
    media_type text NOT NULL,
    text       text NOT NULL,
    bytes      bigint NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (user_id, memory_id, name),
    FOREIGN KEY (user_id, memory_id) REFERENCES memory.memories ON DELETE CASCADE
);

DO $$
DECLARE
    v_table name;
BEGIN
    FOREACH v_table IN ARRAY ARRAY['agents', 'sessions', 'api_keys', 'web_sessions', 'memories', 'memory_history',
                                   'links', 'attachments'] LOOP
        EXECUTE format('ALTER TABLE memory.%I ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY', v_table);
        EXECUTE format('CREATE POLICY own ON memory.%I TO memory_app USING (user_id = memory.me()) '
                       'WITH CHECK (user_id = memory.me())', v_table);
    END LOOP;
END
$$;
ALTER TABLE memory.users ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
CREATE POLICY own ON memory.users TO memory_app USING (id = memory.me()) WITH CHECK (id = memory.me());
CREATE POLICY administered ON memory.users FOR SELECT TO memory_admin USING (true);

GRANT USAGE ON SEQUENCE memory.change_seq TO memory_app;
GRANT SELECT (id, email, name, role, created_at), DELETE, UPDATE (name) ON memory.users TO memory_app;
GRANT SELECT (id, email, name, role, created_at) ON memory.users TO memory_admin;
GRANT SELECT, INSERT ON memory.agents, memory.sessions TO memory_app;
GRANT SELECT (user_id, id, name, scopes, created_at, expires_at, revoked_at, last_used_at), INSERT, UPDATE (revoked_at)
   ON memory.api_keys TO memory_app;
GRANT SELECT (user_id, id, created_at, expires_at), DELETE ON memory.web_sessions TO memory_app;
GRANT SELECT, INSERT, UPDATE, DELETE ON memory.memories, memory.links, memory.attachments TO memory_app;
GRANT SELECT, INSERT, DELETE ON memory.memory_history TO memory_app;
