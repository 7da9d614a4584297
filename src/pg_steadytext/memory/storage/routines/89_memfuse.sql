-- Delete for good what belongs to a conversation, or (with p_session null) to a memfuse user, in the trash or not.
CREATE OR REPLACE FUNCTION memory.forget_conversation(p_session uuid, p_memfuse_user uuid) RETURNS bigint
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_ids uuid[];
BEGIN
    PERFORM memory.lock_usage();
    v_ids := ARRAY(SELECT m.id FROM memory.memories m
                   WHERE m.user_id = memory.me()
                     AND CASE WHEN p_session IS NOT NULL THEN m.session_id = p_session
                              ELSE m.provenance ->> 'memfuse_user' = p_memfuse_user::text END);
    PERFORM memory.purge(o.id, NULL) FROM unnest(v_ids) o (id);
    RETURN cardinality(v_ids);
END
$$;

GRANT EXECUTE ON FUNCTION memory.forget_conversation(uuid, uuid) TO memory_app;
