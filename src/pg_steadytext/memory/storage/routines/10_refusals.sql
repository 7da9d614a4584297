-- A refusal is an exception, so that nothing of the transaction stays. Its SQLSTATE ends in the HTTP status, its detail is
-- an object: the members of the problem document, with "slug" for its type.
CREATE OR REPLACE FUNCTION memory.refuse(p_status integer, p_slug text, p_message text, p_members jsonb DEFAULT '{}')
RETURNS void LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RAISE EXCEPTION USING
        ERRCODE = 'MC' || p_status,
        MESSAGE = p_message,
        DETAIL = (p_members || jsonb_build_object('slug', p_slug))::text;
END
$$;
