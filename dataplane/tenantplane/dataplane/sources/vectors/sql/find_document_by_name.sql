SELECT document_id, chunks FROM dataplane.document
 WHERE org_id = %(org_id)s AND name = %(name)s
