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

-- The targets by the names that steadytext_cache_evict() has for them. A number without a type is neither's integer more
-- than the other's, and then the preferred type, double precision, decides.
CREATE FUNCTION @extschema@.steadytext_cache_evict_by_age(
    max_entries double precision, max_size_mb double precision DEFAULT NULL, batch_size integer DEFAULT 100,
    min_age_hours integer DEFAULT 1,
    OUT evicted_count integer, OUT freed_size_mb double precision,
    OUT remaining_entries bigint, OUT remaining_size_mb double precision
) RETURNS SETOF record
LANGUAGE sql VOLATILE
BEGIN ATOMIC
    SELECT e.evicted_count, e.freed_size_mb, e.remaining_entries, e.remaining_size_mb
    FROM @extschema@.steadytext_cache_evict_by_age(
        target_entries => max_entries::integer, target_size_mb => max_size_mb, batch_size => batch_size,
        min_age_hours => min_age_hours) e;
END;

-- The similarity under the name that it has there. A number with decimals is numeric, and then this one answers also where
-- it is not named.
CREATE FUNCTION @extschema@.steadytext_deduplicate_facts(facts_array jsonb, similarity_threshold numeric) RETURNS jsonb
LANGUAGE sql VOLATILE
BEGIN ATOMIC
    SELECT @extschema@.steadytext_deduplicate_facts(facts_array, similarity => similarity_threshold::double precision);
END;
