-- The role that a model's SQL runs as: it is entered by SET ROLE alone, and inherits nothing.
SELECT r.rolname::text AS role,
       r.rolcanlogin AS can_login,
       r.rolsuper OR r.rolbypassrls OR r.rolcreaterole OR r.rolcreatedb OR r.rolreplication AS powers,
       ARRAY(SELECT b.rolname::text FROM pg_auth_members m JOIN pg_roles b ON b.oid = m.roleid
              WHERE m.member = r.oid ORDER BY 1) AS memberships
  FROM pg_roles r
 WHERE r.rolname = tp.role_name('query')
