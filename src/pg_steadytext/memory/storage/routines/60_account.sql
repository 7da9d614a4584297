-- Every row of every table that has a user_id, whatever later migrations add; secrets and what only the service needs stay out.
CREATE OR REPLACE FUNCTION memory.export_rows() RETURNS TABLE (kind text, content jsonb)
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_table name;
    v_columns text;
BEGIN
    RETURN QUERY SELECT 'users', to_jsonb(u)
    FROM (SELECT o.id, o.email, o.name, o.role, o.time_zone, o.created_at FROM memory.users o WHERE o.id = memory.me()) u;
    FOR v_table, v_columns IN
        SELECT c.relname, string_agg(format('%I', a.attname), ', ' ORDER BY a.attnum)
        FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
             AND a.attgenerated = ''
        WHERE c.relnamespace = 'memory'::regnamespace AND c.relkind IN ('r', 'p') AND NOT c.relispartition
          AND a.attname <> ALL ('{token_hash,csrf_hash,fingerprint}')
          AND EXISTS (SELECT FROM pg_attribute o WHERE o.attrelid = c.oid AND o.attname = 'user_id' AND NOT o.attisdropped)
        GROUP BY c.relname ORDER BY c.relname
    LOOP
        RETURN QUERY EXECUTE format(
            'SELECT %L, to_jsonb(r) FROM (SELECT %s FROM memory.%I WHERE user_id = memory.me()) r',
            v_table, v_columns, v_table);
    END LOOP;
END
$$;

CREATE OR REPLACE FUNCTION memory.set_plan(p_user uuid, p_plan text, p_by_user boolean) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_tier memory.tiers;
BEGIN
    SELECT * INTO v_tier FROM memory.tiers t WHERE t.name = p_plan;
    IF v_tier.name IS NULL THEN
        PERFORM memory.refuse(422, 'unknown-plan', 'there is no such plan', jsonb_build_object('plans',
            (SELECT jsonb_agg(t.name ORDER BY t.rank) FROM memory.tiers t)));
    ELSIF p_by_user AND NOT v_tier.is_self_service THEN
        PERFORM memory.refuse(403, 'plan-by-administrator', format('an administrator gives the plan %s', p_plan));
    END IF;
    UPDATE memory.usage u SET tier = p_plan WHERE u.user_id = p_user;
    IF NOT FOUND THEN
        PERFORM memory.refuse(404, 'not-found', 'there is no such user');
    END IF;
END
$$;
