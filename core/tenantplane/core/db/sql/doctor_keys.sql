-- Keys and indexes of tenant tables, with their first column. (Expressions have none.)
SELECT format('%I.%I', n.nspname, c.relname) AS subject,
       format('%I', i.relname) AS name,
       x.indisprimary OR x.indisunique AS is_unique,
       am.amname IN ('hnsw', 'ivfflat') AS is_vector_index,
       coalesce(a.attname = 'org_id', false) AS begins_with_org,
       false AS is_foreign_key
  FROM pg_index x
  JOIN pg_class i ON i.oid = x.indexrelid
  JOIN pg_am am ON am.oid = i.relam
  JOIN pg_class c ON c.oid = x.indrelid
  JOIN pg_namespace n ON n.oid = c.relnamespace
  LEFT JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = x.indkey[0]
 WHERE n.nspname !~ '^(pg_|information_schema$)'
   AND EXISTS (SELECT FROM pg_attribute o WHERE o.attrelid = c.oid AND o.attname = 'org_id'
                  AND NOT o.attisdropped)
UNION ALL
SELECT format('%I.%I', n.nspname, c.relname), format('%I', k.conname), false, false,
       here.attname = 'org_id' AND there.attname = 'org_id', true
  FROM pg_constraint k
  JOIN pg_class c ON c.oid = k.conrelid
  JOIN pg_namespace n ON n.oid = c.relnamespace
  JOIN pg_attribute here ON here.attrelid = k.conrelid AND here.attnum = k.conkey[1]
  JOIN pg_attribute there ON there.attrelid = k.confrelid AND there.attnum = k.confkey[1]
 WHERE k.contype = 'f'
   AND EXISTS (SELECT FROM pg_attribute o WHERE o.attrelid = k.conrelid AND o.attname = 'org_id'
                  AND NOT o.attisdropped)
   AND EXISTS (SELECT FROM pg_attribute o WHERE o.attrelid = k.confrelid AND o.attname = 'org_id'
                  AND NOT o.attisdropped)
 ORDER BY 1, 2
