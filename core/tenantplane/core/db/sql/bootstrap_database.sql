-- Run by the bootstrap as the server's administrator, inside the logical database, in one
-- transaction, again and again. The roles' prefix arrives as the transaction-local setting
-- tp.role_prefix. Every revoke that a managed server may refuse stands in a block of its own:
-- what stayed open is read back from the catalogue (sql/degraded.sql), not guessed here.
DO $bootstrap$
DECLARE
  prefix  text := current_setting('tp.role_prefix');
  owner   name := prefix || '_owner';
  app     name := prefix || '_app';
  system  name := prefix || '_system';
  query   name := prefix || '_query';
  backup  name := prefix || '_backup';
  dangerous record;
  partly    record;
  closed    text;
BEGIN
  EXECUTE format('REVOKE ALL ON DATABASE %I FROM PUBLIC', current_database());
  EXECUTE format('GRANT CONNECT ON DATABASE %I TO %I, %I, %I, %I',
                 current_database(), owner, app, system, backup);

  REVOKE ALL ON SCHEMA public FROM PUBLIC;
  EXECUTE format('GRANT USAGE, CREATE ON SCHEMA public TO %I', owner);
  EXECUTE format('GRANT USAGE ON SCHEMA public TO %I, %I, %I, %I', app, system, query, backup);

  EXECUTE format('CREATE SCHEMA IF NOT EXISTS tp AUTHORIZATION %I', owner);
  EXECUTE format('GRANT USAGE ON SCHEMA tp TO %I, %I, %I, %I', app, system, query, backup);

  -- Made here, under the bootstrap's lock, so that two first migrations cannot race for it. What was
  -- applied, and as which text; and a table that is only ever locked.
  CREATE TABLE IF NOT EXISTS tp.migration (
    name       text PRIMARY KEY,
    sha256     text NOT NULL,
    applied_at timestamptz NOT NULL DEFAULT now()
  );
  CREATE TABLE IF NOT EXISTS tp.migration_lock ();
  EXECUTE format('ALTER TABLE tp.migration OWNER TO %I', owner);
  EXECUTE format('ALTER TABLE tp.migration_lock OWNER TO %I', owner);
  EXECUTE format('GRANT SELECT ON tp.migration TO %I, %I', system, backup);

  -- A new function is nobody's but the owner's until a migration says otherwise.
  EXECUTE format('ALTER DEFAULT PRIVILEGES FOR ROLE %I REVOKE EXECUTE ON FUNCTIONS FROM PUBLIC',
                 owner);
  EXECUTE format('ALTER DEFAULT PRIVILEGES FOR ROLE %I GRANT SELECT ON TABLES TO %I', owner, backup);
  EXECUTE format('ALTER DEFAULT PRIVILEGES FOR ROLE %I GRANT SELECT ON SEQUENCES TO %I',
                 owner, backup);
  EXECUTE format('ALTER DEFAULT PRIVILEGES FOR ROLE %I GRANT USAGE ON SCHEMAS TO %I',
                 owner, backup);

  -- Where the administrator is no superuser, it has no rights on the catalogue's functions.
  FOR dangerous IN
    SELECT p.oid::regprocedure AS signature, p.proname
      FROM pg_proc p
     WHERE p.pronamespace = 'pg_catalog'::regnamespace
       AND p.proname ~ ('^(pg_(try_)?advisory_.*|lo_.*|loread|lowrite|set_config'
                     || '|pg_cancel_backend|pg_terminate_backend'
                     || '|pg_stat_get_activity|pg_stat_get_backend_activity'
                     || '|pg_get_indexdef)$')
  LOOP
    BEGIN
      EXECUTE format('REVOKE EXECUTE ON FUNCTION %s FROM PUBLIC', dangerous.signature);
      IF dangerous.proname = 'set_config' THEN
        EXECUTE format('GRANT EXECUTE ON FUNCTION %s TO %I, %I, %I, %I',
                       dangerous.signature, owner, app, system, backup);
      ELSIF dangerous.proname = 'pg_get_indexdef' THEN
        EXECUTE format('GRANT EXECUTE ON FUNCTION %s TO %I, %I, %I',
                       dangerous.signature, owner, system, backup);
      ELSIF dangerous.proname LIKE 'pg\_stat\_get%' THEN
        EXECUTE format('GRANT EXECUTE ON FUNCTION %s TO pg_monitor', dangerous.signature);
      END IF;
    EXCEPTION WHEN insufficient_privilege THEN
      NULL;  -- read back by sql/degraded.sql
    END;
  END LOOP;

  -- SQL that a model wrote needs arithmetic, text and dates: nothing that looks at the server, at
  -- sessions, at sizes, statistics or definitions, that runs a text as SQL, waits or notifies. The
  -- role query has no grants of its own, so what PUBLIC loses here and the others get, it loses.
  BEGIN
    SELECT string_agg(p.oid::regprocedure::text, ', ') INTO closed
      FROM pg_proc p
     WHERE p.pronamespace = 'pg_catalog'::regnamespace AND p.prokind <> 'p'
       AND p.proname ~ ('^(pg_.*|binary_upgrade_.*|has_.*_privilege|row_security_active'
                     || '|current_(setting|query|schemas?|database|user)|session_user|user'
                     || '|(query|cursor|table|schema|database)_to_xml.*|ts_stat|txid_.*|currtid.*'
                     || '|inet_(client|server)_.*|to_reg.*|(obj|col|shobj)_description'
                     || '|nextval|currval|lastval|setval|setseed|version|format_type)$')
       AND has_function_privilege('public', p.oid, 'EXECUTE');
    IF closed IS NOT NULL THEN
      EXECUTE format('REVOKE EXECUTE ON FUNCTION %s FROM PUBLIC', closed);
      EXECUTE format('GRANT EXECUTE ON FUNCTION %s TO %I, %I, %I, %I, pg_monitor',
                     closed, owner, app, system, backup);
    END IF;
  EXCEPTION WHEN insufficient_privilege THEN
    NULL;  -- read back by sql/degraded.sql
  END;
  -- Names of other tenants' schemas and columns, row counts and sizes stand in the catalogue.
  BEGIN
    SELECT string_agg(c.oid::regclass::text, ', ') INTO closed
      FROM pg_class c
     WHERE c.relnamespace IN ('pg_catalog'::regnamespace, 'information_schema'::regnamespace)
       AND c.relkind IN ('r', 'v') AND c.relname <> 'pg_index'
       AND EXISTS (SELECT FROM aclexplode(c.relacl) x
                    WHERE x.grantee = 0 AND x.privilege_type = 'SELECT');
    IF closed IS NOT NULL THEN
      EXECUTE format('REVOKE ALL ON TABLE %s FROM PUBLIC', closed);
      EXECUTE format('GRANT SELECT ON TABLE %s TO %I, %I, %I, %I, pg_monitor',
                     closed, owner, app, system, backup);
    END IF;
    -- Of some tables single columns were given (pg_subscription); what goes with the table goes too.
    FOR partly IN
      SELECT c.oid::regclass AS name, string_agg(quote_ident(a.attname), ', ') AS columns
        FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid
       WHERE c.relnamespace IN ('pg_catalog'::regnamespace, 'information_schema'::regnamespace)
         AND EXISTS (SELECT FROM aclexplode(a.attacl) x
                      WHERE x.grantee = 0 AND x.privilege_type = 'SELECT')
       GROUP BY c.oid
    LOOP
      EXECUTE format('REVOKE ALL ON TABLE %s FROM PUBLIC', partly.name);
      EXECUTE format('GRANT SELECT (%s) ON TABLE %s TO %I, %I, %I, pg_monitor',
                     partly.columns, partly.name, owner, system, backup);
    END LOOP;
    REVOKE USAGE ON SCHEMA information_schema FROM PUBLIC;
    EXECUTE format('GRANT USAGE ON SCHEMA information_schema TO %I, %I, %I, %I, pg_monitor',
                   owner, app, system, backup);
  EXCEPTION WHEN insufficient_privilege THEN
    NULL;  -- read back by sql/degraded.sql
  END;
  -- No DO block and no function of one's own: migrations write those.
  BEGIN
    REVOKE USAGE ON LANGUAGE sql, plpgsql FROM PUBLIC;
    EXECUTE format('GRANT USAGE ON LANGUAGE sql, plpgsql TO %I', owner);
  EXCEPTION WHEN insufficient_privilege THEN
    NULL;  -- read back by sql/degraded.sql
  END;
  -- A session of app, and so SQL of a model, does not fill the disk that all tenants share. A
  -- parameter that app itself could not set, nor raise.
  BEGIN
    EXECUTE format('ALTER ROLE %I SET temp_file_limit = %L', app, '1GB');
  EXCEPTION WHEN insufficient_privilege THEN
    NULL;  -- read back by sql/degraded.sql
  END;

  -- The predicate of a partial index names the tenant it was made for.
  BEGIN
    REVOKE SELECT ON pg_catalog.pg_index FROM PUBLIC;
    EXECUTE format('GRANT SELECT ON pg_catalog.pg_index TO %I, %I, %I', owner, system, backup);
  EXCEPTION WHEN insufficient_privilege THEN
    NULL;  -- read back by sql/degraded.sql
  END;
END
$bootstrap$;
