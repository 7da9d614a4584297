-- Agents, sessions and memfuse's users count among their owner's bytes too: a plan's limit is one of everything that is kept.

CREATE FUNCTION memory.weigh_named(p_row jsonb) RETURNS bigint
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN 100 + octet_length(p_row ->> 'name') + coalesce(octet_length(p_row ->> 'description'), 0)
       + coalesce(octet_length(p_row ->> 'metadata'), 0);

-- Every write of what counts locks the owner's usage first, before any row that others may wait for.
CREATE FUNCTION memory.lock_named() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM memory.lock_usage();
    RETURN NULL;
END
$$;

CREATE FUNCTION memory.count_named() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_before bigint := 0;
    v_after bigint := 0;
BEGIN
    IF TG_OP <> 'INSERT' THEN
        v_before := memory.weigh_named(to_jsonb(OLD));
    END IF;
    IF TG_OP <> 'DELETE' THEN
        v_after := memory.weigh_named(to_jsonb(NEW));
    END IF;
    IF v_after <> v_before THEN
        PERFORM memory.count_write(0, v_after - v_before, 0);
    END IF;
    RETURN NULL;
END
$$;
REVOKE ALL ON FUNCTION memory.weigh_named(jsonb), memory.lock_named(), memory.count_named() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION memory.weigh_named(jsonb) TO memory_app;

CREATE TRIGGER lock_named BEFORE INSERT OR UPDATE OR DELETE ON memory.agents EXECUTE FUNCTION memory.lock_named();
CREATE TRIGGER lock_named BEFORE INSERT OR UPDATE OR DELETE ON memory.sessions EXECUTE FUNCTION memory.lock_named();
CREATE TRIGGER lock_named BEFORE INSERT OR UPDATE OR DELETE ON memory.memfuse_users EXECUTE FUNCTION memory.lock_named();
CREATE TRIGGER count_named AFTER INSERT OR UPDATE OR DELETE ON memory.agents FOR EACH ROW EXECUTE FUNCTION memory.count_named();
CREATE TRIGGER count_named AFTER INSERT OR UPDATE OR DELETE ON memory.sessions FOR EACH ROW EXECUTE FUNCTION memory.count_named();
CREATE TRIGGER count_named AFTER INSERT OR UPDATE OR DELETE ON memory.memfuse_users FOR EACH ROW EXECUTE FUNCTION memory.count_named();

-- What is there already. An owner of the tables that is no superuser sees the rows of nobody while row security is forced.
ALTER TABLE memory.agents NO FORCE ROW LEVEL SECURITY;
ALTER TABLE memory.sessions NO FORCE ROW LEVEL SECURITY;
ALTER TABLE memory.memfuse_users NO FORCE ROW LEVEL SECURITY;
ALTER TABLE memory.usage NO FORCE ROW LEVEL SECURITY;
UPDATE memory.usage u SET bytes = u.bytes + n.bytes
FROM (SELECT k.user_id, sum(memory.weigh_named(k.data)) AS bytes
      FROM (SELECT a.user_id, to_jsonb(a) AS data FROM memory.agents a
            UNION ALL SELECT s.user_id, to_jsonb(s) FROM memory.sessions s
            UNION ALL SELECT p.user_id, to_jsonb(p) FROM memory.memfuse_users p) k GROUP BY k.user_id) n
WHERE n.user_id = u.user_id;
ALTER TABLE memory.agents FORCE ROW LEVEL SECURITY;
ALTER TABLE memory.sessions FORCE ROW LEVEL SECURITY;
ALTER TABLE memory.memfuse_users FORCE ROW LEVEL SECURITY;
ALTER TABLE memory.usage FORCE ROW LEVEL SECURITY;
