-- What the schema memory is, a line for each thing.
SELECT line FROM (
    SELECT format('column %s.%s %s %s %s', c.relname, a.attname, format_type(a.atttypid, a.atttypmod), a.attnotnull,
                  pg_get_expr(d.adbin, d.adrelid)) AS line
    FROM pg_class c
    JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
    LEFT JOIN pg_attrdef d ON d.adrelid = c.oid AND d.adnum = a.attnum
    WHERE c.relnamespace = 'memory'::regnamespace AND c.relkind IN ('r', 'p', 'm', 'v')
    UNION ALL
    SELECT format('relation %s %s %s %s %s %s', c.relname, c.relkind, c.relrowsecurity, c.relforcerowsecurity, c.relacl,
                  c.reloptions)
    FROM pg_class c WHERE c.relnamespace = 'memory'::regnamespace
    UNION ALL
    SELECT format('index %s', pg_get_indexdef(i.indexrelid))
    FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid WHERE c.relnamespace = 'memory'::regnamespace
    UNION ALL
    SELECT format('constraint %s %s %s', conrelid::regclass, conname, pg_get_constraintdef(oid))
    FROM pg_constraint WHERE connamespace = 'memory'::regnamespace
    UNION ALL
    SELECT format('policy %s', p) FROM pg_policies p WHERE schemaname = 'memory'
    UNION ALL
    SELECT format('function %s %s', pg_get_functiondef(oid), proacl) FROM pg_proc
    WHERE pronamespace = 'memory'::regnamespace
) lines ORDER BY line;
