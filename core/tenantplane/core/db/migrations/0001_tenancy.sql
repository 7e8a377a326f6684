-- The tenancy schema: who the current tenant is, proven, and how a table becomes a tenant's.

-- Two pads instead of the key: HMAC-SHA-256 (RFC 2104) from the built-in sha256 alone, since
-- pgcrypto is not everywhere. Several keys are valid at once while one replaces another.
CREATE TABLE tp.context_key (
  key_id       text PRIMARY KEY CHECK (key_id ~ '^[a-z0-9_-]{1,32}$'),
  inner_pad    bytea NOT NULL CHECK (octet_length(inner_pad) = 64),
  outer_pad    bytea NOT NULL CHECK (octet_length(outer_pad) = 64),
  installed_at timestamptz NOT NULL DEFAULT now(),
  valid_until  timestamptz
);
-- Whoever reads a key can be any tenant: the owner alone, and no dump either.
REVOKE ALL ON tp.context_key FROM PUBLIC;

-- What a reviewer let through: tables without org_id that app may touch, and definer functions.
CREATE TABLE tp.reviewed (
  kind    text NOT NULL CHECK (kind IN ('shared_table', 'definer')),
  subject text NOT NULL,
  why     text NOT NULL CHECK (length(why) >= 10),
  PRIMARY KEY (kind, subject)
);

-- The five roles of this database share a prefix; the schema's owner says which.
CREATE FUNCTION tp.role_name(kind text) RETURNS name
  LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  found name;
BEGIN
  SELECT r.rolname INTO found
    FROM pg_namespace n
    JOIN pg_roles o ON o.oid = n.nspowner
    JOIN pg_roles r ON r.rolname = regexp_replace(o.rolname, 'owner$', kind)
   WHERE n.nspname = 'tp' AND o.rolname LIKE '%\_owner'
     AND kind IN ('owner', 'app', 'system', 'query', 'backup');
  IF found IS NULL THEN
    RAISE undefined_object USING
      MESSAGE = format('there is no role of kind %L for this database', kind),
      HINT = 'Run the bootstrap; kinds are owner, app, system, query and backup.';
  END IF;
  RETURN found;
END
$$;

-- Whether `proof` was made for `org` by a holder of a valid key and has not expired when this
-- transaction began. Called by functions of the owner alone: app has no EXECUTE on it.
-- It runs once for each appended row: split_part, since one regular expression here took 150 µs.
CREATE FUNCTION tp.verify_proof(org text, proof text) RETURNS boolean
  LANGUAGE plpgsql STABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  expiry text := split_part(proof, '.', 2);
  code   text := split_part(proof, '.', 3);
  key    tp.context_key;
BEGIN
  IF org IS NULL OR proof IS NULL
     OR length(expiry) NOT BETWEEN 1 AND 12 OR translate(expiry, '0123456789', '') <> ''
     OR split_part(proof, '.', 4) <> '' THEN
    RETURN false;
  END IF;
  IF to_timestamp(expiry::bigint) <= now() THEN
    RETURN false;
  END IF;
  SELECT * INTO key
    FROM tp.context_key k
   WHERE k.key_id = split_part(proof, '.', 1)
     AND (k.valid_until IS NULL OR k.valid_until > now());
  IF NOT FOUND THEN
    RETURN false;
  END IF;
  -- Hashes of the codes are compared: how early memcmp stops then tells nothing.
  RETURN sha256(convert_to(code, 'UTF8')) = sha256(convert_to(encode(sha256(key.outer_pad || sha256(
           key.inner_pad || convert_to(org || '|' || expiry, 'UTF8'))), 'hex'), 'UTF8'));
END
$$;

-- The tenant of this transaction: NULL where none is set (so: no rows), an error where the proof
-- is missing, forged or expired. A custom setting reads '' after the transaction that set it.
CREATE FUNCTION tp.current_org() RETURNS text
  LANGUAGE plpgsql STABLE PARALLEL SAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  org text := nullif(current_setting('app.current_tenant', true), '');
BEGIN
  IF org IS NULL THEN
    RETURN NULL;
  END IF;
  IF NOT tp.verify_proof(org, current_setting('app.tenant_proof', true)) THEN
    RAISE insufficient_privilege USING
      MESSAGE = 'tenant context refused: its proof is missing, forged or expired',
      HINT = 'Enter the tenant through the pool''s tenant_tx.';
  END IF;
  RETURN org;
END
$$;

-- A list of verbs such as 'SELECT, INSERT' as an array; anything else is refused.
CREATE FUNCTION tp.parse_verbs(verbs text) RETURNS text[]
  LANGUAGE plpgsql IMMUTABLE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  parsed text[] := regexp_split_to_array(upper(btrim(verbs)), '\s*,\s*');
BEGIN
  IF btrim(verbs) = '' THEN
    RETURN '{}';
  END IF;
  IF NOT parsed <@ '{SELECT,INSERT,UPDATE,DELETE}'::text[] THEN
    RAISE invalid_parameter_value USING
      MESSAGE = format('%L is not a list of SELECT, INSERT, UPDATE, DELETE', verbs);
  END IF;
  RETURN parsed;
END
$$;

-- Makes a table a tenant table: RLS enabled and forced, app sees its tenant alone, the owner keeps
-- a policy of its own (FORCE silences it too: a backfill without one changes 0 rows and says
-- nothing). `verbs` are granted to app: '' for a partition or a table that only functions write.
CREATE FUNCTION tp.protect(tenant_table regclass, verbs text DEFAULT 'SELECT, INSERT, UPDATE, DELETE')
  RETURNS void LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  parsed text[] := tp.parse_verbs(verbs);
