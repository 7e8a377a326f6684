-- Read-only data sources that SQL of a model may ask: their register, and how the owner makes them.

-- One source of an org. Its tables stand in a schema of its own under names that tell nothing:
-- t1, t2, … with columns c1, c2, … in the order of `definition`, which only its org can read.
CREATE TABLE dataplane.sql_source (
  org_id      text NOT NULL,
  name        text NOT NULL CHECK (name ~ '^[a-z][a-z0-9_-]{0,40}$'),
  schema_name name NOT NULL CHECK (schema_name ~ '^src_[0-9a-f]{32}$'),
  definition  jsonb NOT NULL,  -- {description, tables: [{name, description, columns: [{name, type, description}]}]}
  made_at     timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (org_id, name)
);
SELECT tp.protect('dataplane.sql_source', 'SELECT');

-- The built-in source `usage` reads these columns of the ledger, and never a ciphertext.
SELECT tp.allow_query_columns('dataplane.intent',
  '{org_id,intent_id,run_id,kind,resource,made_at,stage,cost_nanousd}');
SELECT tp.allow_query_columns('dataplane.outcome',
  '{org_id,intent_id,stage,input_tokens,output_tokens}');

-- The Postgres type of a column of a source: a closed list.
CREATE FUNCTION dataplane.sql_source_type(type text) RETURNS regtype
  LANGUAGE plpgsql IMMUTABLE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  RETURN CASE type WHEN 'text' THEN 'text' WHEN 'integer' THEN 'int8' WHEN 'number' THEN 'numeric'
                   WHEN 'boolean' THEN 'bool' WHEN 'date' THEN 'date'
                   WHEN 'timestamp' THEN 'timestamptz' END::regtype;
END
$$;

-- Makes a source of an org, empty: schema, tables under row-level security, register. The owner's.
CREATE FUNCTION dataplane.create_sql_source(new_org_id text, new_name text, new_definition jsonb)
  RETURNS void LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  made     name := 'src_' || replace(gen_random_uuid()::text, '-', '');
  wanted   record;
  relation text;
BEGIN
  INSERT INTO dataplane.sql_source (org_id, name, schema_name, definition)
  VALUES (new_org_id, new_name, made, new_definition);
  EXECUTE format('CREATE SCHEMA %I', made);
  EXECUTE format('GRANT USAGE ON SCHEMA %I TO %I', made, tp.role_name('query'));
  FOR wanted IN
    SELECT t.ordinality AS no,
           (SELECT string_agg(format('%I %s', 'c' || c.ordinality,
                                     dataplane.sql_source_type(c.value ->> 'type')), ', '
                              ORDER BY c.ordinality)
              FROM jsonb_array_elements(t.value -> 'columns') WITH ORDINALITY c) AS columns
      FROM jsonb_array_elements(new_definition -> 'tables') WITH ORDINALITY t
  LOOP
    relation := format('%I.%I', made, 't' || wanted.no);
    EXECUTE format('CREATE TABLE %s (org_id text NOT NULL, row_no bigint NOT NULL, %s, '
                   'PRIMARY KEY (org_id, row_no))', relation, wanted.columns);
    PERFORM tp.protect(relation::regclass, '');
    PERFORM tp.allow_query(relation::regclass);
  END LOOP;
END
$$;

-- Adds rows to the table `table_no` (from 1) of a source: arrays of text or null, in the order of
-- the columns. Answers how many there are. The owner's.
CREATE FUNCTION dataplane.load_sql_source(of_org_id text, of_name text, table_no integer, rows jsonb)
  RETURNS bigint LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  source   dataplane.sql_source;
  relation text;
  columns  text;
  cells    text;
  before   bigint;
  added    bigint;
BEGIN
  SELECT * INTO STRICT source FROM dataplane.sql_source s
   WHERE s.org_id = of_org_id AND s.name = of_name FOR UPDATE;
  relation := format('%I.%I', source.schema_name, 't' || table_no);
  SELECT string_agg(format('%I', 'c' || c.ordinality), ', ' ORDER BY c.ordinality),
         string_agg(format('(r.value ->> %s)::%s', c.ordinality - 1,
                           dataplane.sql_source_type(c.value ->> 'type')), ', '
                    ORDER BY c.ordinality)
    INTO columns, cells
    FROM jsonb_array_elements(source.definition -> 'tables' -> (table_no - 1) -> 'columns')
         WITH ORDINALITY c;
  EXECUTE format('SELECT coalesce(max(row_no), 0) FROM %s WHERE org_id = $1', relation)
    INTO before USING of_org_id;
  EXECUTE format('INSERT INTO %s (org_id, row_no, %s) SELECT $1, $2 + r.ordinality, %s '
                 'FROM jsonb_array_elements($3) WITH ORDINALITY r', relation, columns, cells)
    USING of_org_id, before, rows;
  GET DIAGNOSTICS added = ROW_COUNT;
  IF added <> jsonb_array_length(rows) THEN
    RAISE 'row-level security hid % of the rows', jsonb_array_length(rows) - added;
  END IF;
  RETURN before + added;
END
$$;

-- Empties a table of a source before it is loaded anew. The owner's.
CREATE FUNCTION dataplane.empty_sql_source(of_org_id text, of_name text, table_no integer)
  RETURNS void LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  source dataplane.sql_source;
BEGIN
  SELECT * INTO STRICT source FROM dataplane.sql_source s
   WHERE s.org_id = of_org_id AND s.name = of_name FOR UPDATE;
  EXECUTE format('DELETE FROM %I.%I', source.schema_name, 't' || table_no);
END
$$;

-- The planner's statistics: without them the cost of a query is a guess. The owner's.
CREATE FUNCTION dataplane.analyze_sql_source(of_org_id text, of_name text, table_no integer)
  RETURNS void LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  source dataplane.sql_source;
BEGIN
  SELECT * INTO STRICT source FROM dataplane.sql_source s
   WHERE s.org_id = of_org_id AND s.name = of_name;
  EXECUTE format('ANALYZE %I.%I', source.schema_name, 't' || table_no);
END
$$;

-- Takes a source away, with all its rows; false where there is none. The owner's.
CREATE FUNCTION dataplane.drop_sql_source(of_org_id text, of_name text)
  RETURNS boolean LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  gone name;
BEGIN
  DELETE FROM dataplane.sql_source s WHERE s.org_id = of_org_id AND s.name = of_name
  RETURNING s.schema_name INTO gone;
  IF gone IS NULL THEN
    RETURN false;
  END IF;
  EXECUTE format('DROP SCHEMA %I CASCADE', gone);
  RETURN true;
END
$$;

REVOKE ALL ON FUNCTION dataplane.sql_source_type(text),
  dataplane.create_sql_source(text, text, jsonb),
  dataplane.load_sql_source(text, text, integer, jsonb),
  dataplane.empty_sql_source(text, text, integer),
  dataplane.analyze_sql_source(text, text, integer),
  dataplane.drop_sql_source(text, text) FROM PUBLIC;
