-- The extension's public functions under their steadytext_ names, written as docs/reference.md writes them.
WITH member AS (
    SELECT p.* FROM pg_catalog.pg_proc AS p
      JOIN pg_catalog.pg_depend AS d ON d.classid = 'pg_catalog.pg_proc'::regclass AND d.objid = p.oid AND d.deptype = 'e'
      JOIN pg_catalog.pg_extension AS e ON d.refclassid = 'pg_catalog.pg_extension'::regclass AND e.oid = d.refobjid
     WHERE e.extname = 'pg_steadytext' AND starts_with(p.proname, %(prefix)s)
), argument AS (
    SELECT m.oid, a.place, a.name, a.mode, format_type(a.type, NULL) AS type,
           count(*) FILTER (WHERE a.mode IN ('i', 'b', 'v')) OVER (PARTITION BY m.oid ORDER BY a.place) AS input
      FROM member AS m,
           ROWS FROM (unnest(coalesce(m.proallargtypes, m.proargtypes::oid[])), unnest(m.proargnames),
                      unnest(m.proargmodes)) WITH ORDINALITY AS plain (type, name, given, place),
           LATERAL (SELECT plain.type, plain.name, coalesce(plain.given, 'i') AS mode, plain.place) AS a
)
SELECT format('%%s%%s(%%s)', CASE m.prokind WHEN 'a' THEN 'aggregate ' END, substr(m.proname, length(%(prefix)s) + 1),
              (SELECT string_agg(concat_ws(' ', CASE a.mode WHEN 'v' THEN 'VARIADIC' END, a.name, a.type,
                                           '= ' || regexp_replace(pg_get_function_arg_default(m.oid, a.input::int), '::[a-z ]+(\[\])?$', '')),
                                 ', ' ORDER BY a.place)
                 FROM argument AS a WHERE a.oid = m.oid AND a.mode IN ('i', 'b', 'v'))) AS signature,
       coalesce((SELECT format('table (%%s)', string_agg(concat_ws(' ', a.name, a.type), ', ' ORDER BY a.place))
                   FROM argument AS a WHERE a.oid = m.oid AND a.mode IN ('o', 't') HAVING count(*) > 0),
                CASE WHEN m.proretset THEN 'setof ' ELSE '' END || format_type(m.prorettype, NULL)) AS result,
       coalesce((SELECT string_agg(substr(r.role, 12), ', ')
                   FROM unnest(ARRAY['steadytext_reader', 'steadytext_user', 'steadytext_admin']) AS r (role), aclexplode(m.proacl) AS x
                  WHERE x.grantee = r.role::regrole), 'superuser') AS audience
  FROM member AS m
 ORDER BY signature;
