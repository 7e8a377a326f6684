SELECT d.document_id, d.name, d.media_type, d.size_bytes AS bytes, d.chunks, d.sha256,
       d.embedding_model, d.user_id, d.created_at, d.updated_at, 'stale' AS status, d.version
  FROM dataplane.document d
 WHERE d.org_id = %(org_id)s
   AND (d.embedding_model, d.dimensions) <> (%(model)s::text, %(dimensions)s::integer)
 ORDER BY d.document_id
 LIMIT %(limit)s
