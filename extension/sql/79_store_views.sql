-- Statistics and health of the store: what is embedded, what waits, what failed, and who works on it. Each caller sees the
-- tables that are theirs.

-- Each embedded table's figures, for monitoring: no table is read, only what waits for its embedding. `oldest_seconds` is how
-- long the longest waiting row has waited, `embedded` counts every vector written, `rate` is in rows a second.
CREATE FUNCTION @extschema@.steadytext_store_metrics(
    OUT table_name text, OUT destination name, OUT state text, OUT pending bigint, OUT processing bigint, OUT failed bigint,
    OUT oldest_seconds double precision, OUT embedded bigint, OUT rate double precision
) RETURNS SETOF record
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
BEGIN
    RETURN QUERY
    SELECT @extschema@._steadytext_relation_name(d.relation), d.destination, d.state, c.pending, c.processing, c.failed,
           greatest(0, coalesce(extract(epoch FROM clock_timestamp() - least(
               (SELECT min(w.noted_at) FROM @extschema@._steadytext_autoembed_work w WHERE w.autoembed_id = d.id AND NOT w.failed),
               (SELECT min(l.noted_at) FROM @extschema@._steadytext_autoembed_log l WHERE l.autoembed_id = d.id))), 0))::double precision,
           d.embedded, coalesce(d.rate * exp(-least(1000, greatest(0, extract(epoch FROM clock_timestamp() - d.rated_at))) / 30), 0)
    FROM @extschema@.steadytext_autoembeddings d JOIN pg_class t ON t.oid = d.relation,
         LATERAL @extschema@._steadytext_autoembed_counts(d.id) c
    WHERE pg_has_role(@extschema@._steadytext_caller(), t.relowner, 'USAGE') OR @extschema@._steadytext_caller_is('steadytext_admin')
    ORDER BY d.id;
END
$$;

-- Whether the daemon answers now.
CREATE FUNCTION @extschema@._steadytext_store_daemon() RETURNS boolean
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RETURN @extschema@._steadytext_daemon_ask(2000) IS NOT NULL;
END
$$;

-- A barrier: a function in a reader's condition meets no row that is not theirs.
CREATE VIEW @extschema@.steadytext_store_stats WITH (security_barrier) AS
SELECT d.relation, s.table_name, s.destination, s.model, d.mode, s.state, s.reason, s.total, s.embedded AS with_embeddings,
       s.pending, s.processing, s.failed,
       pg_catalog.round(100.0 * s.embedded / NULLIF(s.total, 0), 2) AS coverage_percent,
       COALESCE(d.embedded::double precision / NULLIF(d.embedded + s.failed, 0), 1) AS success_rate,
       s.rate, s.estimated_end, s.backfill, s.index_state, s.backfill_rows, s.backfill_total, s.backfill_rate, s.replaces, s.outdated
FROM @extschema@.steadytext_autoembed_status() s
JOIN @extschema@.steadytext_autoembeddings d ON d.id = s.id;

CREATE VIEW @extschema@.steadytext_store_health AS
SELECT a.daemon_healthy AND (w.active_workers > 0 OR s.automatic = 0) AND s.broken = 0 AS overall_healthy,
       a.daemon_healthy, w.active_workers, s.queue_size, s.failed, s.broken, s.tables
FROM (SELECT @extschema@._steadytext_store_daemon() AS daemon_healthy) a,
     (SELECT pg_catalog.count(*) AS active_workers FROM @extschema@.steadytext_workers
      WHERE lease_expires_at > pg_catalog.clock_timestamp()) w,
     (SELECT pg_catalog.count(*) FILTER (WHERE t.replaces IS NULL) AS tables, COALESCE(pg_catalog.sum(t.pending + t.processing), 0)::bigint AS queue_size,
             COALESCE(pg_catalog.sum(t.failed), 0)::bigint AS failed,
             pg_catalog.count(*) FILTER (WHERE t.mode = 'auto') AS automatic,
             pg_catalog.count(*) FILTER (WHERE t.state = 'broken') AS broken
      FROM @extschema@.steadytext_store_stats t) s;

GRANT SELECT ON @extschema@.steadytext_store_stats, @extschema@.steadytext_store_health TO steadytext_reader;
