-- Every table outside the system's schemas, with what makes it a tenant's table, or not.
SELECT format('%I.%I', n.nspname, c.relname) AS subject,
       a.attnum IS NOT NULL AS is_tenant_table,
       coalesce(a.attnotnull, false) AS org_id_required,
       coalesce(a.atthasdef, false) AS org_id_has_default,
       -- A collation that takes two spellings for one would take two orgs for one.
       coalesce(a.atttypid = 'text'::regtype AND coalesce(collation_of.collisdeterministic, true),
                false) AS org_id_is_plain,
       c.relrowsecurity AS rls_enabled,
       c.relforcerowsecurity AS rls_forced,
       c.relowner <> s.nspowner AS owned_by_other,
       -- Column grants count too, and what comes by way of PUBLIC.
       EXISTS (SELECT FROM unnest(ARRAY[app.name, query.name]) r
                WHERE has_any_column_privilege(r, c.oid, 'SELECT, INSERT, UPDATE')
                   OR has_table_privilege(r, c.oid, 'DELETE')) AS open_to_app,
       EXISTS (SELECT FROM aclexplode(coalesce(c.relacl, acldefault('r', c.relowner))) x
                WHERE x.grantee = 0) AS open_to_public,
       has_table_privilege(app.name, c.oid, 'TRUNCATE')
         OR has_table_privilege(app.name, c.oid, 'REFERENCES')
         OR has_table_privilege(app.name, c.oid, 'TRIGGER') AS app_has_more_than_rows,
       ARRAY(SELECT DISTINCT g.rolname::text
               FROM aclexplode(coalesce(c.relacl, acldefault('r', c.relowner))) x
               JOIN pg_roles g ON g.oid = x.grantee
              WHERE g.oid NOT IN (s.nspowner, app.name::regrole, query.name::regrole,
                                  tp.role_name('system')::regrole, tp.role_name('backup')::regrole,
                                  c.relowner)
              ORDER BY 1) AS granted_to_others,
       has_any_column_privilege(query.name, c.oid, 'SELECT') AS open_to_query,
       has_any_column_privilege(query.name, c.oid, 'INSERT, UPDATE, REFERENCES')
         OR has_table_privilege(query.name, c.oid, 'DELETE, TRUNCATE, TRIGGER') AS query_writes,
       EXISTS (SELECT FROM tp.reviewed v WHERE v.kind = 'shared_table'
                  AND v.subject = format('%I.%I', n.nspname, c.relname)) AS reviewed
  FROM pg_class c
  JOIN pg_namespace n ON n.oid = c.relnamespace
  JOIN pg_namespace s ON s.nspname = 'tp'
 CROSS JOIN LATERAL (SELECT tp.role_name('app')::text AS name) app
 CROSS JOIN LATERAL (SELECT tp.role_name('query')::text AS name) query
  LEFT JOIN pg_attribute a
         ON a.attrelid = c.oid AND a.attname = 'org_id' AND NOT a.attisdropped
  LEFT JOIN pg_collation collation_of ON collation_of.oid = a.attcollation
 WHERE c.relkind IN ('r', 'p', 'f')
   AND n.nspname NOT IN ('pg_catalog', 'information_schema') AND n.nspname !~ '^pg_'
   AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_class'::regclass
                      AND d.objid = c.oid AND d.deptype = 'e')
 ORDER BY 1
