-- name: catalogue
-- All that the extension is made of, a line each; nothing in it depends on how or in which order it came to be.
WITH member AS (
    SELECT d.classid, d.objid
      FROM pg_catalog.pg_depend AS d
      JOIN pg_catalog.pg_extension AS e ON e.oid = d.refobjid
     WHERE d.refclassid = 'pg_catalog.pg_extension'::regclass AND d.deptype = 'e' AND e.extname = 'pg_steadytext'
), relation AS (
    SELECT c.* FROM pg_catalog.pg_class AS c JOIN member AS m ON m.classid = 'pg_catalog.pg_class'::regclass AND m.objid = c.oid
), function AS (
    SELECT p.* FROM pg_catalog.pg_proc AS p JOIN member AS m ON m.classid = 'pg_catalog.pg_proc'::regclass AND m.objid = p.oid
)
SELECT format('member %s', pg_describe_object(m.classid, m.objid, 0)) FROM member AS m
UNION ALL
SELECT format('function %s owner %s: %s', f.oid::regprocedure, f.proowner::regrole, pg_get_functiondef(f.oid))
  FROM function AS f WHERE f.prokind <> 'a'
UNION ALL
SELECT format('aggregate %s: %s', f.oid::regprocedure, to_jsonb(a) - 'aggfnoid') FROM function AS f JOIN pg_catalog.pg_aggregate AS a ON a.aggfnoid = f.oid
UNION ALL
SELECT format('right on %s: %s to %s', f.oid::regprocedure, x.privilege_type, x.grantee::regrole)
  FROM function AS f, LATERAL pg_catalog.aclexplode(coalesce(f.proacl, acldefault('f', f.proowner))) AS x
UNION ALL
SELECT format('first right on %s: %s to %s', f.oid::regprocedure, x.privilege_type, x.grantee::regrole)
  FROM function AS f JOIN pg_catalog.pg_init_privs AS i ON i.objoid = f.oid AND i.classoid = 'pg_catalog.pg_proc'::regclass,
       LATERAL pg_catalog.aclexplode(i.initprivs) AS x
UNION ALL
SELECT format('relation %s kind %s persistence %s options %s row security %s %s', r.oid::regclass, r.relkind, r.relpersistence, r.reloptions,
              r.relrowsecurity, r.relforcerowsecurity) FROM relation AS r
UNION ALL
SELECT format('right on %s: %s to %s', r.oid::regclass, x.privilege_type, x.grantee::regrole)
  FROM relation AS r, LATERAL pg_catalog.aclexplode(r.relacl) AS x
UNION ALL
SELECT format('first right on %s: %s to %s', r.oid::regclass, x.privilege_type, x.grantee::regrole)
  FROM relation AS r JOIN pg_catalog.pg_init_privs AS i ON i.objoid = r.oid AND i.classoid = 'pg_catalog.pg_class'::regclass,
       LATERAL pg_catalog.aclexplode(i.initprivs) AS x
UNION ALL
SELECT format('column %s.%s place %s: %s, not null %s, identity %s, generated %s, default %s', r.oid::regclass, a.attname,
              row_number() OVER (PARTITION BY r.oid ORDER BY a.attnum), format_type(a.atttypid, a.atttypmod), a.attnotnull,
              a.attidentity, a.attgenerated, pg_get_expr(d.adbin, d.adrelid))
  FROM relation AS r JOIN pg_catalog.pg_attribute AS a ON a.attrelid = r.oid AND a.attnum > 0 AND NOT a.attisdropped
  LEFT JOIN pg_catalog.pg_attrdef AS d ON d.adrelid = r.oid AND d.adnum = a.attnum
UNION ALL
SELECT format('constraint %s on %s: %s', c.conname, r.oid::regclass, pg_get_constraintdef(c.oid))
  FROM relation AS r JOIN pg_catalog.pg_constraint AS c ON c.conrelid = r.oid
UNION ALL
SELECT format('index %s', pg_get_indexdef(i.indexrelid)) FROM relation AS r JOIN pg_catalog.pg_index AS i ON i.indrelid = r.oid
UNION ALL
SELECT format('trigger %s', pg_get_triggerdef(t.oid)) FROM relation AS r JOIN pg_catalog.pg_trigger AS t ON t.tgrelid = r.oid AND NOT t.tgisinternal
UNION ALL
SELECT format('policy %s on %s: %s', p.polname, r.oid::regclass,
              (SELECT to_jsonb(v) FROM pg_catalog.pg_policies AS v WHERE v.policyname = p.polname AND v.tablename = r.relname))
  FROM relation AS r JOIN pg_catalog.pg_policy AS p ON p.polrelid = r.oid
UNION ALL
SELECT format('view %s: %s', r.oid::regclass, pg_get_viewdef(r.oid)) FROM relation AS r WHERE r.relkind = 'v'
UNION ALL
SELECT format('comment on %s %s: %s', pg_describe_object(d.classoid, d.objoid, 0), d.objsubid, d.description)
  FROM pg_catalog.pg_description AS d JOIN member AS m ON m.classid = d.classoid AND m.objid = d.objoid
UNION ALL
SELECT format('dumped %s where %s', t.config::regclass, t.condition)
  FROM pg_catalog.pg_extension AS e, LATERAL unnest(e.extconfig, e.extcondition) AS t (config, condition)
 WHERE e.extname = 'pg_steadytext'
UNION ALL
SELECT format('key %s', to_jsonb(k)) FROM public._steadytext_config_keys AS k
UNION ALL
SELECT format('setting %s', to_jsonb(c) - 'updated_at') FROM public.steadytext_config AS c
UNION ALL
SELECT format('version %s', e.extversion) FROM pg_catalog.pg_extension AS e WHERE e.extname = 'pg_steadytext'
 ORDER BY 1;
