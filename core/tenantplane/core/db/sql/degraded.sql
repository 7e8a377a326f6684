-- What anybody who connects may still do, although the bootstrap revoked it.
SELECT p.oid::regprocedure::text AS subject
  FROM pg_proc p
 WHERE p.pronamespace = 'pg_catalog'::regnamespace
   AND p.proname ~ ('^(pg_(try_)?advisory_.*|lo_.*|loread|lowrite|set_config'
                 || '|pg_cancel_backend|pg_terminate_backend'
                 || '|pg_stat_get_activity|pg_stat_get_backend_activity|pg_get_indexdef)$')
   AND has_function_privilege('public', p.oid, 'EXECUTE')
UNION ALL
SELECT 'table pg_catalog.pg_index'
 WHERE has_table_privilege('public', 'pg_catalog.pg_index', 'SELECT')
UNION ALL
SELECT 'temporary tables'
 WHERE has_database_privilege('public', current_database(), 'TEMP')
UNION ALL
SELECT 'connections by any role'
 WHERE has_database_privilege('public', current_database(), 'CONNECT')
 ORDER BY 1
