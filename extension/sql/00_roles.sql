-- Roles belong to the cluster, not to the database: create what is missing and leave what another database made.
DO $$
DECLARE
    wanted text;
BEGIN
    FOREACH wanted IN ARRAY ARRAY['steadytext_reader', 'steadytext_user', 'steadytext_admin', 'steadytext_remote',
                                'steadytext_worker'] LOOP
        IF NOT EXISTS (SELECT FROM pg_catalog.pg_roles WHERE rolname = wanted) THEN
            EXECUTE pg_catalog.format('CREATE ROLE %I NOLOGIN', wanted);
        END IF;
    END LOOP;
    IF NOT pg_catalog.pg_has_role('steadytext_user', 'steadytext_reader', 'MEMBER') THEN
        GRANT steadytext_reader TO steadytext_user;
    END IF;
    IF NOT pg_catalog.pg_has_role('steadytext_admin', 'steadytext_user', 'MEMBER') THEN
        GRANT steadytext_user TO steadytext_admin;
    END IF;
END
$$;

-- Small functions are PL/pgSQL: one in SQL that has a SET of its own is never inlined, and is parsed and planned anew in
-- each transaction.

-- Whether this is a security-restricted operation: code of a table's owner that runs in somebody else's session, as in
-- ANALYZE, CREATE INDEX, REFRESH MATERIALIZED VIEW and what the worker does for the owner. Nothing tells, but UNLISTEN is
-- refused there, and does nothing where nobody listens.
CREATE FUNCTION @extschema@._steadytext_restricted() RETURNS boolean
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    UNLISTEN pg_steadytext_restricted;
    RETURN false;
EXCEPTION
    WHEN insufficient_privilege THEN
        RETURN true;
END
$$;

-- The role on whose behalf a SECURITY DEFINER function runs: what SET ROLE chose, else who logged in. The owner's code in
-- another's session must not pass for that other, so there is no caller then.
CREATE FUNCTION @extschema@._steadytext_caller() RETURNS name
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF @extschema@._steadytext_restricted() THEN
        PERFORM @extschema@._steadytext_raise('42501', 'nobody''s rights are known within a security-restricted operation',
            'Index expressions, materialized views and what is embedded may generate and embed, but neither queue, nor search, nor declare.');
    END IF;
    RETURN CASE current_setting('role') WHEN 'none' THEN session_user ELSE current_setting('role')::name END;
END
$$;

-- Whose cached answers a call may see where each role has its own; the owner's code in another's session has nobody's.
CREATE FUNCTION @extschema@._steadytext_scope() RETURNS name
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RETURN CASE WHEN @extschema@._steadytext_restricted() THEN '' ELSE @extschema@._steadytext_caller() END;
END
$$;

CREATE FUNCTION @extschema@._steadytext_caller_is(wanted name) RETURNS boolean
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RETURN pg_has_role(@extschema@._steadytext_caller(), wanted, 'USAGE');
END
$$;

-- Every refusal passes here, so that message, SQLSTATE and hint always arrive together.
CREATE FUNCTION @extschema@._steadytext_raise(code text, message text, hint text DEFAULT NULL) RETURNS void
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF hint IS NULL THEN
        RAISE EXCEPTION USING ERRCODE = code, MESSAGE = message;
    END IF;
    RAISE EXCEPTION USING ERRCODE = code, MESSAGE = message, HINT = hint;
END
$$;

CREATE FUNCTION @extschema@.steadytext_version() RETURNS text
LANGUAGE sql STABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
    SELECT extversion FROM pg_extension WHERE extname = 'pg_steadytext'
$$;
