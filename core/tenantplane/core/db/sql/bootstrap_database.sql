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

  -- The predicate of a partial index names the tenant it was made for.
  BEGIN
    REVOKE SELECT ON pg_catalog.pg_index FROM PUBLIC;
    EXECUTE format('GRANT SELECT ON pg_catalog.pg_index TO %I, %I, %I', owner, system, backup);
  EXCEPTION WHEN insufficient_privilege THEN
    NULL;  -- read back by sql/degraded.sql
  END;
END
$bootstrap$;
