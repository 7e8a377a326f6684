SELECT d.document_id, d.name, d.media_type, d.size_bytes AS bytes, d.chunks, d.sha256,
       d.embedding_model, d.user_id, d.created_at, d.updated_at,
       CASE WHEN (d.embedding_model, d.dimensions) = (l.embedding_model, l.dimensions)
            THEN 'ready' ELSE 'stale' END AS status
  FROM dataplane.document d
  JOIN dataplane.library l ON l.org_id = %(org_id)s
 WHERE d.org_id = %(org_id)s
   AND (%(after)s::uuid IS NULL OR d.document_id > %(after)s::uuid)
 ORDER BY d.document_id
 LIMIT %(limit)s
