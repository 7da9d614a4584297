-- Calls that SteadyText's own extension and its documents write otherwise. Each differs from the function it stands for in
-- a type or in what must be given, so that no call could mean both.

-- embed_async('...', true): there the cache comes second. Named calls are the other function's alone, as `cached` is only here.
CREATE FUNCTION @extschema@.steadytext_embed_async(
    text_input text, cached boolean, seed integer DEFAULT 42, model text DEFAULT NULL, unsafe_mode boolean DEFAULT false
) RETURNS uuid
LANGUAGE sql VOLATILE
BEGIN ATOMIC
    SELECT @extschema@.steadytext_embed_async(
        text_input => text_input, use_cache => cached, seed => seed, model => model, unsafe_mode => unsafe_mode);
END;

-- The similarity under the name that it has there. A number with decimals is numeric, and then this one answers also where
-- it is not named.
CREATE FUNCTION @extschema@.steadytext_deduplicate_facts(facts_array jsonb, similarity_threshold numeric) RETURNS jsonb
LANGUAGE sql VOLATILE
BEGIN ATOMIC
    SELECT @extschema@.steadytext_deduplicate_facts(facts_array, similarity => similarity_threshold::double precision);
END;
