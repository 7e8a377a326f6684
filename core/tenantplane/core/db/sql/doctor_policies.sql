-- The permissive policies of tenant tables, and whether each binds rows to the proven tenant.
SELECT format('%I.%I', n.nspname, c.relname) AS subject,
       p.polname::text AS policy,
       p.polcmd AS command,
       0 = ANY (p.polroles) AS for_everybody,
       tp.role_name('app')::regrole::oid = ANY (p.polroles) AS for_app,
       tp.role_name('query')::regrole::oid = ANY (p.polroles) AS for_query,
       ARRAY(SELECT r.rolname::text FROM pg_roles r
              WHERE r.oid = ANY (p.polroles) AND r.rolname NOT IN (
                    tp.role_name('app'), tp.role_name('query'), tp.role_name('system'),
                    tp.role_name('owner'))
              ORDER BY 1) AS for_others,
       coalesce(pg_get_expr(p.polqual, p.polrelid), '') AS reads,
       coalesce(pg_get_expr(p.polwithcheck, p.polrelid), '') AS writes
  FROM pg_policy p
  JOIN pg_class c ON c.oid = p.polrelid
  JOIN pg_namespace n ON n.oid = c.relnamespace
 WHERE p.polpermissive
   AND EXISTS (SELECT FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attname = 'org_id'
                  AND NOT a.attisdropped)
 ORDER BY 1, 2
