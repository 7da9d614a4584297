-- A flag as administrators see it.
CREATE OR REPLACE FUNCTION memory.flag_json(f memory.flags) RETURNS jsonb
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RETURN jsonb_build_object(
        'key', f.key, 'description', f.description, 'enabled', f.enabled, 'percentage', f.percentage,
        'variants', f.variants, 'on_variant', f.on_variant, 'off_variant', f.off_variant,
        'users_on', (SELECT coalesce(jsonb_agg(u.user_id ORDER BY u.user_id), '[]') FROM memory.flag_users u
                     WHERE u.key = f.key AND u.is_on),
        'users_off', (SELECT coalesce(jsonb_agg(u.user_id ORDER BY u.user_id), '[]') FROM memory.flag_users u
                      WHERE u.key = f.key AND NOT u.is_on),
        'updated_at', memory.iso(f.updated_at));
END
$$;

-- All flags, for the processes that resolve them; before anybody is known.
CREATE OR REPLACE FUNCTION memory.read_flags() RETURNS text
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RETURN (SELECT coalesce(jsonb_agg(memory.flag_json(f)), '[]') FROM memory.flags f)::text;
END
$$;

-- Make a flag, or replace one.
CREATE OR REPLACE FUNCTION memory.put_flag(p_key text, p_flag jsonb) RETURNS text
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_flag memory.flags := jsonb_populate_record(NULL::memory.flags, p_flag);
    v_unknown text;
BEGIN
    SELECT u.id INTO v_unknown FROM jsonb_array_elements_text(p_flag -> 'users_on' || (p_flag -> 'users_off')) u (id)
    WHERE NOT EXISTS (SELECT FROM memory.users k WHERE k.id = u.id::uuid) LIMIT 1;
    IF v_unknown IS NOT NULL THEN
        PERFORM memory.refuse(422, 'unknown-user', format('there is no user %s', v_unknown));
    END IF;
    INSERT INTO memory.flags AS f (key, description, enabled, percentage, variants, on_variant, off_variant)
    VALUES (p_key, v_flag.description, v_flag.enabled, v_flag.percentage, v_flag.variants, v_flag.on_variant, v_flag.off_variant)
    ON CONFLICT (key) DO UPDATE
    SET description = excluded.description, enabled = excluded.enabled, percentage = excluded.percentage,
        variants = excluded.variants, on_variant = excluded.on_variant, off_variant = excluded.off_variant, updated_at = now()
    RETURNING * INTO v_flag;
    DELETE FROM memory.flag_users u WHERE u.key = p_key;
    INSERT INTO memory.flag_users (user_id, key, is_on)
    SELECT u.id::uuid, p_key, g.is_on
    FROM (VALUES (true, p_flag -> 'users_on'), (false, p_flag -> 'users_off')) g (is_on, ids),
         jsonb_array_elements_text(g.ids) u (id);
    RETURN memory.flag_json(v_flag);
END
$$;

GRANT EXECUTE ON FUNCTION memory.flag_json(memory.flags), memory.put_flag(text, jsonb) TO memory_admin;
GRANT EXECUTE ON FUNCTION memory.read_flags() TO memory_service;