BEGIN
  IF NOT EXISTS (SELECT FROM pg_attribute a
                  WHERE a.attrelid = tenant_table AND a.attname = 'org_id' AND a.attnotnull
                    AND a.atttypid = 'text'::regtype AND NOT a.atthasdef) THEN
    RAISE invalid_table_definition USING
      MESSAGE = format('%s needs a column org_id text NOT NULL without a default', tenant_table);
  END IF;
  EXECUTE format('ALTER TABLE %s ENABLE ROW LEVEL SECURITY', tenant_table);
  EXECUTE format('ALTER TABLE %s FORCE ROW LEVEL SECURITY', tenant_table);
  EXECUTE format('CREATE POLICY tenant ON %s FOR ALL TO %I '
                 'USING (org_id = (SELECT tp.current_org())) '
                 'WITH CHECK (org_id = (SELECT tp.current_org()))',
                 tenant_table, tp.role_name('app'));
  EXECUTE format('CREATE POLICY migrations ON %s FOR ALL TO %I USING (true) WITH CHECK (true)',
                 tenant_table, tp.role_name('owner'));
  IF cardinality(parsed) > 0 THEN
    EXECUTE format('GRANT %s ON %s TO %I',
                   array_to_string(parsed, ', '), tenant_table, tp.role_name('app'));
  END IF;
END
$$;

-- Lets named cross-tenant jobs (the system role) do `verbs` on all orgs' rows of a tenant table.
CREATE FUNCTION tp.allow_system(tenant_table regclass, verbs text)
  RETURNS void LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  verb text;
  rule text;
BEGIN
  FOREACH verb IN ARRAY tp.parse_verbs(verbs) LOOP
    rule := CASE verb WHEN 'INSERT' THEN 'WITH CHECK (true)'
                      WHEN 'UPDATE' THEN 'USING (true) WITH CHECK (true)'
                      ELSE 'USING (true)' END;
    EXECUTE format('CREATE POLICY %I ON %s FOR %s TO %I %s',
                   'system_' || lower(verb), tenant_table, verb, tp.role_name('system'), rule);
    EXECUTE format('GRANT %s ON %s TO %I', verb, tenant_table, tp.role_name('system'));
  END LOOP;
END
$$;

-- Lets SQL that a model wrote (the query role) read the current tenant's rows of a table.
CREATE FUNCTION tp.allow_query(tenant_table regclass)
  RETURNS void LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  EXECUTE format('CREATE POLICY tenant_query ON %s FOR SELECT TO %I '
                 'USING (org_id = (SELECT tp.current_org()))',
                 tenant_table, tp.role_name('query'));
  EXECUTE format('GRANT SELECT ON %s TO %I', tenant_table, tp.role_name('query'));
END
$$;

-- Opens a table that belongs to no org (no column org_id) to app or system, with the reason.
CREATE FUNCTION tp.share(shared_table regclass, kind text, verbs text, why text)
  RETURNS void LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  IF EXISTS (SELECT FROM pg_attribute a
              WHERE a.attrelid = shared_table AND a.attname = 'org_id' AND NOT a.attisdropped) THEN
    RAISE invalid_table_definition USING
      MESSAGE = format('%s has org_id: use tp.protect and tp.allow_system', shared_table);
  END IF;
  INSERT INTO tp.reviewed (kind, subject, why) VALUES ('shared_table', shared_table::text, why)
    ON CONFLICT DO NOTHING;
  EXECUTE format('GRANT %s ON %s TO %I', array_to_string(tp.parse_verbs(verbs), ', '),
                 shared_table, tp.role_name(kind));
END
$$;

-- Opens a function to app, system or query. A definer function must fix its search_path and say
-- why it exists: it runs as the owner, whom no tenant policy binds.
CREATE FUNCTION tp.allow_execute(called regprocedure, kind text, why text)
  RETURNS void LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  definer boolean;
  pinned  boolean;
BEGIN
  SELECT p.prosecdef, EXISTS (SELECT FROM unnest(p.proconfig) c WHERE c LIKE 'search_path=%')
    INTO definer, pinned FROM pg_proc p WHERE p.oid = called;
  IF definer AND NOT pinned THEN
    RAISE invalid_function_definition USING
      MESSAGE = format('%s is SECURITY DEFINER and does not fix its search_path', called);
  END IF;
  IF definer THEN
    INSERT INTO tp.reviewed (kind, subject, why) VALUES ('definer', called::text, why)
      ON CONFLICT DO NOTHING;
  END IF;
  EXECUTE format('REVOKE ALL ON FUNCTION %s FROM PUBLIC', called);
  EXECUTE format('GRANT EXECUTE ON FUNCTION %s TO %I', called, tp.role_name(kind));
END
$$;

-- Functions are nobody's by default (bootstrap), but a server may have been set up otherwise.
REVOKE ALL ON ALL FUNCTIONS IN SCHEMA tp FROM PUBLIC;

DO $$
BEGIN
  EXECUTE format('REVOKE ALL ON tp.context_key FROM %I, %I, %I, %I', tp.role_name('app'),
                 tp.role_name('system'), tp.role_name('query'), tp.role_name('backup'));
  PERFORM tp.allow_execute('tp.current_org()'::regprocedure, kind,
                           'says who the proven tenant is; reads the context key')
     FROM unnest('{app,system,query}'::text[]) kind;
  EXECUTE format('GRANT EXECUTE ON FUNCTION tp.role_name(text) TO %I', tp.role_name('system'));
  EXECUTE format('GRANT SELECT ON tp.reviewed TO %I', tp.role_name('system'));
END
$$;
