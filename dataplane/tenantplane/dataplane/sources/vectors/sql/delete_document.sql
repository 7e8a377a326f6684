DELETE FROM dataplane.document
 WHERE org_id = %(org_id)s AND document_id = %(document_id)s RETURNING chunks
