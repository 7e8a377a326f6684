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
SELECT 'functions of the catalogue that SQL of a model does not need (pg_sleep, pg_relation_size, …)'
 WHERE has_function_privilege('public', 'pg_catalog.pg_sleep(double precision)', 'EXECUTE')
UNION ALL
SELECT 'tables of the catalogue (names and sizes of other tenants'' data sources)'
 WHERE has_table_privilege('public', 'pg_catalog.pg_class', 'SELECT')
UNION ALL
SELECT 'columns of the catalogue''s table pg_subscription'
 WHERE has_any_column_privilege('public', 'pg_catalog.pg_subscription', 'SELECT')
UNION ALL
SELECT 'functions of one''s own and DO blocks'
 WHERE has_language_privilege('public', 'plpgsql', 'USAGE')
UNION ALL
SELECT 'disk for temporary files: no limit for the role app'
 WHERE NOT EXISTS (SELECT FROM pg_db_role_setting s
                     JOIN pg_roles app ON app.oid = s.setrole
                     JOIN pg_namespace n ON n.nspname = 'tp'
                     JOIN pg_roles owner ON owner.oid = n.nspowner
                    CROSS JOIN LATERAL unnest(s.setconfig) AS setting
                    WHERE app.rolname = regexp_replace(owner.rolname, 'owner$', 'app')
                      AND starts_with(setting, 'temp_file_limit='))
UNION ALL
SELECT 'temporary tables'
 WHERE has_database_privilege('public', current_database(), 'TEMP')
UNION ALL
SELECT 'connections by any role'
 WHERE has_database_privilege('public', current_database(), 'CONNECT')
 ORDER BY 1
