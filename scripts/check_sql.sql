-- name: members
-- The functions, tables, sequences and views of the extension; the checks below read it.
CREATE TEMP VIEW member AS
SELECT d.classid, d.objid
  FROM pg_catalog.pg_depend AS d
  JOIN pg_catalog.pg_extension AS e ON e.oid = d.refobjid
 WHERE d.refclassid = 'pg_catalog.pg_extension'::regclass AND d.deptype = 'e' AND e.extname = 'pg_steadytext';

-- name: count
SELECT pg_catalog.count(*) FROM member;

-- name: unpinned
-- Whoever calls a SECURITY DEFINER function must not choose where its names lead.
SELECT p.oid::regprocedure::text || ' is SECURITY DEFINER without a pinned search_path that ends in pg_temp'
  FROM member AS m
  JOIN pg_catalog.pg_proc AS p ON p.oid = m.objid AND m.classid = 'pg_catalog.pg_proc'::regclass
 WHERE p.prosecdef
   AND NOT EXISTS (SELECT FROM pg_catalog.unnest(p.proconfig) AS setting
                    WHERE setting LIKE 'search\_path=%' AND setting ~ 'pg_temp"?$');

-- name: public_functions
SELECT p.oid::regprocedure::text || ' may be executed by PUBLIC'
  FROM member AS m
  JOIN pg_catalog.pg_proc AS p ON p.oid = m.objid AND m.classid = 'pg_catalog.pg_proc'::regclass
 CROSS JOIN LATERAL pg_catalog.aclexplode(COALESCE(p.proacl, pg_catalog.acldefault('f', p.proowner))) AS granted
 WHERE granted.grantee = 0;

-- name: public_relations
SELECT c.oid::regclass::text || ' grants ' || granted.privilege_type || ' to PUBLIC'
  FROM member AS m
  JOIN pg_catalog.pg_class AS c ON c.oid = m.objid AND m.classid = 'pg_catalog.pg_class'::regclass
 CROSS JOIN LATERAL pg_catalog.aclexplode(c.relacl) AS granted
 WHERE granted.grantee = 0;

-- name: leakproof
SELECT p.oid::regprocedure::text || ' is LEAKPROOF'
  FROM member AS m
  JOIN pg_catalog.pg_proc AS p ON p.oid = m.objid AND m.classid = 'pg_catalog.pg_proc'::regclass
 WHERE p.proleakproof;

-- name: backslashes
-- A plain string's backslash means what standard_conforming_strings says, and that is the caller's to set.
SELECT p.oid::regprocedure::text || ' has a backslash in a string that is no E string'
  FROM member AS m
  JOIN pg_catalog.pg_proc AS p ON p.oid = m.objid AND m.classid = 'pg_catalog.pg_proc'::regclass
  JOIN pg_catalog.pg_language AS l ON l.oid = p.prolang AND l.lanname IN ('sql', 'plpgsql')
 WHERE pg_catalog.regexp_replace(p.prosrc, '\mE''[^'']*''', '', 'g') LIKE '%\\%';

-- name: misnamed
-- Summaries and facts alone have their former names as well.
SELECT p.oid::regprocedure::text || ' does not begin with steadytext_, _steadytext_, st_ or _st_'
  FROM member AS m
  JOIN pg_catalog.pg_proc AS p ON p.oid = m.objid AND m.classid = 'pg_catalog.pg_proc'::regclass
 WHERE p.proname !~ '^(_?(steadytext|st)_|ai_(summarize|extract_facts|deduplicate_facts))';

-- name: plpgsql
-- plpgsql_check finds unknown columns, unused variables, wrong types and dead code without running a function. Newer ones
-- also read what EXECUTE is given; pg_cron need not be there. And they know what a function promises: here some promise what
-- callers need (an index is used with a STABLE one alone), while what they call counts a hit or raises an error.
SELECT p.oid::regprocedure::text || ', line ' || COALESCE(f.lineno::text, '?') || ': ' || f.level || ': ' || f.message
  FROM member AS m
  JOIN pg_catalog.pg_proc AS p ON p.oid = m.objid AND m.classid = 'pg_catalog.pg_proc'::regclass
  JOIN pg_catalog.pg_language AS l ON l.oid = p.prolang
 CROSS JOIN LATERAL plpgsql_check_function_tb(p.oid, performance_warnings => false, security_warnings => true) AS f
 WHERE l.lanname = 'plpgsql' AND p.prorettype <> 'trigger'::regtype AND f.level IN ('error', 'warning', 'warning security')
   AND f.message <> 'schema "cron" does not exist' AND f.message NOT LIKE 'routine is marked as %, but expression is %';
