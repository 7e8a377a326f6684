-- What can carry a reader past row-level security: views with their owner's rights, materialised
-- views (which have no policies), rules (which act as the table's owner), functions that run as their
-- owner or are trusted with rows before the policies have judged them, and what keeps a constraint
-- from being checked.
WITH relation AS (
  SELECT c.oid, c.relkind, c.relowner, c.reloptions, format('%I.%I', n.nspname, c.relname) AS subject
    FROM pg_class c
    JOIN pg_namespace n ON n.oid = c.relnamespace
   WHERE n.nspname !~ '^(pg_|information_schema$)'
     AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_class'::regclass
                        AND d.objid = c.oid AND d.deptype = 'e')
), routine AS (
  SELECT p.oid, p.prosecdef, p.proleakproof, p.proowner,
         format('%I.%I(%s)', n.nspname, p.proname, pg_get_function_identity_arguments(p.oid))
           AS subject,
         (SELECT regexp_split_to_array(replace(substr(c, length('search_path=') + 1), '"', ''),
                                       '\s*,\s*')
            FROM unnest(p.proconfig) c WHERE c LIKE 'search_path=%') AS path
    FROM pg_proc p
    JOIN pg_namespace n ON n.oid = p.pronamespace
   WHERE n.nspname !~ '^(pg_|information_schema$)'
     AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_proc'::regclass
                        AND d.objid = p.oid AND d.deptype = 'e')
), owner AS (
  SELECT nspowner AS oid FROM pg_namespace WHERE nspname = 'tp'
)
SELECT r.subject, CASE r.relkind WHEN 'm' THEN 'materialised_view' ELSE 'view' END AS kind
  FROM relation r
 WHERE r.relkind = 'm' OR (r.relkind = 'v' AND NOT EXISTS (
         SELECT FROM pg_options_to_table(r.reloptions) o
          WHERE o.option_name = 'security_invoker' AND o.option_value::boolean))
UNION ALL
SELECT r.subject, 'view_of_other' FROM relation r, owner o WHERE r.relkind = 'v' AND r.relowner <> o.oid
UNION ALL
SELECT r.subject, 'rule'
  FROM relation r
 WHERE r.relkind <> 'm'
   AND EXISTS (SELECT FROM pg_rewrite w WHERE w.ev_class = r.oid AND w.rulename <> '_RETURN')
UNION ALL
SELECT r.subject, 'disabled_trigger'
  FROM relation r
 WHERE EXISTS (SELECT FROM pg_trigger t WHERE t.tgrelid = r.oid AND t.tgenabled = 'D')
UNION ALL
SELECT f.subject, 'definer_with_open_search_path' FROM routine f WHERE f.prosecdef AND f.path IS NULL
UNION ALL
-- Named last, or it is searched first: whoever makes a temporary table then names what it reads.
SELECT f.subject, 'definer_with_writable_search_path'
  FROM routine f
 WHERE f.prosecdef AND f.path IS NOT NULL
   AND (f.path[cardinality(f.path)] <> 'pg_temp'
        OR EXISTS (SELECT FROM unnest(f.path) named
                    WHERE named = '$user' OR EXISTS (
                          SELECT FROM pg_namespace s
                           WHERE s.nspname = named AND s.nspname !~ '^pg_'
                             AND (has_schema_privilege('public', s.oid, 'CREATE')
                                  OR has_schema_privilege(tp.role_name('app'), s.oid, 'CREATE')
                                  OR has_schema_privilege(tp.role_name('query'), s.oid, 'CREATE')))))
UNION ALL
SELECT f.subject, 'definer'
  FROM routine f
 WHERE f.prosecdef
   AND NOT EXISTS (SELECT FROM tp.reviewed v
                    WHERE v.kind = 'definer' AND to_regprocedure(v.subject) = f.oid)
UNION ALL
SELECT f.subject, 'definer_of_other' FROM routine f, owner o WHERE f.prosecdef AND f.proowner <> o.oid
UNION ALL
SELECT f.subject, 'definer_for_query'
  FROM routine f
 WHERE f.prosecdef AND has_function_privilege(tp.role_name('query'), f.oid, 'EXECUTE')
   AND f.oid <> 'tp.current_org()'::regprocedure
UNION ALL
SELECT f.subject, 'leakproof' FROM routine f WHERE f.proleakproof
UNION ALL
SELECT format('schema %I', s.nspname), 'schema'
  FROM pg_namespace s
 WHERE s.nspname !~ '^(pg_|information_schema$)'
   AND (has_schema_privilege('public', s.oid, 'CREATE')
        OR has_schema_privilege(tp.role_name('app'), s.oid, 'CREATE')
        OR has_schema_privilege(tp.role_name('query'), s.oid, 'CREATE')
        OR has_schema_privilege(tp.role_name('system'), s.oid, 'CREATE'))
UNION ALL
SELECT format('publication %I', p.pubname), 'publication' FROM pg_publication p
UNION ALL
SELECT format('event trigger %I', e.evtname), 'event_trigger' FROM pg_event_trigger e
 WHERE NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_event_trigger'::regclass
                      AND d.objid = e.oid AND d.deptype = 'e')
 ORDER BY 1, 2
