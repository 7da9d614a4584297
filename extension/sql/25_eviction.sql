-- Eviction. One function says who goes first; the preview and every eviction ask it.

-- Every entry that may go, with what orders it: rank, then last_accessed, then id. Hits that are not folded yet count.
-- It is inlined and parallel, so that a million entries are one index-only scan.
-- An entry accessed at least `min_access_count` times or younger than `min_age_hours` is protected: it is not listed.
CREATE FUNCTION @extschema@._steadytext_eviction_candidates(
    policy text, min_access_count integer, min_age_hours integer
) RETURNS TABLE (id bigint, access_count bigint, last_accessed timestamptz, created_at timestamptz, size_bytes bigint,
                 rank double precision)
LANGUAGE sql STABLE PARALLEL SAFE
BEGIN ATOMIC
    SELECT e.id, e.accesses, e.accessed, e.created_at, e.size_bytes, e.rank
    FROM (
        SELECT c.id, c.access_count + coalesce(l.hits, 0) AS accesses,
               greatest(c.last_accessed, l.last_hit) AS accessed, c.created_at, c.size_bytes,
               CASE policy
                   WHEN 'lru' THEN 0
                   WHEN 'lfu' THEN c.access_count + coalesce(l.hits, 0)
                   WHEN 'age' THEN pg_catalog.date_part('epoch', c.created_at)
                   ELSE @extschema@._steadytext_frecency(c.access_count + coalesce(l.hits, 0),
                        greatest(c.last_accessed, l.last_hit), pg_catalog.now())
               END AS rank
        FROM @extschema@.steadytext_cache c
        LEFT JOIN @extschema@._steadytext_cache_unfolded() l ON l.entry_id = c.id
    ) e
    WHERE (min_access_count IS NULL OR e.accesses < min_access_count)
      AND (min_age_hours IS NULL
           OR e.created_at < pg_catalog.now() - pg_catalog.make_interval(hours => min_age_hours));
END;

-- The fewest entries, first to go first, whose removal brings the cache down to both targets.
CREATE FUNCTION @extschema@._steadytext_eviction_victims(
    policy text, target_entries bigint, target_bytes numeric, min_access_count integer, min_age_hours integer,
    OUT victims bigint[], OUT entries bigint, OUT bytes numeric
) LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_variable
DECLARE
    surplus bigint;
    surplus_bytes numeric;
BEGIN
    SELECT count(*), coalesce(sum(c.size_bytes), 0) INTO entries, bytes FROM @extschema@.steadytext_cache c;
    surplus := greatest(entries - target_entries, 0);
    surplus_bytes := greatest(bytes - target_bytes, 0);
    IF coalesce(surplus_bytes, 0) = 0 THEN
        SELECT coalesce(array_agg(o.id), '{}') INTO victims FROM (
            SELECT e.id FROM @extschema@._steadytext_eviction_candidates(policy, min_access_count, min_age_hours) e
            ORDER BY e.rank, e.last_accessed, e.id LIMIT coalesce(surplus, 0)) o;
    ELSE
        SELECT coalesce(array_agg(o.id ORDER BY o.place), '{}') INTO victims FROM (
            SELECT e.id, row_number() OVER w AS place, sum(e.size_bytes) OVER w - e.size_bytes AS freed_before
            FROM @extschema@._steadytext_eviction_candidates(policy, min_access_count, min_age_hours) e
            WINDOW w AS (ORDER BY e.rank, e.last_accessed, e.id ROWS UNBOUNDED PRECEDING)) o
        WHERE o.place <= surplus OR o.freed_before < surplus_bytes;
    END IF;
END
$$;

-- Evict down to the targets; NULL is no target. Rows go in batches, in one transaction.
CREATE FUNCTION @extschema@._steadytext_evict(
    policy text, target_entries bigint, target_size_mb double precision, batch_size integer,
    min_access_count integer, min_age_hours integer,
    OUT evicted_count integer, OUT freed_size_mb double precision,
    OUT remaining_entries bigint, OUT remaining_size_mb double precision
) LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_variable
DECLARE
    plan record;
    freed numeric := 0;
    freed_now numeric;
    removed integer;
