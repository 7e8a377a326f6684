-- What can carry a reader past row-level security: views with their owner's rights, materialised
-- views (which have no policies), and functions that run as their owner.
SELECT format('%I.%I', n.nspname, c.relname) AS subject,
       CASE c.relkind WHEN 'm' THEN 'materialised_view' ELSE 'view' END AS kind
  FROM pg_class c
  JOIN pg_namespace n ON n.oid = c.relnamespace
 WHERE n.nspname !~ '^(pg_|information_schema$)'
   AND (c.relkind = 'm' OR (c.relkind = 'v' AND NOT EXISTS (
         SELECT FROM pg_options_to_table(c.reloptions) o
          WHERE o.option_name = 'security_invoker' AND o.option_value::boolean)))
   AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_class'::regclass
                      AND d.objid = c.oid AND d.deptype = 'e')
UNION ALL
SELECT format('%I.%I(%s)', n.nspname, p.proname, pg_get_function_identity_arguments(p.oid)),
       CASE WHEN NOT EXISTS (SELECT FROM unnest(p.proconfig) c WHERE c LIKE 'search_path=%')
            THEN 'definer_with_open_search_path' ELSE 'definer' END
  FROM pg_proc p
  JOIN pg_namespace n ON n.oid = p.pronamespace
 WHERE p.prosecdef
   AND n.nspname !~ '^(pg_|information_schema$)'
   AND (NOT EXISTS (SELECT FROM unnest(p.proconfig) c WHERE c LIKE 'search_path=%')
        OR NOT EXISTS (SELECT FROM tp.reviewed v WHERE v.kind = 'definer'
                          AND to_regprocedure(v.subject) = p.oid))
   AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_proc'::regclass
                      AND d.objid = p.oid AND d.deptype = 'e')
 ORDER BY 1
