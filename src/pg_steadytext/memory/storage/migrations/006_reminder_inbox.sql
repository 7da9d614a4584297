-- Reminders with the occurrence at hand, what became of former ones, the feed of what happened, and tokens of calendar feeds.

ALTER TABLE memory.tiers ADD COLUMN reminders bigint NOT NULL DEFAULT 10000 CHECK (reminders >= 0);
UPDATE memory.tiers SET reminders = 1000 WHERE name = 'free';

ALTER TABLE memory.users ADD COLUMN time_zone text NOT NULL DEFAULT 'UTC' CHECK (length(time_zone) BETWEEN 1 AND 64);
GRANT SELECT (time_zone), UPDATE (time_zone) ON memory.users TO memory_app;
GRANT SELECT (time_zone) ON memory.users TO memory_admin;

INSERT INTO memory.retention VALUES ('reminder_events', '7 days');

CREATE TABLE memory.reminders (
    user_id       uuid NOT NULL REFERENCES memory.users ON DELETE CASCADE,
    id            uuid NOT NULL,
    title         text NOT NULL CHECK (length(title) BETWEEN 1 AND 500),
    note          text CHECK (length(note) BETWEEN 1 AND 10000),
    memory_id     uuid,
    -- The wall clock of the zone: a series keeps it when the zone's offset changes.
    time_zone     text NOT NULL CHECK (length(time_zone) BETWEEN 1 AND 64),
    starts_at     timestamp NOT NULL,
    rrule         text CHECK (length(rrule) <= 500),
    exdates       timestamp[] NOT NULL DEFAULT '{}',
    state         text NOT NULL DEFAULT 'active' CHECK (state IN ('active', 'done', 'dismissed')),
    -- The slot of the series that is open or comes next, how many before it passed unanswered, and the slot after it.
    occurrence_at timestamptz NOT NULL,
    missed        integer NOT NULL DEFAULT 0 CHECK (missed >= 0),
    next_at       timestamptz CHECK (next_at > occurrence_at),
    snoozed_until timestamptz,
    due_at        timestamptz NOT NULL GENERATED ALWAYS AS (coalesce(snoozed_until, occurrence_at)) STORED,
    announced     boolean NOT NULL DEFAULT false,
    -- When the scheduler has something to do with it: it becomes due, or the next slot takes its place.
    fire_at       timestamptz,
    version       bigint NOT NULL DEFAULT 1,
    created_at    timestamptz NOT NULL DEFAULT now(),
    updated_at    timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (user_id, id),
    FOREIGN KEY (user_id, memory_id) REFERENCES memory.memories ON DELETE CASCADE
);
CREATE INDEX reminders_by_time ON memory.reminders (user_id, created_at DESC, id DESC);
CREATE INDEX reminders_by_due ON memory.reminders (user_id, due_at, id) WHERE state = 'active';
CREATE INDEX reminders_by_memory ON memory.reminders (user_id, memory_id) WHERE memory_id IS NOT NULL;
CREATE INDEX reminders_to_fire ON memory.reminders (fire_at) WHERE fire_at IS NOT NULL;

-- What became of each occurrence that somebody answered: its key is what makes an answer count once.
CREATE TABLE memory.reminder_answers (
    user_id       uuid NOT NULL,
    reminder_id   uuid NOT NULL,
    occurrence_at timestamptz NOT NULL,
    answer        text NOT NULL CHECK (answer IN ('done', 'dismissed')),
    missed        integer NOT NULL,
    actor         jsonb NOT NULL,
    at            timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (user_id, reminder_id, occurrence_at),
    FOREIGN KEY (user_id, reminder_id) REFERENCES memory.reminders ON DELETE CASCADE
);

-- What live updates are read from. Numbers are taken behind the lock of the user's writes, so that a user's events become
-- visible in their order and a reader never misses one.
CREATE TABLE memory.reminder_events (
    user_id     uuid NOT NULL REFERENCES memory.users ON DELETE CASCADE,
    seq         bigint NOT NULL,
    kind        text NOT NULL CHECK (kind IN ('due', 'created', 'changed', 'snoozed', 'done', 'dismissed', 'deleted')),
    reminder_id uuid NOT NULL,
    content     jsonb NOT NULL,
    at          timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (user_id, seq)
);
CREATE INDEX reminder_events_by_age ON memory.reminder_events (at);
CREATE SEQUENCE memory.reminder_event_seq AS bigint;

-- Up to where events may have been cleared away: who resumes from before it is told to read everything anew.
CREATE TABLE memory.reminder_events_cleared (
    one boolean PRIMARY KEY DEFAULT true CHECK (one),
    seq bigint NOT NULL
);
INSERT INTO memory.reminder_events_cleared VALUES (true, 0);

CREATE TABLE memory.calendar_feeds (
    user_id    uuid NOT NULL REFERENCES memory.users ON DELETE CASCADE,
    id         uuid NOT NULL,
    name       text NOT NULL CHECK (length(name) BETWEEN 1 AND 200),
    token_hash bytea NOT NULL UNIQUE CHECK (octet_length(token_hash) = 32),
    created_at timestamptz NOT NULL DEFAULT now(),
    revoked_at timestamptz,
    PRIMARY KEY (user_id, id)
);

DO $$
DECLARE
    v_table name;
BEGIN
    FOREACH v_table IN ARRAY ARRAY['reminders', 'reminder_answers', 'reminder_events', 'calendar_feeds'] LOOP
        EXECUTE format('ALTER TABLE memory.%I ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY', v_table);
        EXECUTE format('CREATE POLICY own ON memory.%I TO memory_app USING (user_id = memory.me()) '
                       'WITH CHECK (user_id = memory.me())', v_table);
    END LOOP;
END
$$;

GRANT USAGE ON SEQUENCE memory.reminder_event_seq TO memory_app;
GRANT SELECT ON memory.reminder_events_cleared TO memory_app;
GRANT SELECT, INSERT, UPDATE, DELETE ON memory.reminders TO memory_app;
GRANT SELECT, INSERT ON memory.reminder_answers, memory.reminder_events TO memory_app;
GRANT SELECT (user_id, id, name, created_at, revoked_at), INSERT, UPDATE (revoked_at) ON memory.calendar_feeds TO memory_app;

-- Whoever listens with credentials that have just ended is woken, to find that out.
CREATE FUNCTION memory.wake_listeners() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM pg_notify('memory_reminders', OLD.user_id::text);
    RETURN NULL;
END
$$;
REVOKE ALL ON FUNCTION memory.wake_listeners() FROM PUBLIC;
CREATE TRIGGER wake_listeners AFTER UPDATE OF revoked_at OR DELETE ON memory.api_keys
    FOR EACH ROW EXECUTE FUNCTION memory.wake_listeners();
CREATE TRIGGER wake_listeners AFTER DELETE ON memory.web_sessions
    FOR EACH ROW EXECUTE FUNCTION memory.wake_listeners();
