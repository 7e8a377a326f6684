SELECT rolsuper OR rolcreatedb OR rolcreaterole OR rolreplication AS powers,
       rolcanlogin AS login,
       rolinherit AS inherit,
       rolbypassrls AS bypass
  FROM pg_roles
 WHERE rolname = %s
