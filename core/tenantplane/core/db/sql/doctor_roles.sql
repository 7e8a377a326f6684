-- Who the asking connection is, and what it must not be.
SELECT current_user::text AS role,
       r.rolsuper, r.rolbypassrls, r.rolcreaterole, r.rolcreatedb, r.rolreplication,
       pg_has_role(current_user, n.nspowner, 'MEMBER') AS is_owner,
       EXISTS (SELECT FROM pg_class c WHERE c.relowner = r.oid)
         OR EXISTS (SELECT FROM pg_proc p WHERE p.proowner = r.oid)
         OR EXISTS (SELECT FROM pg_namespace s WHERE s.nspowner = r.oid) AS owns_objects,
       ARRAY(SELECT b.rolname::text FROM pg_auth_members m JOIN pg_roles b ON b.oid = m.roleid
              WHERE m.member = r.oid ORDER BY 1) AS memberships,
       o.rolname::text AS owner_role,
       to_regclass('tp.reviewed') IS NOT NULL AS migrated,
       current_setting('fsync') AS fsync,
       current_setting('synchronous_commit') AS synchronous_commit
  FROM pg_roles r
  LEFT JOIN pg_namespace n ON n.nspname = 'tp'
  LEFT JOIN pg_roles o ON o.oid = n.nspowner
 WHERE r.rolname = current_user
