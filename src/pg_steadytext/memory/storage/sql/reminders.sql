-- name: enter_feed
SELECT user_id, scopes FROM memory.enter_feed(%(hash)s);

-- name: clock
-- The database's clock, and the user's zone.
SELECT now(), u.time_zone FROM memory.users u WHERE u.id = %(user)s;

-- name: add_reminder
SELECT (c.it).version, memory.reminder_json(c.it)::text, (c.it).id
FROM (SELECT memory.add_reminder(%(reminder)s) AS it OFFSET 0) c;

-- name: get_reminder
SELECT r.version, memory.reminder_json(r)::text
FROM memory.reminders r WHERE r.user_id = %(user)s AND r.id = %(id)s;

-- name: take_reminder
SELECT now(), (t.it).starts_at, (t.it).time_zone, (t.it).rrule, (t.it).exdates, (t.it).occurrence_at, (t.it).next_at,
       (t.it).missed, (t.it).snoozed_until, (t.it).announced, (t.it).state, (t.it).version, memory.reminder_json(t.it)::text
FROM (SELECT memory.take_reminder(%(id)s, %(versions)s::bigint[]) AS it OFFSET 0) t;

-- name: put_reminder
SELECT (c.it).version, memory.reminder_json(c.it)::text
FROM (SELECT memory.put_reminder(%(id)s, %(changes)s, %(kind)s) AS it OFFSET 0) c;

-- name: answer_reminder
SELECT (c.it).version, memory.reminder_json(c.it)::text
FROM (SELECT memory.answer_reminder(memory.take_reminder(%(id)s, NULL), %(answer)s, %(changes)s) AS it OFFSET 0) c;

-- name: has_answer
SELECT memory.has_answer(%(id)s, %(occurrence)s);

-- name: delete_reminder
SELECT memory.delete_reminder(%(id)s, %(versions)s::bigint[]);

-- name: list_reminders
SELECT r.created_at, r.id, memory.reminder_json(r)::text
FROM memory.reminders r
WHERE r.user_id = %(user)s
  AND (%(after)s::timestamptz IS NULL OR (r.created_at, r.id) < (%(after)s::timestamptz, %(after_id)s::uuid))
  AND (%(state)s::text IS NULL OR r.state = %(state)s)
  AND (%(memory)s::uuid IS NULL OR r.memory_id = %(memory)s)
ORDER BY r.created_at DESC, r.id DESC
LIMIT %(limit)s;

-- name: list_inbox
SELECT r.due_at, r.id,
       (memory.reminder_json(r) || jsonb_build_object('section', CASE WHEN r.due_at <= now() THEN 'overdue'
            WHEN r.due_at < %(midnight)s THEN 'today' ELSE 'upcoming' END))::text
FROM memory.reminders r
WHERE r.user_id = %(user)s AND r.state = 'active'
  AND (%(after)s::timestamptz IS NULL OR (r.due_at, r.id) > (%(after)s::timestamptz, %(after_id)s::uuid))
  AND CASE %(section)s::text
      WHEN 'overdue' THEN r.due_at <= now()
      WHEN 'today' THEN r.due_at > now() AND r.due_at < %(midnight)s
      WHEN 'upcoming' THEN r.due_at > now() AND r.due_at >= %(midnight)s
      ELSE true END
ORDER BY r.due_at, r.id
LIMIT %(limit)s;

-- name: count_inbox
SELECT count(*) FILTER (WHERE r.due_at <= now()),
       count(*) FILTER (WHERE r.due_at > now() AND r.due_at < %(midnight)s),
       count(*) FILTER (WHERE r.due_at > now() AND r.due_at >= %(midnight)s)
FROM memory.reminders r WHERE r.user_id = %(user)s AND r.state = 'active';

-- name: list_answers
SELECT a.occurrence_at, jsonb_build_object('occurrence_at', memory.iso(a.occurrence_at), 'answer', a.answer, 'missed', a.missed,
                                           'actor', a.actor, 'at', memory.iso(a.at))::text
FROM memory.reminder_answers a
WHERE a.user_id = %(user)s AND a.reminder_id = %(id)s AND (%(before)s::timestamptz IS NULL OR a.occurrence_at < %(before)s)
ORDER BY a.occurrence_at DESC
LIMIT %(limit)s;

-- name: feed_reminders
SELECT r.id, r.title, r.note, r.time_zone, r.starts_at, r.rrule, r.exdates, r.occurrence_at, r.snoozed_until, r.created_at,
       r.updated_at, r.version
FROM memory.reminders r WHERE r.user_id = %(user)s AND r.state = 'active' ORDER BY r.created_at, r.id;

-- name: list_feeds
SELECT jsonb_build_object('id', f.id, 'name', f.name, 'created_at', memory.iso(f.created_at),
                          'revoked_at', memory.iso(f.revoked_at))::text
FROM memory.calendar_feeds f WHERE f.user_id = %(user)s ORDER BY f.created_at DESC, f.id DESC;

-- name: lock_mine
SELECT (memory.lock_usage()).user_id;

-- name: add_feed
-- Nothing when the user has as many as there may be.
INSERT INTO memory.calendar_feeds AS n (user_id, id, name, token_hash)
SELECT %(user)s, %(id)s, %(name)s, %(hash)s
WHERE (SELECT count(*) FROM memory.calendar_feeds f WHERE f.user_id = %(user)s AND f.revoked_at IS NULL) < %(most)s
RETURNING jsonb_build_object('id', n.id, 'name', n.name, 'created_at', memory.iso(n.created_at), 'revoked_at', NULL);

-- name: revoke_feed
UPDATE memory.calendar_feeds f SET revoked_at = coalesce(f.revoked_at, now())
WHERE f.user_id = %(user)s AND f.id = %(id)s RETURNING f.id;

-- name: events_bounds
-- Up to where events were cleared away, and where somebody begins who wants only what comes from now on.
SELECT memory.events_cleared(),
       coalesce((SELECT max(e.seq) FROM memory.reminder_events e WHERE e.user_id = %(user)s), memory.events_cleared());

-- name: list_events
SELECT e.seq, e.kind,
       jsonb_build_object('kind', e.kind, 'at', memory.iso(e.at), 'reminder', e.content)::text
FROM memory.reminder_events e
WHERE e.user_id = %(user)s AND e.seq > %(after)s
ORDER BY e.seq
LIMIT %(limit)s;

-- name: reminders_lead
SELECT memory.reminders_lead();

-- name: reminders_to_fire
SELECT f.user_id, f.id, f.version, f.starts_at, f.time_zone, f.rrule, f.exdates, f.occurrence_at, f.next_at, f.missed,
       f.snoozed_until, f.announced, f.state
FROM memory.reminders_to_fire(%(now)s, %(limit)s) f;

-- name: fire_reminders
SELECT memory.fire_reminders(%(fired)s);

-- name: reminders_wait
SELECT memory.reminders_wait(%(now)s);

-- name: scheduler_clock
SELECT clock_timestamp();

-- name: clear_reminder_events
SELECT memory.clear_reminder_events();
