-- Keys and indexes of tenant tables, with their first column (expressions have none), and the foreign
-- keys that end in a tenant table. A foreign key joins org_id with org_id, first of all, and with
-- nothing else: in any other place it would compare a tenant with what is none.
WITH tenant_table AS (
  SELECT a.attrelid AS oid
    FROM pg_attribute a
    JOIN pg_class c ON c.oid = a.attrelid
    JOIN pg_namespace n ON n.oid = c.relnamespace
   WHERE a.attname = 'org_id' AND NOT a.attisdropped AND c.relkind IN ('r', 'p', 'f')
     AND n.nspname !~ '^(pg_|information_schema$)'
)
SELECT format('%I.%I', n.nspname, c.relname) AS subject,
       format('%I', i.relname) AS name,
       x.indisprimary OR x.indisunique OR x.indisexclusion AS is_unique,
       am.amname IN ('hnsw', 'ivfflat') AS is_vector_index,
       coalesce(a.attname = 'org_id', false) AS begins_with_org,
       false AS is_foreign_key,
       true AS from_tenant_table,
       true AS is_validated
  FROM pg_index x
  JOIN tenant_table t ON t.oid = x.indrelid
  JOIN pg_class i ON i.oid = x.indexrelid
  JOIN pg_am am ON am.oid = i.relam
  JOIN pg_class c ON c.oid = x.indrelid
  JOIN pg_namespace n ON n.oid = c.relnamespace
  LEFT JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = x.indkey[0]
UNION ALL
SELECT format('%I.%I', n.nspname, c.relname), format('%I', k.conname), false, false,
       (SELECT bool_and((here.attname = 'org_id') = (there.attname = 'org_id')
                        AND (pair.place > 1 OR here.attname = 'org_id'))
          FROM unnest(k.conkey, k.confkey) WITH ORDINALITY AS pair (here, there, place)
          JOIN pg_attribute here ON here.attrelid = k.conrelid AND here.attnum = pair.here
          JOIN pg_attribute there ON there.attrelid = k.confrelid AND there.attnum = pair.there),
       true,
       EXISTS (SELECT FROM tenant_table f WHERE f.oid = k.conrelid),
       k.convalidated
  FROM pg_constraint k
  JOIN tenant_table t ON t.oid = k.confrelid
  JOIN pg_class c ON c.oid = k.conrelid
  JOIN pg_namespace n ON n.oid = c.relnamespace
 WHERE k.contype = 'f'
 ORDER BY 1, 2