BEGIN
    PERFORM @extschema@._steadytext_cache_lock();
    SELECT v.* INTO plan FROM @extschema@._steadytext_eviction_victims(
        policy, target_entries, (target_size_mb * 1048576)::numeric, min_access_count, min_age_hours) v;
    evicted_count := 0;
    FOR head IN 1 .. cardinality(plan.victims) BY batch_size LOOP
        WITH gone AS (
            DELETE FROM @extschema@.steadytext_cache c
            WHERE c.id = ANY (plan.victims[head : least(head::bigint + batch_size - 1, cardinality(plan.victims))])
            RETURNING c.size_bytes
        )
        SELECT count(*), coalesce(sum(g.size_bytes), 0) INTO removed, freed_now FROM gone g;
        evicted_count := evicted_count + removed;
        freed := freed + freed_now;
    END LOOP;
    freed_size_mb := freed / 1048576;
    remaining_entries := plan.entries - evicted_count;
    remaining_size_mb := (plan.bytes - freed) / 1048576;
END
$$;

CREATE FUNCTION @extschema@._steadytext_evict_checked(
    policy text, target_entries integer, target_size_mb double precision, batch_size integer,
    min_access_count integer, min_age_hours integer,
    OUT evicted_count integer, OUT freed_size_mb double precision,
    OUT remaining_entries bigint, OUT remaining_size_mb double precision
) RETURNS SETOF record
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_variable
BEGIN
    IF batch_size IS NULL OR min_age_hours IS NULL OR (policy <> 'age' AND min_access_count IS NULL) THEN
        PERFORM @extschema@._steadytext_raise('22004', 'batch_size, min_access_count and min_age_hours cannot be null');
    ELSIF batch_size < 1 THEN
        PERFORM @extschema@._steadytext_raise('22023', 'batch_size must be at least 1');
    ELSIF min_age_hours NOT BETWEEN 0 AND 1000000 THEN
        PERFORM @extschema@._steadytext_raise('22023', 'min_age_hours must be between 0 and 1000000');
    ELSIF target_entries < 0 THEN
        PERFORM @extschema@._steadytext_raise('22023', 'target_entries must be non-negative');
    ELSIF NOT @extschema@._steadytext_is_size(target_size_mb) THEN
        PERFORM @extschema@._steadytext_raise('22023', 'target_size_mb must be a number from 0 to 1000000000');
    END IF;
    IF target_entries IS NULL THEN
        target_entries := @extschema@.steadytext_config_get('cache_max_entries')::integer;
    END IF;
    IF target_size_mb IS NULL THEN
        target_size_mb := @extschema@.steadytext_config_get('cache_max_size_mb')::double precision;
    END IF;
    RETURN QUERY SELECT e.* FROM @extschema@._steadytext_evict(
        policy, target_entries, target_size_mb, batch_size, min_access_count, min_age_hours) e;
END
$$;

CREATE FUNCTION @extschema@._steadytext_is_size(megabytes double precision) RETURNS boolean
LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT coalesce(megabytes BETWEEN 0 AND 1000000000, true)
$$;

CREATE FUNCTION @extschema@.steadytext_cache_evict(max_entries integer DEFAULT NULL, max_size_mb double precision DEFAULT NULL)
RETURNS integer
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_variable
BEGIN
    IF max_entries < 0 THEN
        PERFORM @extschema@._steadytext_raise('22023', 'max_entries must be non-negative');
    ELSIF NOT @extschema@._steadytext_is_size(max_size_mb) THEN
        PERFORM @extschema@._steadytext_raise('22023', 'max_size_mb must be a number from 0 to 1000000000');
    END IF;
    IF max_entries IS NULL AND max_size_mb IS NULL THEN
        max_entries := @extschema@.steadytext_config_get('cache_max_entries')::integer;
        max_size_mb := @extschema@.steadytext_config_get('cache_max_size_mb')::double precision;
    END IF;
    RETURN (SELECT e.evicted_count FROM @extschema@._steadytext_evict(
        @extschema@.steadytext_config_get('cache_policy'), max_entries, max_size_mb, 1000, NULL, NULL) e);
END
$$;

CREATE FUNCTION @extschema@.steadytext_cache_evict_by_age(
    target_entries integer DEFAULT NULL, target_size_mb double precision DEFAULT NULL, batch_size integer DEFAULT 100,
    min_age_hours integer DEFAULT 1,
    OUT evicted_count integer, OUT freed_size_mb double precision,
    OUT remaining_entries bigint, OUT remaining_size_mb double precision
) RETURNS SETOF record
LANGUAGE sql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT e.* FROM @extschema@._steadytext_evict_checked('age', target_entries, target_size_mb, batch_size, NULL, min_age_hours) e
$$;

