-- Some tables hold columns that SQL of a model must not read, such as ciphertexts: named columns.

-- Lets SQL that a model wrote (the query role) read some columns of the current tenant's rows. The
-- policy's name and rule are those of tp.allow_query.
CREATE FUNCTION tp.allow_query_columns(tenant_table regclass, columns name[])
  RETURNS void LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  EXECUTE format('CREATE POLICY tenant_query ON %s FOR SELECT TO %I '
                 'USING (org_id = (SELECT tp.current_org()))',
                 tenant_table, tp.role_name('query'));
  EXECUTE format('GRANT SELECT (%s) ON %s TO %I',
                 (SELECT string_agg(quote_ident(c), ', ') FROM unnest(columns) c),
                 tenant_table, tp.role_name('query'));
END
$$;
REVOKE ALL ON FUNCTION tp.allow_query_columns(regclass, name[]) FROM PUBLIC;
