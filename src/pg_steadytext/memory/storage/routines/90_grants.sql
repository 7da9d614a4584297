REVOKE ALL ON ALL FUNCTIONS IN SCHEMA memory FROM PUBLIC;
GRANT EXECUTE ON FUNCTION memory.me(), memory.refuse(integer, text, text, jsonb) TO memory_app, memory_admin, memory_service;
GRANT EXECUTE ON FUNCTION
    memory.identify(text, bytea), memory.enter(text, bytea, text, bytea), memory.register(uuid, text, text, text),
    memory.credentials(text), memory.open_session(uuid, uuid, bytea, bytea, interval), memory.close_session(bytea),
    memory.save(text, bytea, bytea, text, text, bytea, jsonb, boolean), memory.save_group(jsonb, text), memory.cleanup(integer)
TO memory_service;
GRANT EXECUTE ON FUNCTION
    memory.lock_usage(), memory.refuse_amount(text, bigint, bigint, memory.tiers), memory.seconds_left(timestamptz),
    memory.refuse_rate(text, bigint, timestamptz, memory.tiers), memory.count_write(bigint, bigint, bigint),
    memory.count_locked(memory.usage, bigint, bigint, bigint),
    memory.count_rate(text, bigint), memory.usage_json(), memory.rate_json(bigint, timestamptz, bigint),
    memory.iso(timestamptz), memory.memory_json(memory.memories),
    memory.write_history(memory.memories, text, jsonb), memory.weigh(memory.memories),
    memory.enrichment_of(memory.memories), memory.same_text(uuid, bytea), memory.hand_over(memory.memories), memory.add(jsonb, boolean),
    memory.check_owner(memory.memories), memory.take(uuid, bigint[], boolean), memory.is_away(memory.memories),
    memory.write_back(memory.memories), memory.change(uuid, bigint[], jsonb), memory.put_away(memory.memories),
    memory.trash(uuid, bigint[]), memory.restore(uuid), memory.purge(uuid, bigint[]),
    memory.idempotency_begin(text, text, text, bytea),
    memory.idempotency_end(text, text, text, bytea, integer, jsonb, text),
    memory.export_rows(), memory.set_plan(uuid, text, boolean)
TO memory_app;
GRANT EXECUTE ON FUNCTION memory.set_plan(uuid, text, boolean), memory.iso(timestamptz) TO memory_admin;
GRANT SELECT ON memory.migrations TO memory_service;
