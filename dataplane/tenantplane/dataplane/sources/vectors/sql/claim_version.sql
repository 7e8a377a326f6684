UPDATE dataplane.document
   SET version = version + 1, embedding_model = %(model)s, dimensions = %(dimensions)s,
       updated_at = clock_timestamp()
 WHERE org_id = %(org_id)s AND document_id = %(document_id)s AND version = %(version)s
RETURNING chunks
