-- name: feed
SELECT epoch, reached, base, has_more, items
FROM memory.feed(%(epoch)s, %(after)s, %(base)s, %(limit)s, %(bytes)s);

-- name: sync_results
-- What came of operations that were pushed before.
SELECT o.operation, o.fingerprint, o.result
FROM memory.sync_operations o
WHERE o.user_id = %(user)s AND o.operation = ANY (%(operations)s)
  AND o.created_at > now() - (SELECT r.keep FROM memory.retention r WHERE r.kind = 'sync_operations');

-- name: sync_begin
SELECT result, current, is_away, is_buried, later
FROM memory.sync_begin(%(operation)s, %(fingerprint)s, %(id)s, %(base)s);

-- name: sync_end
SELECT memory.sync_end(%(operation)s, %(fingerprint)s, %(result)s);

-- name: cleanup_sync
SELECT tombstones, sync_operations FROM memory.cleanup_sync();