CREATE FUNCTION @extschema@.steadytext_cache_evict_by_frecency(
    target_entries integer DEFAULT NULL, target_size_mb double precision DEFAULT NULL, batch_size integer DEFAULT 100,
    min_access_count integer DEFAULT 2, min_age_hours integer DEFAULT 1,
    OUT evicted_count integer, OUT freed_size_mb double precision,
    OUT remaining_entries bigint, OUT remaining_size_mb double precision
) RETURNS SETOF record
LANGUAGE sql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT e.* FROM @extschema@._steadytext_evict_checked(
        'frecency', target_entries, target_size_mb, batch_size, min_access_count, min_age_hours) e
$$;

-- What an eviction by the configured policy would take next, first to go first. The further arguments preview the
-- protected kinds of eviction.
CREATE FUNCTION @extschema@.steadytext_cache_preview_eviction(
    preview_count integer DEFAULT 10, min_access_count integer DEFAULT NULL, min_age_hours integer DEFAULT NULL,
    policy text DEFAULT NULL,
    OUT cache_key text, OUT prompt text, OUT access_count integer, OUT last_accessed timestamptz,
    OUT created_at timestamptz, OUT age_days double precision, OUT size_bytes bigint, OUT frecency_score double precision
) RETURNS SETOF record
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
    chosen text := coalesce(policy, @extschema@.steadytext_config_get('cache_policy'));
BEGIN
    IF preview_count IS NULL THEN
        PERFORM @extschema@._steadytext_raise('22004', 'preview_count cannot be null');
    ELSIF preview_count < 0 THEN
        PERFORM @extschema@._steadytext_raise('22023', 'preview_count must be non-negative');
    ELSIF chosen NOT IN ('frecency', 'lru', 'lfu', 'age') THEN
        PERFORM @extschema@._steadytext_raise('22023', 'policy must be frecency, lru, lfu or age');
    END IF;
    RETURN QUERY
    SELECT c.cache_key, CASE WHEN length(c.prompt) > 50 THEN left(c.prompt, 50) || '...' ELSE c.prompt END,
           least(e.access_count, 2147483647)::integer, e.last_accessed, e.created_at,
           extract(epoch FROM now() - e.created_at)::double precision / 86400, e.size_bytes,
           @extschema@._steadytext_frecency(e.access_count, e.last_accessed, now())
    FROM (SELECT o.* FROM @extschema@._steadytext_eviction_candidates(
              chosen, steadytext_cache_preview_eviction.min_access_count,
              steadytext_cache_preview_eviction.min_age_hours) o
          ORDER BY o.rank, o.last_accessed, o.id LIMIT preview_count) e
    JOIN @extschema@.steadytext_cache c ON c.id = e.id
    ORDER BY e.rank, e.last_accessed, e.id;
END
$$;

CREATE FUNCTION @extschema@.steadytext_cache_analyze_usage(
    OUT age_bucket text, OUT entry_count bigint, OUT avg_access_count double precision,
    OUT total_size_mb double precision, OUT percentage_of_cache double precision
) RETURNS SETOF record
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    WITH entries AS (
        SELECT c.size_bytes, c.access_count + coalesce(l.hits, 0) AS accesses,
               CASE WHEN c.created_at > now() - interval '1 hour' THEN 1
                    WHEN c.created_at > now() - interval '1 day' THEN 2
                    WHEN c.created_at > now() - interval '7 days' THEN 3
                    WHEN c.created_at > now() - interval '30 days' THEN 4
                    ELSE 5 END AS bucket
        FROM @extschema@.steadytext_cache c LEFT JOIN @extschema@._steadytext_cache_unfolded() l ON l.entry_id = c.id
    )
    SELECT (ARRAY['< 1 hour', '1 hour - 1 day', '1 day - 7 days', '7 days - 30 days', '> 30 days'])[bucket],
           count(*), avg(accesses)::double precision, (sum(size_bytes) / 1048576.0)::double precision,
           (100.0 * count(*) / sum(count(*)) OVER ())::double precision
    FROM entries GROUP BY bucket ORDER BY bucket
$$;

CREATE FUNCTION @extschema@.steadytext_cache_scheduled_eviction() RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF @extschema@.steadytext_config_get('cache_eviction_enabled')::boolean THEN
        PERFORM @extschema@.steadytext_cache_evict();
    END IF;
END
$$;
